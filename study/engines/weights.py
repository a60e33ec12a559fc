"""Unit-variance weights, drawn on demand a few layers ahead, by and for several threads."""

import contextlib
import functools
import itertools
import math
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from study.arithmetic.kernels import square
from study.core.network import Network
from study.sampling import gaussian
from study.tools import Array

UNIT_BYTES = 2**28  # orthogonal matrices kept for the way back take at most this

CORES = os.cpu_count() or 1

GROUP_ENTRIES = 2**19  # about so many entries are drawn at a time

AHEAD = 3  # groups that are drawn ahead of the walk: with fewer, it waits for those who draw

# Groups that are kept: those ahead, the one in use, and two behind, for when the walk turns.
KEPT = AHEAD + 3


class Unit:
    """Unit-variance weights of each layer, drawn by threads of its own ahead of those who walk.

    As many threads as there are ``walkers`` walk, side by side, and each says when it leaves.
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
        self.dropped: list[Array] = []  # to draw into: new memory costs a fifth of a draw
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor(CORES)
        self.latest: dict[int, tuple[int, Sequence[Array]]] = {}  # of each thread, its last group
        self.walkers = walkers
        self.steps: Counter[int] = Counter()  # groups that each thread has asked for
        self.moved = threading.Condition()
        self.squares = np.full(depth, np.nan)  # sum of squares of G^(k), once it has been drawn

    def __call__(self, k: int, step: int) -> Array:
        """G^(k), shape (fan_in, width), on a walk up (step 1) or down (-1)."""
        at, place = divmod(k, self.group)
        thread = threading.get_ident()
        here, matrices = self.latest.get(thread, (-1, ()))
        if here != at:
            self._keep_pace(thread)
            with self.lock:
                self.latest[thread] = at, ()
            groups = [self._group(at + i * step) for i in range(AHEAD + 1)]
            matrices = groups[0].result()
            self.latest[thread] = at, matrices
        return matrices[place]

    def _keep_pace(self, thread: int) -> None:
        """Hold who is ahead of another: groups that have been dropped are drawn again."""
        with self.moved:
            self.steps[thread] += 1
            self.moved.notify_all()
            self.moved.wait_for(lambda: self.steps[thread] <= 1 + self._behind())

    def _behind(self) -> float:
        return min(self.steps.values()) if len(self.steps) >= self.walkers else 0

    def leave(self) -> None:
        """Nobody waits any more for who walks on this thread."""
        with self.moved:
            self.steps[threading.get_ident()] = math.inf
            self.moved.notify_all()

    def _group(self, at: int) -> Future | None:
        """A group of layers, drawn once somebody has asked for it; none beyond the ends."""
        if not 0 <= at * self.group < self.depth:
            return None
        with self.lock:
            if at not in self.drawn:
                self.drawn[at] = self.pool.submit(self._draw, at)
            self.drawn.move_to_end(at)
            while len(self.drawn) > self.keep:
                self._drop(*self.drawn.popitem(last=False))
            return self.drawn[at]

    def _drop(self, at: int, group: Future) -> None:
        """Its memory is drawn into again, unless somebody is still walking through it."""
        in_use = [here for here, _ in self.latest.values()]
        if at in in_use or not group.done() or group.exception():
            return
        if isinstance(group.result(), np.ndarray):
            self.dropped.append(group.result())

    def _draw(self, at: int) -> Sequence[Array]:
        layers = range(at * self.group, min((at + 1) * self.group, self.depth))
        matrices = self._matrices(layers)
        if np.isnan(self.squares[layers.start]):
            self.squares[layers] = [square(G) for G in matrices]
        return matrices

    def _matrices(self, layers: range) -> Sequence[Array]:
        if self.law == "gaussian" and (layers.start or self.n_in == self.width):
            # In one call, which leaves Python to the other threads.
            keys = np.tile(self.key, (len(layers), 1))
            shape = (len(layers), self.width, self.width)
            return gaussian.fill_normals(keys, layers, self._room(shape))
        return [self._matrix(k) for k in layers]

    def _room(self, shape: tuple[int, ...]) -> Array:
        with self.lock:
            room = self.dropped.pop() if self.dropped else None
        same = room is not None and room.shape == shape
        return room if same else np.empty(shape, self.dtype)

    def _matrix(self, k: int) -> Array:
        fan_in = self.n_in if k == 0 else self.width
        if self.law == "orthogonal":
            Q = gaussian.haar(self.key, k, fan_in, self.width, self.dtype)
            Q *= self.dtype.type(math.sqrt(max(fan_in, self.width)))  # unit variance
            return Q
        draw = gaussian.fill_normal if self.law == "gaussian" else gaussian.fill_uniform
        return draw(self.key, k, np.empty((fan_in, self.width), self.dtype))


def one_blas_thread() -> contextlib.AbstractContextManager:
    """BLAS's own threads would fight with ours."""
    return _libraries().limit(limits=1, user_api="blas")


def side_by_side(walk: Callable[[Any], list], parts: Sequence, threads: int = 2) -> list:
    """What a walk gives of all parts, several at a time on threads of their own."""
    with one_blas_thread():
        if len(parts) == 1:
            return walk(parts[0])
        with ThreadPoolExecutor(threads) as pool:
            return list(itertools.chain.from_iterable(pool.map(walk, parts)))


@functools.cache
def _libraries() -> ThreadpoolController:
    """Found once, as that takes milliseconds."""
    return ThreadpoolController()
