"""The three equations of backpropagation, held against witnesses that know phi but not phi'.

``gradient_norms`` holds the norms of the first seed's networks, in about five layers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

import study
from experiments.derivation import witness
from experiments.derivation.witness import relative_error
from study.core.activations import Activation, Array, activation
from study.core.backprop import backward, forward, weight_gradient
from study.core.blocks import Dense
from study.records.norms import gradient_norms
from study.runs.experiment import Experiment
from study.sampling import gaussian
from study.statistics.claims import Claim, Estimate, above, median_interval

ACTIVATIONS = [
    "relu", "sigmoid", "tanh", "linear", "leaky_relu", "selu", "elu", "gelu", "silu", "softplus",
    "hard_tanh", "erf",
]  # fmt: skip
CRITICAL = {name: study.theory.critical_sigma_w(name) for name in ACTIVATIONS}
WIDTH, BATCH = 12, 2
STEPS = [*range(-6, -61, -3), -100, -300, -900]
STEPS_DEPTH, STEPS_OF = 10, ["sigmoid", "tanh", "relu"]
SEED = 1000  # those from 0 on were seen when the units of the claims were chosen
MOVE = 2.0**-30  # by how much weights are moved, relatively, to find a network's condition
# What `against_witnesses` returns.
ERRORS = {
    "error_complex": "equations (1) to (3) against complex steps (of 2^-100, but for log2_step): "
    "relative error of dC/dW^(k) in the Frobenius norm, worst layer [1]",
    "error_norm": "the same of the recorded norms [1]",
    "error_difference": "equations against central differences (of 2^(-53/3), but for log2_step), "
    "all layers as one vector [1]",
    "error_difference_first": "the same of dC/dW^(0) alone [1]",
    "excluded": "share of weights whose central difference crosses a kink, left out [1]",
    "condition": "relative change of dC/dW^(k), worst layer, beside that of the weights, moved at "
    "random [1]",
    "cost_over_gradient": "C beside the norm of its gradient, all layers as one vector [1]",
}
# What `with_slopes_exchanged` yields, of the network whose signals are given.
EXCHANGED = {
    "code": "activation whose backward pass is run on them [-]",
    "layers_differing": "layers whose gradient norm is not bit for bit that of the signals' own "
    "network when phi' alone is replaced by theirs in the code [layers]",
    "log10_off": "‖dC/dW^(0)‖ by the code as it is, beside that of the signals' network [log10]",
}


def measure(seed: int, depths: list[int]) -> dict[str, pd.DataFrame]:
    """Every activation on the same unit weights, at its critical scale; sigmoid also at 1."""
    checks, steps, swaps, norms = [], [], [], []
    deepest = max(depths)
    for name, sigma_w in [*CRITICAL.items(), ("sigmoid", 1.0)]:
        network = {"activation": name, "sigma_w": sigma_w, "width": WIDTH, "seed": seed}
        for depth in depths:
            weights, x, y = draw(seed, depth, sigma_w)
            checks.append(network | {"depth": depth} | against_witnesses(weights, x, y, name))
            df = study.backpropagate(weights, x, name, targets=y)
            norms.append(df.assign(**network, depth=depth))
        if sigma_w != CRITICAL[name]:
            continue
        for row in with_slopes_exchanged(*draw(seed, deepest, sigma_w), name, ACTIVATIONS):
            swaps.append(network | {"depth": deepest, "signals": name} | row)
        if name in STEPS_OF:
            net = draw(seed, STEPS_DEPTH, sigma_w)
            for h in STEPS:
                errors = against_witnesses(*net, name, 2.0**h, 2.0**h)
                steps.append(network | {"depth": STEPS_DEPTH, "log2_step": h} | errors)
    tables = {
        "checks": pd.DataFrame(checks),
        "steps": pd.DataFrame(steps),
        "swaps": pd.DataFrame(swaps),
        "neurons": pd.DataFrame([{"seed": seed, "error_neuron": one_neuron(seed)}]),
    }
    if seed == SEED:
        tables["gradient_norms"] = gradient_norms(pd.concat(norms), 5)
    return tables


def draw(seed: int, depth: int, sigma_w: float) -> tuple[list, Array, Array]:
    """Weights, inputs and targets of a network: the same unit normals whatever sigma_w."""
    key = gaussian.key("derivation", seed)
    scale = sigma_w / WIDTH**0.5
    # Stream 0 is that of x and y.
    weights = [scale * gaussian.normal(key, k + 1, (WIDTH, WIDTH)) for k in range(depth)]
    x, y = gaussian.normal(key, 0, (2, BATCH, WIDTH))
    return weights, x, y


def one_neuron(seed: int) -> float:
    """Complex steps against the closed form of one ReLU neuron, the mean over 100 examples."""
    draws = gaussian.normal(gaussian.key("one neuron", seed), 0, (101, WIDTH + 1))
    W = draws[0, :WIDTH, None]
    x, y = draws[1:, :WIDTH], draws[1:, WIDTH:]
    formula = (np.maximum(x @ W, 0) - y) * (x @ W >= 0) * x  # one example a row
    return relative_error(witness.complex_step([W], x, y, "relu"), [formula.mean(axis=0)])


def equations(
    weights: Sequence[Array], x: Array, y: Array, name: str, kink: float = 1.0
) -> list[Array]:
    """dC/dW^(k) for every k by the three equations, on plain floats."""
    trace, r = forward([Dense(W, name, kink=kink) for W in weights], x)
    steps = backward(trace, (r - y) / len(y))  # the cost is the mean over the batch
    return [weight_gradient(step.r, step.delta) for step in steps][::-1]


def against_witnesses(
    weights: Sequence[Array],
    x: Array,
    y: Array,
    name: str,
    complex_step: float = witness.COMPLEX_STEP,
    central_step: float = witness.CENTRAL_STEP,
) -> dict[str, float]:
    """Relative errors of equations and recorded norms, and what they depend on: `ERRORS`.

    How far they may be off is known: a sum of n products is right to n u and phi to a few u, in the
    equations and in the witness, as if the weights were moved by that. The layers' errors add up,
    or grow as the network's condition has it: 4 (width + 4) u max(depth, condition).

    >>> W, x, y = np.array([[2.0]]), np.array([[3.0]]), np.array([[1.0]])
    >>> against_witnesses([W], x, y, "relu")["error_complex"] < 2.0**-52
    True
    """
    ours = equations(weights, x, y, name)
    steps = witness.complex_step(weights, x, y, name, complex_step)
    differences = witness.central_difference(weights, x, y, name, central_step)
    df = study.backpropagate(weights, x, name, targets=y)
    norms = np.ldexp(df.grad_norm_mantissa, df.grad_norm_exponent)
    key = gaussian.key("move")
    moved = [W * (1 + MOVE * gaussian.normal(key, k, W.shape)) for k, W in enumerate(weights)]
    _, r = forward([Dense(W, name) for W in weights], x)
    size = np.linalg.norm(ours)
    return {
        "error_complex": worst_layer(ours, steps),
        "error_norm": worst_layer(norms, [np.linalg.norm(true) for true in steps]),
        "error_difference": relative_error(differences, ours),
        "error_difference_first": relative_error(differences[:1], ours[:1]),
        "excluded": float(np.isnan(differences).mean()),
        # A difference quotient.
        "condition": worst_layer(equations(moved, x, y, name), ours) / MOVE,
        "cost_over_gradient": float(((r - y) ** 2).sum() / (2 * len(x)) / size) if size else np.inf,
    }


def worst_layer(found: Sequence[Array], true: Sequence[Array]) -> float:
    """The largest relative error of any layer."""
    return max(relative_error([f], [t]) for f, t in zip(found, true, strict=True))


def with_slopes_exchanged(
    weights: Sequence[Array], x: Array, cotangent: Array, signals: str, codes: Sequence[str]
) -> Iterator[dict]:
    """The backward pass of other activations on the signals r and z of one of them: `EXCHANGED`.

    >>> rng = np.random.default_rng(0)
    >>> W, x, dr = rng.normal(size=(3, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    >>> rows = with_slopes_exchanged([W], x, dr, "sigmoid", ["relu", "tanh"])
    >>> [row["layers_differing"] for row in rows]
    [0, 0]
    """
    theirs = activation(signals)
    trace, _ = forward([Dense(W, theirs) for W in weights], x)

    def norms(row: Activation) -> Array:
        steps = [step._replace(layer=Dense(step.layer.W, row)) for step in trace]
        below = backward(steps, cotangent)
        return np.array([np.linalg.norm(weight_gradient(step.r, step.delta)) for step in below])

    true = norms(theirs)
    for code in codes:
        row = activation(code)
        # Everything of the code but its phi'.
        exchanged = replace(row, prefactor=theirs.prefactor, decay=theirs.decay)
        with np.errstate(divide="ignore"):  # where its own phi' leaves nothing
            log10_off = float(np.log10(norms(row)[-1] / true[-1]))
        yield {
            "code": code,
            "layers_differing": int(np.count_nonzero(norms(exchanged) != true)),
            "log10_off": log10_off,
        }


def relu_on_sigmoid_off(tables: dict[str, pd.DataFrame]) -> Estimate:
    """How far ReLU's backward pass is off on a sigmoid network's signals."""
    rows = tables["swaps"]
    rows = rows[(rows.signals == "sigmoid") & (rows.code == "relu")]
    return median_interval(rows.log10_off.abs())


def figure(tables: dict[str, pd.DataFrame]):
    """The three equations against two witnesses that know nothing of them.

    Relative error of the gradient, median over seeds with its 95 % interval, in float64. Left:
    against the step h of the witness, with the laws h^2 of truncation, u / h and u of rounding,
    factor 1. Complex steps stay exact however small the step; ReLU's cost is quadratic in each
    weight, so that differences have no truncation. Right: every activation, 30 layers.
    """
    figure, [[left, right]] = study.plot.panels(1, 2, 3.0, width_ratios=[1.2, 1])
    errors = {"error_complex": "complex step", "error_difference": "central difference"}
    steps = _by_witness(tables["steps"].query("log2_step >= -60"), errors, ["log2_step"])
    study.plot.curves(
        steps, "log2_step", "log10_error", hue="activation", style="witness", ax=left, lw=0.7,
        ylim=(-18, 2),
    )  # fmt: skip
    h = np.arange(-60, -5)
    rounding_law = np.log10(2.0) * (-53 - h)
    for law, text, at, side in (
        (np.log10(2.0) * 2 * h, "$h^2$", -20, "left"),
        (rounding_law, "$u/h$", -40, "right"),
        (np.full(len(h), -53 * np.log10(2.0)), "$u$", -45, "left"),
    ):
        left.plot(h, law, color="#aaaaaa", lw=0.9, zorder=0)
        left.text(at, law[h == at][0] - 0.3, text, color="#555555", va="top", ha=side)
    left.set(xlabel=r"$\log_2$ of the step $h$")
    deepest = tables["checks"].query("activation != 'sigmoid' or sigma_w != 1")
    deepest = deepest[deepest.depth == deepest.depth.max()]
    found = _by_witness(deepest, errors, ["depth"])
    study.plot.dots(found, "log10_error", "activation", hue="witness", ax=right)
    right.set_xlim(-18, -2)
    right.set_xlabel(r"$\log_{10}$ relative error")
    left.set_ylabel(right.get_xlabel())
    return figure


def _by_witness(table: pd.DataFrame, errors: dict[str, str], keys: list[str]) -> pd.DataFrame:
    """log10 of the errors, a row a witness."""
    keys = ["activation", "sigma_w", *keys, "seed"]
    long = table.rename(columns=errors).melt(keys, list(errors.values()), "witness", "error")
    with np.errstate(divide="ignore"):
        return long.assign(log10_error=np.log10(long.error))


experiment = Experiment(
    question="Are the three equations the derivative of the cost, and is phi' all that tells two "
    "apart?",
    grid={
        "quick": [{"seed": SEED + i, "depths": [1, 5]} for i in range(2)],
        "paper": [{"seed": SEED + i, "depths": [1, 3, 10, 30]} for i in range(10)],
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="phi' matters",
            statement="ReLU's own backward pass, phi' not replaced, on a sigmoid network's "
            "signals: decades by which dC/dW^(0) is off, either way, in the deepest networks; more "
            "than one.",
            threshold=above(1),
            judge=relu_on_sigmoid_off,
        ),
    ],
    columns={
        "log2_step": "h, what both witnesses add to a weight [log2]",
        **ERRORS,
        "error_neuron": "complex steps against (ReLU(Wx) - y) Step(Wx) x, 100 examples [1]",
        "signals": "activation of the network whose signals r and z are given [-]",
        **EXCHANGED,
    },
    version=1,
)
