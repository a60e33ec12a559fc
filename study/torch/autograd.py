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
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

Square = tuple[float, int]
"""(s, exponent): a sum of squares s 4^exponent; s is infinite or NaN where an entry is."""
Point = tuple[torch.autograd.graph.Node, int]
"""A tensor of the forward pass: the node that made it, and which of its outputs it is."""

CHUNK = 2**22
"""So many entries at a time are taken to float64."""
STEPS = {torch.float16: 4, torch.float64: 256}
"""From one shift to the next; 32 where float32 or bfloat16 is the narrowest format."""
RUNGS = 12
"""At most so many steps up, and so many down."""


def square(x: Tensor) -> Square:
    """The sum of squares of a tensor's entries, in float64, whatever their size."""
    x = entries(x)
    top = largest(x)
    if top == 0 or not math.isfinite(top):
        return top, 0
    e = math.frexp(top)[1]
    parts = (shifted(part.double(), -e) for part in x.split(CHUNK))
    return math.fsum(float((part * part).sum()) for part in parts), e


def entries(x: Tensor) -> Tensor:
    """The real entries that a tensor stores, in a row."""
    x = x.detach()
    x = x.coalesce().values() if x.is_sparse else x
    return (torch.view_as_real(x) if x.is_complex() else x).reshape(-1)


def largest(x: Tensor) -> float:
    """The largest magnitude among the entries; NaN if one is."""
    return float(torch.linalg.vector_norm(x, math.inf)) if x.numel() else 0.0


