"""Torch's backward pass with nothing lost: rescaled by powers of two on its way down.

Wherever the whole backward pass goes through one node of autograd's graph (between two layers of a
chain, between two blocks of a residual network) the gradient there is brought to size 2^shift by a
power of two, and the exponent is kept. A backward pass is linear in the gradient that comes in, so
whatever is measured further down is exact with that exponent: as long as a plain backward pass
stays in the range of its formats the numbers are its numbers bit for bit, and below it goes on.

Where the graph never narrows to one node only the loss is scaled. Each norm is therefore read at
several shifts, and kept from the largest one at which it is finite: there least has underflowed.

>>> x = torch.full((1,), 2.0**-80, requires_grad=True)
>>> graph = Graph((x * 2.0**-80) * 2.0**-80)        # x.grad would be 2^-160: 0 in float32
>>> s, exponent = graph.squares([x], [])[0][0]
>>> s * 4.0 ** (exponent + 160)
1.0
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import Node

from study.torch.norms import Square, entries, largest, shifted, square_of_sum

Point = tuple[Node, int]
"""A tensor of the forward pass: the node that made it, and which of its outputs it is."""

STEPS = {torch.float16: 4, torch.float64: 256}
"""From one shift to the next; 32 where float32 or bfloat16 is the narrowest format."""
RUNGS = 12
"""At most so many steps up, and so many down."""


class Graph:
    """Autograd's graph behind a scalar, in the order in which the backward pass goes through it."""

    def __init__(self, root: Tensor):
        self.root = root
        self.nodes = sorted(_reachable(root), key=lambda node: node._sequence_nr(), reverse=True)
        self.position = {node: i for i, node in enumerate(self.nodes)}
        self.leaves: dict[int, Tensor] = {}
        """By id, as tensors compare entry by entry."""
        self.uses: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        """id of a leaf -> (position, number of the input) of every operation that takes it."""
        self.consumers: defaultdict[Point, list[Node]] = defaultdict(list)
        """The nodes of every operation that takes a tensor."""
        self.narrow: list[bool] = []
        """Whether all of the gradient passes through the node of that position."""
        farthest = 0
        ordered = True
        for i, node in enumerate(self.nodes):
            self.narrow.append(farthest == i)  # all that is under way arrives here
            for number, (target, output) in enumerate(node.next_functions):
                if target is None:
                    continue
                if _is_leaf(target):
                    leaf = target.variable
                    self.leaves[id(leaf)] = leaf
                    self.uses[id(leaf)].append((i, number))
                else:
                    self.consumers[target, output].append(node)
                    farthest = max(farthest, self.position[target])
                    ordered &= self.position[target] > i
        if not ordered:  # built by several threads: only the loss itself is surely narrow
            self.narrow = [i == 0 for i in range(len(self.nodes))]

    def gradients(self) -> dict[int, Tensor]:
        """The plain gradients, by id of the leaf."""
        leaves = list(self.leaves.values())
        grads = torch.autograd.grad(self.root, leaves, retain_graph=True, allow_unused=True)
        return dict(zip(self.leaves, grads, strict=True))

    def squares(
        self,
        leaves: Sequence[Tensor],
        points: Iterable[Point],
        narrowest: torch.dtype | None = None,
    ) -> tuple[list[Square], dict[Point, Square]]:
        """Squares of the gradients of leaves, and of the gradients at points of the graph.

        narrowest : the format on the way that leaves its range first
        """
        keys = [id(leaf) for leaf in leaves]
        points = {point for point in points if point[0] in self.position}
        step = STEPS.get(narrowest, 32)
        best = _Pass(self, keys, points, 0).run()
        for shift in range(step, (RUNGS + 1) * step, step):  # what underflowed comes back
            again = _Pass(self, keys, points, shift).run()
            finite = {key: s for key, s in again.items() if math.isfinite(s[0])}
            better = {key: s for key, s in finite.items() if s != best[key]}
            best |= better
            zeros = any(s == 0 for s, _ in best.values())
            alive = any(s for s, _ in finite.values())
            if not alive or not (better or zeros):
                break
        for shift in range(-step, -(RUNGS + 1) * step, -step):  # what overflowed comes back
            lost = [key for key, (s, _) in best.items() if not math.isfinite(s)]
            if not lost:
                break
            again = _Pass(self, keys, points, shift).run()
            best |= {key: again[key] for key in lost}
        return [best[key] for key in keys], {point: best[point] for point in points}


class _Pass:
    """One backward pass that sets the gradient to size 2^shift at every narrow place."""

    def __init__(self, graph: Graph, leaves: Sequence[int], points: Collection[Point], shift: int):
        self.graph = graph
        self.shift = shift
        self.squares: dict = dict.fromkeys([*points, *leaves], (0.0, 0))
        self.parts: defaultdict[int, list[tuple[Tensor, int]]] = defaultdict(list)
        """The gradient of a leaf from each of its uses, with the exponent."""
        self.outputs: defaultdict[Node, list[int]] = defaultdict(list)
        for node, output in points:
            self.outputs[node].append(output)
        self.inputs: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for leaf in leaves:
            for i, number in graph.uses[leaf]:
                self.inputs[i].append((number, leaf))
        # What has been taken out above each stretch between two narrow places: by stretch and not
        # as one running number, because devices go through their nodes side by side.
        self.exponents = [0] * (sum(graph.narrow) + 1)

    def run(self) -> dict:
        handles = []
        stretch = 0
        try:
            for i, node in enumerate(self.graph.nodes):
                narrow = self.graph.narrow[i]
                if narrow or node in self.outputs:
                    before = partial(self._before, node, stretch, narrow)
                    handles.append(node.register_prehook(before))
                stretch += narrow
                if i in self.inputs:
                    handles.append(node.register_hook(partial(self._after, i, stretch)))
            self.graph.gradients()
        finally:
            for handle in handles:
                handle.remove()
        return self.squares | {leaf: square_of_sum(parts) for leaf, parts in self.parts.items()}

    def _before(self, node: Node, stretch: int, narrow: bool, grads: tuple) -> tuple | None:
        for output in self.outputs.get(node, ()):
            if grads[output] is not None:
                part = (grads[output], self.exponents[stretch])
                self.squares[node, output] = square_of_sum([part])
        if not narrow:
            return None
        size = max((largest(entries(g)) for g in grads if g is not None), default=0.0)
        exponent = 0
        if size and math.isfinite(size):
            exponent = math.frexp(size)[1] - 1 - self.shift
        self.exponents[stretch + 1] = self.exponents[stretch] + exponent
        return tuple(None if g is None else shifted(g, -exponent) for g in grads)

    def _after(self, i: int, stretch: int, grads: tuple, _: tuple) -> None:
        for number, leaf in self.inputs[i]:
            if grads[number] is None:
                continue
            part = (grads[number], self.exponents[stretch])
            if len(self.graph.uses[leaf]) == 1:  # measured at once, to hold no copy
                self.squares[leaf] = square_of_sum([part])
            else:
                self.parts[leaf].append(part)


def _reachable(root: Tensor) -> set[Node]:
    """All nodes behind a tensor, without the leaves'."""
    seen = set()
    stack = [root.grad_fn]
    while stack:
        node = stack.pop()
        if node not in seen and not _is_leaf(node):
            seen.add(node)
            stack += [target for target, _ in node.next_functions if target is not None]
    return seen


def _is_leaf(node: Node) -> bool:
    return type(node).__name__ == "AccumulateGrad"
