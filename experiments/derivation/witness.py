"""Witnesses: the gradient entry by entry, by ways that share no derivative with the core.

- Complex steps, dC/dW = Im C(W + ih) / h + O(h^2): nothing cancels, so h may be 2^-100 and the
  result is right to rounding (Squire & Trapp 1998).
- Central differences, (C(W + h) - C(W - h)) / 2h: truncation of order h^2 and rounding of order
  u / h, u the unit roundoff, so that u^(2/3) is what they can reach, at h = u^(1/3).

Both know phi alone, by its textbook formula. Each entry costs a forward pass: keep networks narrow.
C is the batch mean of 1/2 |r - y|^2, weights are (n_in, n_out), examples are rows.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from study.core.activations import Activation, Array, activation

UNIT_ROUNDOFF = 2.0**-53
COMPLEX_STEP = 2.0**-100
CENTRAL_STEP = UNIT_ROUNDOFF ** (1 / 3)


@np.errstate(under="ignore")  # step^2 vanishes beside 1, as it should
def complex_step(
    weights: Sequence[Array], x: Array, y: Array, name: str, step: float = COMPLEX_STEP
) -> list[Array]:
    """dC/dW^(k) for every k by complex steps; on a kink, the slope to its right.

    >>> complex_step([np.array([[2.0]])], np.array([[3.0]]), np.array([[1.0]]), "relu")
    [array([[15.]])]
    """
    phi = activation(name)
    moved = _moved(weights, x, phi, [1j * step])  # a step that nothing real can cancel
    # Squire & Trapp's (1998) formula.
    return [_costs(above, z, y, phi)[0][0].imag / step for above, z in moved]


@np.errstate(under="ignore")
def central_difference(
    weights: Sequence[Array], x: Array, y: Array, name: str, step: float = CENTRAL_STEP
) -> list[Array]:
    """dC/dW^(k) for every k by central differences; NaN where the step takes a z across a kink.

    >>> W, x, y = np.array([[2.0]]), np.array([[3.0]]), np.array([[1.0]])
    >>> central_difference([W], x, y, "relu", step=2.0**-10)
    [array([[15.]])]
    """
    phi = activation(name)
    gradients = []
    for above, z in _moved(weights, x, phi, [step, -step]):
        (forwards, backwards), sides = _costs(above, z, y, phi)
        crossed = (sides[0] != sides[1]).any(axis=-1)  # there the difference is of two branches
        gradients.append(np.where(crossed, np.nan, (forwards - backwards) / (2 * step)))
    return gradients


def relative_error(found: Sequence[Array], true: Sequence[Array]) -> float:
    """Frobenius norm of ``found - true`` beside that of ``true``, NaN entries of found left out.

    0 where they are equal, infinite where only ``true`` is 0; NaN if no entry of found is known.

    >>> relative_error([np.array([3.0, np.nan])], [np.array([4.0, 7.0])])
    0.25
    """
    found = np.concatenate([np.ravel(part) for part in found])
    true = np.concatenate([np.ravel(part) for part in true])
    known = ~np.isnan(found)
    if not known.any():
        return math.nan
    off = float(np.linalg.norm(found[known] - true[known]))
    size = float(np.linalg.norm(true[known]))
    if off == 0:
        return 0.0
    return off / size if size > 0 else math.inf


def _moved(
    weights: Sequence[Array], x: Array, phi: Activation, steps: Sequence[complex]
) -> Iterator[tuple[Sequence[Array], Array]]:
    """For each layer the weights above it, and its z with each of its weights moved alone.

    z has shape (steps, n_in, n_out, batch, n_out).
    """
    steps = np.array(steps)[:, None, None, None, None]
    r = x
    for k, W in enumerate(weights):
        z = r @ W
        by = r.T[:, None, :, None] * np.eye(W.shape[1])[:, None, :]  # W_ij moves z_j alone, by r_i
        yield weights[k + 1 :], z + steps * by
        r = phi.textbook(z)


def _costs(above: Sequence[Array], z: Array, y: Array, phi: Activation) -> tuple[Array, Array]:
    """The cost, given a layer's z; and on which sides of the kinks all later z are (last axis)."""
    # ELU's second derivative jumps at 0
    bends = np.array((0.0,) if phi.name == "elu" else phi.kinks)
    sides = [_sides(z, bends)]
    for W in above:
        rows = phi.textbook(z).reshape(-1, len(W))  # in one product, not one each moved weight
        z = (rows @ W).reshape(*z.shape[:-1], -1)
        sides.append(_sides(z, bends))
    costs = 0.5 * ((phi.textbook(z) - y) ** 2).sum(axis=(-1, -2)) / len(y)
    return costs, np.concatenate(sides, axis=-1)


def _sides(z: Array, bends: Array) -> Array:
    sides = z.real[..., None] >= bends
    return sides.reshape(*z.shape[:3], z[0, 0, 0].size * len(bends))
