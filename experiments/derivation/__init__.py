"""The three equations of backpropagation, held against witnesses that know phi but not phi'."""

import numpy as np
import pandas as pd

import study
from experiments.derivation import examination, witness
from experiments.derivation.examination import rounding, rounding_of_differences
from experiments.derivation.witness import relative_error
from study.runs.experiment import Experiment
from study.sampling import gaussian
from study.statistics.claims import Claim, Estimate, above, below, median_interval
from study.statistics.estimators import worst

ACTIVATIONS = [
    "relu", "sigmoid", "tanh", "linear", "leaky_relu", "selu", "elu", "gelu", "silu", "softplus",
    "hard_tanh", "erf",
]  # fmt: skip
CRITICAL = {name: study.theory.critical_sigma_w(name) for name in ACTIVATIONS}
WIDTH, BATCH = 12, 2
STEPS = [*range(-6, -61, -3), -100, -300, -900]
STEPS_DEPTH, STEPS_OF = 10, ["sigmoid", "tanh", "relu"]
SEED = 1000  # those from 0 on were seen when the units of the claims were chosen


def measure(seed: int, depths: list[int]) -> dict[str, pd.DataFrame]:
    """Every activation on the same unit weights, at its critical scale; sigmoid also at 1."""
    checks, steps, swaps = [], [], []
    deepest = max(depths)
    for name, sigma_w in [*CRITICAL.items(), ("sigmoid", 1.0)]:
        network = {"activation": name, "sigma_w": sigma_w, "width": WIDTH, "seed": seed}
        for depth in depths:
            errors = examination.against_witnesses(*draw(seed, depth, sigma_w), name)
            checks.append(network | {"depth": depth} | errors)
        if sigma_w != CRITICAL[name]:
            continue
        signals = draw(seed, deepest, sigma_w)
        for row in examination.with_slopes_exchanged(*signals, name, ACTIVATIONS):
            swaps.append(network | {"depth": deepest, "signals": name} | row)
        if name in STEPS_OF:
            net = draw(seed, STEPS_DEPTH, sigma_w)
            for h in STEPS:
                errors = examination.against_witnesses(*net, name, 2.0**h, 2.0**h)
                steps.append(network | {"depth": STEPS_DEPTH, "log2_step": h} | errors)
    return {
        "checks": pd.DataFrame(checks),
        "steps": pd.DataFrame(steps),
        "swaps": pd.DataFrame(swaps),
        "neurons": pd.DataFrame([{"seed": seed, "error_neuron": one_neuron(seed)}]),
    }


def draw(seed: int, depth: int, sigma_w: float) -> tuple[list, np.ndarray, np.ndarray]:
    """Weights, inputs and targets of a network: the same unit normals whatever sigma_w."""
    key = gaussian.key("derivation", seed)
    scale = sigma_w / WIDTH**0.5
    weights = [scale * gaussian.normal(key, k + 1, (WIDTH, WIDTH)) for k in range(depth)]
    x, y = gaussian.normal(key, 0, (2, BATCH, WIDTH))
    return weights, x, y


def one_neuron(seed: int) -> float:
    """Complex steps against the closed form of one ReLU neuron, the mean over 100 examples."""
    draws = gaussian.normal(gaussian.key("one neuron", seed), 0, (101, WIDTH + 1))
    W = draws[0, :WIDTH, None]
    x, y = draws[1:, :WIDTH], draws[1:, WIDTH:]
    formula = (np.maximum(x @ W, 0) - y) * (x @ W >= 0) * x
    return relative_error(witness.complex_step([W], x, y, "relu"), [formula.mean(axis=0)])


def complex_steps_off(tables: dict[str, pd.DataFrame]) -> Estimate:
    """The equations' worst error beside complex steps, in units of rounding."""
    rows = tables["checks"]
    errors = rows[["error_complex", "error_norm"]].max(axis=1)
    return worst(errors / rounding(WIDTH, rows.depth, rows.condition), rows.seed)


