"""Unit-variance weights, drawn on demand a few layers ahead, by and for several threads."""

import contextlib
import functools
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from threadpoolctl import ThreadpoolController

from study.arithmetic.scaled import sum_of_squares
from study.core.network import Network
from study.sampling import gaussian
from study.tools import Array

UNIT_BYTES = 2**28
"""Orthogonal matrices kept for the way back take at most this."""

CORES = os.cpu_count() or 1

GROUP_ENTRIES = 2**19
"""About so many entries are drawn at a time."""

AHEAD = 3
"""Groups that are drawn ahead of the walk: with fewer, whoever is early waits for the other."""

KEPT = AHEAD + 3
"""Groups that are kept: those ahead, the one in use, and two behind, for when the walk turns."""


class Unit:
    """Unit-variance weights of each layer, drawn on demand; the latest few are kept.

    Several threads may walk the layers. Whoever comes to a group of layers first draws it; who
    finds it being drawn draws the next that nobody has begun. A single walker has a helper that
    draws ahead of it.
    """

    def __init__(self, seed: int, net: Network, n_in: int, depth: int, walkers: int = 1):
        self.key, self.law = gaussian.key(seed, "weights"), net.weights
        self.n_in, self.width, self.depth = n_in, net.width, depth
        self.dtype = np.dtype(net.dtype)
        entries = max(n_in, self.width) * self.width
        self.group = max(1, GROUP_ENTRIES // entries)
        # A factorisation costs more than the memory that saves the second.
        memory = UNIT_BYTES if self.law == "orthogonal" else 0
        self.keep = max(KEPT, memory // (entries * self.dtype.itemsize * self.group))
        self.drawn: OrderedDict[int, Future] = OrderedDict()
        self.lock = threading.Lock()
        self.helper = ThreadPoolExecutor(1) if walkers == 1 and CORES > 1 else None
        self.helping: Future | None = None
        self.ahead = range(0)
        """The groups that the helper is to draw."""
        self.latest: tuple[int, Sequence[Array]] = -1, ()
        """The group that was asked for last."""
        self.squares = np.full(depth, np.nan)
        """Sum of squares of G^(k), once it has been drawn."""

    def __call__(self, k: int, step: int) -> Array:
        """G^(k), shape (fan_in, width), on a walk up (step 1) or down (-1)."""
        at, place = divmod(k, self.group)
        here, matrices = self.latest
        if here == at:
            return matrices[place]
        group, mine = self._claim(at)
        if mine:
            self._draw(at, group)
        ahead = range(at + step, at + (AHEAD + 1) * step, step)
        if self.helper:
            self.ahead = ahead
            if self.helping is None or self.helping.done():
                self.helping = self.helper.submit(self._help)
        if not group.done():
            self._draw_next(ahead)
        matrices = group.result()
        self.latest = at, matrices
        return matrices[place]

    def _help(self) -> None:
        while self._draw_next(self.ahead):
            pass

    def _draw_next(self, groups: range) -> bool:
        """Draw the first of these that nobody has begun; false if there is none."""
        for at in groups:
            group, mine = self._claim(at)
            if mine:
                self._draw(at, group)
                return True
        return False

    def _claim(self, at: int) -> tuple[Future | None, bool]:
        """A group of layers, and whether it is the caller's to draw; none beyond the ends."""
        if not 0 <= at * self.group < self.depth:
            return None, False
        with self.lock:
            known = at in self.drawn
            group = self.drawn.setdefault(at, Future())
            self.drawn.move_to_end(at)
            while len(self.drawn) > self.keep:
                self.drawn.popitem(last=False)
        return group, not known

    def _draw(self, at: int, group: Future) -> None:
        try:
            layers = range(at * self.group, min((at + 1) * self.group, self.depth))
            matrices = self._matrices(layers)
            if np.isnan(self.squares[layers.start]):
                self.squares[layers] = [sum_of_squares(G).sum() for G in matrices]
            group.set_result(matrices)
        except BaseException as error:
            group.set_exception(error)

    def _matrices(self, layers: range) -> Sequence[Array]:
        if self.law == "gaussian" and (layers.start or self.n_in == self.width):
            # In one call, which leaves Python to the other threads.
            keys = np.tile(self.key, (len(layers), 1))
            shape = (len(layers), self.width, self.width)
            return gaussian.fill_normals(keys, layers, np.empty(shape, self.dtype))
        return [self._matrix(k) for k in layers]

    def _matrix(self, k: int) -> Array:
        fan_in = self.n_in if k == 0 else self.width
        if self.law == "orthogonal":
            Q = gaussian.haar(self.key, k, fan_in, self.width, self.dtype)
            Q *= self.dtype.type(math.sqrt(max(fan_in, self.width)))
            return Q
        draw = gaussian.fill_normal if self.law == "gaussian" else gaussian.fill_uniform
        return draw(self.key, k, np.empty((fan_in, self.width), self.dtype))


def one_blas_thread() -> contextlib.AbstractContextManager:
    """BLAS's own threads would fight with ours."""
    return _libraries().limit(limits=1, user_api="blas")


@functools.cache
def _libraries() -> ThreadpoolController:
    """Found once, as that takes milliseconds."""
    return ThreadpoolController()