def shifted(x: Tensor, exponent: int) -> Tensor:
    """x * 2^exponent."""
    if abs(exponent) < 100:
        return x * 2.0**exponent
    half = max(-1000, min(exponent // 2, 1000))  # 2^exponent itself may be outside the format
    return x * 2.0**half * 2.0 ** max(-1000, min(exponent - half, 1000))


def total(parts: list[tuple[Tensor, int]]) -> Square:
    """The square of a sum of tensors x 2^exponent, added in float64."""
    if len(parts) == 1:
        s, p = square(parts[0][0])
        return s, p + parts[0][1] if s else 0
    tops = [(largest(entries(x)), e) for x, e in parts]
    if not all(math.isfinite(top) for top, _ in tops):
        return math.nan, 0
    top = max((math.frexp(size)[1] + e for size, e in tops if size), default=0)
    dense = [(x.to_dense() if x.is_sparse else x, e) for x, e in parts]
    wide = torch.complex128 if dense and dense[0][0].is_complex() else torch.float64
    s, p = square(sum((shifted(x.to(wide), e - top) for x, e in dense), torch.zeros(())))
    return s, p + top if s else 0


class Graph:
    """Autograd's graph behind a scalar, in the order in which the backward pass goes through it."""

    def __init__(self, root: Tensor):
        self.root = root
        seen, stack = set(), [root.grad_fn]
        while stack:
            node = stack.pop()
            if node not in seen and not _is_leaf(node):
                seen.add(node)
                stack += [target for target, _ in node.next_functions if target is not None]
        self.nodes = sorted(seen, key=lambda node: node._sequence_nr(), reverse=True)
        self.place = {node: i for i, node in enumerate(self.nodes)}
        self.leaves: dict[int, Tensor] = {}
        self.uses: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        """id of a leaf -> the (place, number of the input) of every operation that takes it."""
        self.consumers: defaultdict[Point, list] = defaultdict(list)
        """Point -> the nodes of every operation that takes it."""
        self.passed: list[tuple[int, int]] = []
        """A node -> the number of narrow places above it, without and with itself."""
        far, narrow, ordered = 0, 0, True
        for i, node in enumerate(self.nodes):
            here = far == i  # all that is under way arrives here
            self.passed.append((narrow, narrow + here))
            narrow += here
            for number, (target, output) in enumerate(node.next_functions):
                if target is None:
                    continue
                if _is_leaf(target):
                    self.leaves[id(target.variable)] = target.variable
                    self.uses[id(target.variable)].append((i, number))
                else:
                    self.consumers[target, output].append(node)
                    far = max(far, self.place[target])
                    ordered &= self.place[target] > i
        if not ordered:  # built by several threads: only the loss itself is surely narrow
            self.passed = [(0, 1)] + [(1, 1)] * (len(self.nodes) - 1)

    def gradients(self) -> dict[int, Tensor]:
        """The plain gradients, by id of the leaf."""
        leaves = list(self.leaves.values())
        found = torch.autograd.grad(self.root, leaves, retain_graph=True, allow_unused=True)
        return dict(zip(map(id, leaves), found, strict=True))

    def squares(
        self, leaves: list[Tensor], points: Iterable[Point], narrowest: torch.dtype = torch.float32
    ) -> tuple[list[Square], dict[Point, Square]]:
        """Squares of the gradients of leaves, and of the gradients at points of the graph.

        narrowest : the format on the way that leaves its range first
        """
        points = {point for point in points if point[0] in self.place}
        found = self._measured(leaves, points, 0)
        step = STEPS.get(narrowest, 32)
        for shift in range(step, (RUNGS + 1) * step, step):
            again = self._measured(leaves, points, shift)
            better = {k: v for k, v in again.items() if math.isfinite(v[0]) and v != found[k]}
            found |= better
            if not (better or any(s == 0 for s, _ in found.values())):
                break
            if not any(math.isfinite(s) and s for s, _ in again.values()):
                break
        for shift in range(-step, -(RUNGS + 1) * step, -step):
            lost = [k for k, (s, _) in found.items() if not math.isfinite(s)]
            if not lost:
                break
            again = self._measured(leaves, points, shift)
            found |= {k: again[k] for k in lost}
        return [found[id(leaf)] for leaf in leaves], {point: found[point] for point in points}

    def _measured(self, leaves: list[Tensor], points: set[Point], shift: int) -> dict:
        """One backward pass that sets the gradient to size 2^shift at every narrow place."""
        exponents = [0] * (self.passed[-1][1] + 1)
        found: dict = dict.fromkeys(points, (0.0, 0))
        parts: defaultdict[int, list] = defaultdict(list)

        def before(node, i, outputs, grads):
            above, below = self.passed[i]
            for k in outputs:
                if grads[k] is not None:
                    found[node, k] = total([(grads[k], exponents[above])])
            if above == below:
                return None
            size = max((largest(entries(g)) for g in grads if g is not None), default=0.0)
            e = math.frexp(size)[1] - 1 - shift if size and math.isfinite(size) else 0
            exponents[below] = exponents[above] + e
            return tuple(None if g is None else shifted(g, -e) for g in grads)

        def after(i, inputs, grads, _):
            for number, leaf in inputs:
                if grads[number] is not None:
                    parts[leaf].append((grads[number], exponents[self.passed[i][1]]))
                    if len(self.uses[leaf]) == 1:  # measured at once, to hold no copy
                        found[leaf] = total(parts.pop(leaf))

        watched, taken, handles = defaultdict(list), defaultdict(list), []
        for node, k in points:
            watched[node].append(k)
        for leaf in map(id, leaves):
            found[leaf] = (0.0, 0)
            for i, number in self.uses[leaf]:
                taken[i].append((number, leaf))
        try:
            for i, node in enumerate(self.nodes):
                if node in watched or self.passed[i][0] < self.passed[i][1]:
                    handles.append(node.register_prehook(partial(before, node, i, watched[node])))
                if i in taken:
                    handles.append(node.register_hook(partial(after, i, taken[i])))
            self.gradients()
        finally:
            for handle in handles:
                handle.remove()
        return found | {leaf: total(held) for leaf, held in parts.items()}


def _is_leaf(node) -> bool:
    return type(node).__name__ == "AccumulateGrad"
