"""Unit-variance weights, drawn on demand a few layers ahead, by and for several threads."""

from __future__ import annotations

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

from study import gaussian
from study.network import Network
from study.scaled import Array, sum_of_squares

UNIT_BYTES = 2**28
"""Orthogonal matrices kept for the way back take at most this."""

CORES = os.cpu_count() or 1

GROUP_ENTRIES = 2**19
"""About so many entries are drawn at a time."""


class Unit:
    """Unit-variance weights of each layer, drawn on demand; the latest few are kept.

    Several threads may walk the layers. Whoever comes to a group of layers first draws it; who
    finds it being drawn draws the following one meanwhile. A single walker has a helper that keeps
    one group ahead.
    """

    def __init__(self, seed: int, net: Network, n_in: int, depth: int, walkers: int = 1):
        self.key, self.law = gaussian.key(seed, "weights"), net.weights
        self.n_in, self.width, self.depth = n_in, net.width, depth
        self.dtype = np.dtype(net.dtype)
        entries = max(n_in, self.width) * self.width
        self.group = max(1, GROUP_ENTRIES // entries)
        # A factorisation costs more than the memory that saves the second.
        memory = UNIT_BYTES if self.law == "orthogonal" else 0
        self.keep = max(4, memory // (entries * self.dtype.itemsize * self.group))
        self.drawn: OrderedDict[int, Future] = OrderedDict()
        self.lock = threading.Lock()
        self.helper = ThreadPoolExecutor(1) if walkers == 1 and CORES > 1 else None
        self.squares = np.full(depth, np.nan)
        """Sum of squares of G^(k), once it has been drawn."""

    def __call__(self, k: int, step: int) -> Array:
        """G^(k), shape (fan_in, width), on a walk up (step 1) or down (-1)."""
        at, place = divmod(k, self.group)
        known = self.drawn.get(at)
        if known and known.done() and place != (0 if step > 0 else self.group - 1):
            return known.result()[place]  # the usual case, for which no lock is needed
        group, mine = self._claim(at)
        if mine:
            self._draw(at, group)
        if self.helper or not group.done():
            following, mine = self._claim(at + step)
            if mine and self.helper and group.done():
                self.helper.submit(self._draw, at + step, following)
            elif mine:
                self._draw(at + step, following)
        return group.result()[place]

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
