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
>>> length, exponent = graph.norms([x], [])[id(x)]
>>> length * 2.0 ** (exponent + 160)
1.0
"""

import contextlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import Node

from study.torch.norms import ZERO, Norm, log2_size, norm_of_sum, shifted

# A tensor of the forward pass: the node that made it, and which of its outputs it is.
Point = tuple[Node, int]
# From one shift to the next, by the narrowest format; 32 for float32 and bfloat16.
STEPS = {torch.float16: 4, torch.float64: 256}
RUNGS = 12  # at most so many steps up, and so many down


class Graph:
    """Autograd's graph behind a scalar, its nodes in the order of the backward pass.

    Leaves are known by id, as tensors compare entry by entry.
    """

    def __init__(self, root: Tensor):
        self.root = root
        self.nodes = sorted(_reachable(root), key=lambda node: node._sequence_nr(), reverse=True)
        self.leaves: dict[int, Tensor] = {}
        self.uses: Counter[int] = Counter()  # how many operations take a leaf
        # Of an operation, those inputs that are leaves: which input, and which leaf.
        self.inputs: defaultdict[Node, list[tuple[int, int]]] = defaultdict(list)
        self.consumers: defaultdict[Point, list[Node]] = defaultdict(list)  # what takes a tensor
        self.narrow: list[bool] = []  # whether all of the gradient passes through a node
        self.linear = True  # whether the backward pass was, in the gradient that comes in
        position = {node: i for i, node in enumerate(self.nodes)}
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
                    self.uses[id(leaf)] += 1
                    self.inputs[node].append((number, id(leaf)))
                else:
                    self.consumers[target, output].append(node)
                    farthest = max(farthest, position[target])
                    ordered &= position[target] > i
        if not ordered:  # built by several threads: only the loss itself is surely narrow
            self.narrow = [i == 0 for i in range(len(self.nodes))]

    def gradients(self) -> dict[int, Tensor | None]:
        """The plain gradients, by id of the leaf."""
        leaves = list(self.leaves.values())
        # Kept, as further passes go through the same graph.
        grads = torch.autograd.grad(self.root, leaves, retain_graph=True, allow_unused=True)
        return dict(zip(self.leaves, grads, strict=True))

    def norms(self, leaves: Iterable[Tensor], points: Iterable[Point]) -> dict[int | Point, Norm]:
        """Norms of the gradients of leaves (by id), and of those at points of the graph."""
        nodes = set(self.nodes)
        keys = [*map(id, leaves), *{point for point in points if point[0] in nodes}]
        met = {x.dtype for node in nodes for x in node._input_metadata}
        formats = [dtype for dtype in met if dtype.is_floating_point]
        step = STEPS.get(min(formats, key=lambda dtype: torch.finfo(dtype).max), 32)
        best = _Pass(self, keys, 0).run()
        for shift in range(step, (RUNGS + 1) * step, step):  # what underflowed comes back
            again = _Pass(self, keys, shift).run()
            finite = {key: norm for key, norm in again.items() if math.isfinite(norm[0])}
            better = {key: norm for key, norm in finite.items() if norm != best[key]}
            # What comes in larger comes out larger, unless a hook on the way holds it back.
            if any(_fell(best[key], norm, step) for key, norm in better.items()):
                self.linear = False
                return _Pass(self, keys, None).run()
            best |= better
            # Everything has overflowed, or nothing is left that could come back.
            alive = any(length for length, _ in finite.values())
            if not alive or not (better or ZERO in best.values()):
                break
        for shift in range(-step, -(RUNGS + 1) * step, -step):  # what overflowed comes back
            lost = [key for key, norm in best.items() if not math.isfinite(norm[0])]
            if not lost:
                break
            again = _Pass(self, keys, shift).run()
            best |= {key: again[key] for key in lost}
        return best


class _Pass:
    """One backward pass that sets the gradient to size 2^shift at every narrow place, if given."""

    def __init__(self, graph: Graph, keys: Collection[int | Point], shift: int | None):
        self.graph = graph
        self.shift = shift
        self.norms: dict[int | Point, Norm] = dict.fromkeys(keys, ZERO)
        # The gradient of a leaf from each of its uses, with the exponent.
        self.parts: defaultdict[int, list[tuple[Tensor, int]]] = defaultdict(list)
        self.outputs: defaultdict[Node, list[int]] = defaultdict(list)
        for key in keys:
            if isinstance(key, tuple):
                self.outputs[key[0]].append(key[1])
        # What has been taken out above each stretch between two narrow places: by stretch and not
        # as one running number, because devices go through their nodes side by side.
        self.exponents = [0] * (sum(graph.narrow) + 1)

    def run(self) -> dict[int | Point, Norm]:
        stretch = 0
        with contextlib.ExitStack() as hooks:
            for node, narrow in zip(self.graph.nodes, self.graph.narrow, strict=True):
                if narrow or node in self.outputs:
                    before = partial(self._before, node, stretch, narrow)
                    hooks.enter_context(node.register_prehook(before))
                stretch += narrow
                if inputs := self.graph.inputs.get(node):
                    after = partial(self._after, inputs, stretch)
                    hooks.enter_context(node.register_hook(after))
            self.graph.gradients()
        sums = {leaf: norm_of_sum(self.parts[leaf]) for leaf in self.parts if leaf in self.norms}
        return self.norms | sums

    def _before(self, node: Node, stretch: int, narrow: bool, grads: tuple) -> tuple | None:
        for output in self.outputs.get(node, ()):
            if grads[output] is not None:
                part = (grads[output], self.exponents[stretch])
                self.norms[node, output] = norm_of_sum([part])
        if not narrow or self.shift is None:
            return None
        sizes = [log2_size(g) for g in grads if g is not None]
        top = max((size for size in sizes if size is not None), default=self.shift + 1)
        exponent = top - 1 - self.shift
        self.exponents[stretch + 1] = self.exponents[stretch] + exponent
        return tuple(None if g is None else shifted(g, -exponent) for g in grads)

    def _after(self, inputs: list[tuple[int, int]], stretch: int, grads: tuple, _: tuple) -> None:
        for number, leaf in inputs:
            if grads[number] is not None:
                self.parts[leaf].append((grads[number], self.exponents[stretch]))


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


def _fell(before: Norm, after: Norm, step: int) -> bool:
    """Whether a norm fell about as the gradient that came in rose, by 2^step: it was held back."""
    if not before[0] or not math.isfinite(before[0]):
        return False
    if not after[0]:
        return True
    return math.log2(after[0] / before[0]) + after[1] - before[1] <= 1 - step


def _is_leaf(node: Node) -> bool:
    return type(node).__name__ == "AccumulateGrad"