def differences_off(tables: dict[str, pd.DataFrame]) -> Estimate:
    """The same beside central differences."""
    rows = tables["checks"]
    unit = rounding_of_differences(WIDTH, rows.depth, rows.condition, rows.cost_over_gradient)
    return worst(rows.error_difference / unit, rows.seed)


def neuron_off(tables: dict[str, pd.DataFrame]) -> Estimate:
    """The same of the closed form."""
    rows = tables["neurons"]
    return worst(rows.error_neuron / rounding(WIDTH, 1, 1), rows.seed)


def layers_differing(tables: dict[str, pd.DataFrame]) -> Estimate:
    """The most layers of any pair that differ once phi' is exchanged."""
    return worst(tables["swaps"].layers_differing, tables["swaps"].seed)


def relu_on_sigmoid_off(tables: dict[str, pd.DataFrame]) -> Estimate:
    """How far ReLU's backward pass is off on a sigmoid network's signals."""
    rows = tables["swaps"]
    rows = rows[(rows.signals == "sigmoid") & (rows.code == "relu")]
    return median_interval(rows.log10_off.abs())


def first_difference_error(tables: dict[str, pd.DataFrame]) -> Estimate:
    """log10 of the error of central differences in a vanished gradient."""
    rows = tables["checks"]
    rows = rows[(rows.activation == "sigmoid") & (rows.sigma_w == 1)]
    return median_interval(np.log10(rows[rows.depth == rows.depth.max()].error_difference_first))


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
        "quick": [{"seed": SEED + i, "depths": [1, 5, 20]} for i in range(3)],
        "paper": [{"seed": SEED + i, "depths": [1, 3, 10, 30]} for i in range(20)],
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="complex steps confirm the equations",
            statement="Equations (1) to (3), and the recorded norms, against complex steps, every "
            "activation, depth and layer: the largest relative error in units of 4 (width + 4) "
            "2^-53 max(depth, condition).",
            threshold=below(1),
            judge=complex_steps_off,
        ),
        Claim(
            name="finite differences confirm the equations",
            statement="The whole gradient against central differences, every activation and depth: "
            "the largest relative error in units of 4 (width + 4) 2^(-53 2/3) max(depth, "
            "condition) max(1, C / ‖dC/dW‖).",
            threshold=below(1),
            judge=differences_off,
        ),
        Claim(
            name="one neuron in closed form",
            statement="(ReLU(Wx) - y) Step(Wx) x against complex steps: the largest relative error "
            "in units of 4 (width + 4) 2^-53.",
            threshold=below(1),
            judge=neuron_off,
        ),
        Claim(
            name="only phi' tells one backward pass from another",
            statement="Every activation's backward pass on every activation's signals, phi' alone "
            "replaced by theirs: layers, of any pair, whose gradient norm is not theirs bit for "
            "bit; none.",
            threshold=below(1),
            judge=layers_differing,
            about="A",
        ),
        Claim(
            name="phi' matters",
            statement="ReLU's own backward pass, phi' not replaced, on a sigmoid network's "
            "signals: decades by which dC/dW^(0) is off, either way, in the deepest networks; more "
            "than one.",
            threshold=above(1),
            judge=relu_on_sigmoid_off,
        ),
        Claim(
            name="finite differences lose a vanished gradient",
            statement="Sigmoid at sigma_w = 1, the deepest networks: log10 of the relative error "
            "of central differences in dC/dW^(0); above -1, when not one digit is right.",
            threshold=above(-1),
            judge=first_difference_error,
        ),
    ],
    columns={
        "log2_step": "h, what both witnesses add to a weight [log2]",
        **examination.ERRORS,
        "error_neuron": "complex steps against (ReLU(Wx) - y) Step(Wx) x, 100 examples [1]",
        "signals": "activation of the network whose signals r and z are given [-]",
        **examination.EXCHANGED,
    },
)
