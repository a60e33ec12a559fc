"""Singular values of the input-output Jacobian, all of them, at any depth.

J = dr^(d)/dr^(0) = W^(0) diag(phi') W^(1) diag(phi') ... multiplied out over thousands of layers
keeps the largest singular value only; the rest is rounding error. So the product is kept as

    J' = U diag(e^l) T        U orthonormal columns, T rows of norm 1 and well-conditioned,

where no sizes mix (Loh et al. 1989, in quantum Monte Carlo; U and l alone are Benettin's method of
1980 for Lyapunov exponents): a few layers are multiplied onto U, then a QR step on columns sorted
by size restores the form. Jacobi rotations of the rows of diag(e^l) T then find every value to full
*relative* accuracy, however far apart they are (Demmel & Veselic 1992), as no library's SVD does.

A unit with phi' = 0 removes a dimension. How many are left is counted, not guessed from small
numbers: the other singular values are exactly 0, their logarithms -inf.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from study.arithmetic.activations import Activations, Block
from study.arithmetic.scaled import Scaled, add, settle
from study.core.network import Network
from study.sampling import gaussian
from study.tools import Array
from study.tools.checks import array, bad

# Between QR steps the condition number of the layers' product costs as many digits: there are at
# most GROUP layers of an unknown one, or as many as their known ones keep below MOST.
GROUP, MOST = 4, 1e6
_VANISHING = np.errstate(under="ignore", divide="ignore")  # beside its row, or with a dimension


class Product:
    """The product of the layers so far, M_L ... M_1, as U diag(e^l) T."""

    def __init__(self, n: int):
        self.U, self.log, self.T, self.rank = np.eye(n), np.zeros(n), np.eye(n), n
        self.spent = 0.0  # of the digits that may be lost before the next QR step, the share

    @_VANISHING
    def multiply(self, W: Array, slopes: Array, condition: float = math.inf) -> None:
        """Take in the layer r -> phi(r W) with phi' = ``slopes``: M = diag(slopes) W'.

        ``condition`` bounds M's condition number, where that is known.
        """
        self.U = slopes[:, None] * (W.T @ self.U)
        # A unit that is off loses a dimension.
        self.rank = min(self.rank, int(np.count_nonzero(slopes)))
        self.spent += min(1 / GROUP, math.log(condition) / math.log(MOST))
        if self.spent >= 1:
            self._restore()

    @_VANISHING
    def log_singular_values(self) -> Array:
        """Natural logarithms, decreasing; -inf where a dimension has been lost."""
        self._restore()
        found = np.full(len(self.U), -np.inf)
        found[: self.rank] = _by_rotation(self.log, self.T)
        return found

    def _restore(self) -> None:
        self.U, self.log, T = _sorted_qr(self.U, self.log, self.rank)
        self.log, self.T = _unit_rows(self.log, T @ self.T)
        self.spent = 0.0


def _sorted_qr(X: Array, log: Array, rank: int) -> tuple[Array, Array, Array]:
    """X diag(e^log) = Q diag(e^log') T, where Q has ``rank`` columns."""
    order = np.argsort(-(log + np.log(np.linalg.norm(X, axis=0))), kind="stable")
    (Q, R), log = np.linalg.qr(X[:, order]), log[order]
    # Sorted, no ratio of sizes above the diagonal is large; a small one may well be 0.
    T = R[:rank] * np.exp(np.triu(log - log[:rank, None]))
    return Q[:, :rank], log[:rank], T[:, np.argsort(order)]


def _unit_rows(log: Array, T: Array) -> tuple[Array, Array]:
    size = np.linalg.norm(T, axis=1)
    return log + np.log(size), T / size[:, None]


def _by_rotation(log: Array, T: Array) -> Array:
    """ln of the singular values of diag(e^log) T: rotate pairs of rows until all are orthogonal."""
    for _ in range(2):  # brings the rows near their final directions
        log, T = _unit_rows(*_sorted_qr(T.T, log, len(log))[1:])
    rounds = _tournament(len(log))
    for _ in range(60):
        cosines = np.triu(T @ T.T, 1)  # rows have norm 1
        if np.abs(cosines).max(initial=0.0) <= 1e-15 * T.shape[1]:
            break
        for pairs in rounds:
            i, j = pairs[np.arange(len(pairs)), np.argsort(-log[pairs], axis=1).T]
            cosine = np.vecdot(T[i], T[j])
            p = np.exp(log[j] - log[i])  # row j is p <= 1 times as long
            b = (1 - p) * (1 + p)  # 1 - p^2 to full accuracy
            root = b + np.hypot(b, 2 * cosine * p)  # the smaller angle, without cancellation
            a = np.divide(2 * cosine, root, out=np.zeros_like(root), where=root > 0)
            cos = 1 / np.hypot(1, a * p)[:, None]  # tan = a p
            turned = T[i] + (a * p**2)[:, None] * T[j], T[j] - a[:, None] * T[i]
            log[i], T[i] = _unit_rows(log[i], cos * turned[0])
            log[j], T[j] = _unit_rows(log[j], cos * turned[1])
    return np.sort(log)[::-1]


def _tournament(n: int) -> list[Array]:
    """Rounds of disjoint pairs in which everybody meets everybody once."""
    players = [*range(n), *[-1] * (n % 2)]
    half, rounds = len(players) // 2, []
    for _ in range(len(players) - 1):
        pairs = zip(players[:half], players[: half - 1 : -1], strict=True)
        rounds.append(np.array([pair for pair in pairs if -1 not in pair], int).reshape(-1, 2))
        players.insert(1, players.pop())
    return rounds


def log10_singular_values(
    nets: Sequence[Network], seed: int, depths: Sequence[int], inputs: Array | None = None
) -> Array:
    """Singular values of dr^(d)/dr^(0) of networks at initialisation, for each d of ``depths``.

    The networks, of one width, share the weights, biases and inputs that ``study.profile(nets,
    [seed], engine="dense")`` gives them; their own depths play no part. ``inputs``, (1, width), is
    where the Jacobian is taken. Returns (nets, depths, width): base-10 logarithms, not squared,
    decreasing, -inf for true zeros; their relative error is about sqrt(depth) x eps x the condition
    of `GROUP` layers.

    >>> nets = [Network(activation=a, depth=1, width=32, sigma_w=s, weights="orthogonal")
    ...         for a, s in (("linear", 1.0), ("relu", 2**0.5))]
    >>> linear, relu = log10_singular_values(nets, seed=0, depths=[1000])[:, 0]
    >>> bool(np.abs(linear).max() < 1e-12), bool(relu[0] - relu[1] > 5), bool(relu[31] == -np.inf)
    (True, True, True)
    """
    n = nets[0].width
    law = nets[0].weights
    if law == "uniform" or any((net.width, net.weights) != (n, law) for net in nets):
        raise bad("nets", nets, "of one width and one weight law, gaussian or orthogonal")
    if inputs is None:
        x = gaussian.normal(gaussian.key(seed, "inputs"), 0, (1, n))
    else:
        x = array("inputs", inputs, 2, float)
    products = [Product(n) for _ in nets]
    wanted = np.asarray(depths)
    logs = np.empty((len(nets), len(depths), n))
    for k, (W, of_nets) in enumerate(_layers(nets, seed, max(depths), x)):
        for product, (slopes, condition) in zip(products, of_nets, strict=True):
            product.multiply(W, slopes, condition)
        for at in np.flatnonzero(wanted == k + 1):
            logs[:, at] = [product.log_singular_values() for product in products]
    return logs / math.log(10)


def _layers(
    nets: Sequence[Network], seed: int, depth: int, x: Array
) -> Iterator[tuple[Array, Iterator[tuple[Array, float]]]]:
    """Each layer's unit weights, and of each network sigma_w phi' and the condition number."""
    n, law = nets[0].width, nets[0].weights
    blocks = [Block(slice(j, j + 1), net.row, net.kink) for j, net in enumerate(nets)]
    activations = Activations(blocks)
    sigma_w, sigma_b = np.array([(net.sigma_w, net.sigma_b) for net in nets]).T[..., None, None]
    key, bias_key = gaussian.key(seed, "weights"), gaussian.key(seed, "biases")
    biases = gaussian.fill_layers(bias_key[None], range(depth), np.empty((depth, 1, n)))
    conditions = np.full(len(nets), math.inf)
    r = settle(np.repeat(x[None], len(nets), axis=0), 0)
    for k in range(depth):
        if law == "orthogonal":
            W = gaussian.haar(key, k, n, n)
        else:
            W = gaussian.normal(key, k, (n, n)) / math.sqrt(n)
        z = Scaled(sigma_w * (r.mantissa @ W), r.exponent)
        if sigma_b.any():
            z = add(z, sigma_b * biases[k])
        slopes = activations.derivative(z)[:, 0]
        if law == "orthogonal":
            low, high = slopes.min(axis=1), slopes.max(axis=1)
            conditions = np.divide(high, low, out=np.full_like(high, math.inf), where=low > 0)
        yield W, zip(sigma_w[:, 0] * slopes, conditions, strict=True)
        r = activations.phi(z)
