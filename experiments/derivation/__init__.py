"""The three equations of backpropagation, held against witnesses that know phi but not phi'."""

import numpy as np
import pandas as pd

import study
from experiments.derivation import examination, witness
from experiments.derivation.examination import rounding, rounding_of_differences
from experiments.derivation.witness import relative_error
from study.core.activations import TABLE
from study.runs.experiment import Experiment
from study.sampling import gaussian
from study.statistics.claims import Claim, above, below, median_interval
from study.statistics.estimators import worst

WIDTH, BATCH = 12, 2
STEPS = [*range(-6, -61, -3), -100, -300, -900]
WITNESSES = ["error_complex", "error_difference"]
STEPS_DEPTH, STEPS_OF = 10, ["sigmoid", "tanh", "relu"]
SEED = 1000  # those from 0 on were seen when the units of the claims were chosen
CRITICAL = {name: study.theory.critical_sigma_w(name) for name in TABLE}


def measure(seed: int, depths: list[int]) -> dict[str, pd.DataFrame]:
    """Every activation on the same unit weights, at its critical scale; sigmoid also at 1."""
    checks, steps, swaps = [], [], []
    for name, sigma in [*CRITICAL.items(), ("sigmoid", 1.0)]:
        own = {"activation": name, "sigma_w": sigma, "width": WIDTH, "seed": seed}
        for depth in depths:
            found = examination.against_witnesses(*draw(seed, depth, sigma), name)
            checks.append(own | {"depth": depth} | found)
        if sigma != CRITICAL[name]:
            continue
        for row in examination.with_slopes_exchanged(*draw(seed, max(depths), sigma), name):
            swaps.append(own | {"depth": max(depths), "signals": name} | row)
        net = draw(seed, STEPS_DEPTH, sigma)
        for h in STEPS if name in STEPS_OF else []:
            found = examination.against_witnesses(*net, name, 2.0**h, 2.0**h)
            steps.append(own | {"depth": STEPS_DEPTH, "log2_step": h} | found)
    neuron = [{"seed": seed, "error_neuron": one_neuron(seed)}]
    tables = {"checks": checks, "steps": steps, "swaps": swaps, "neurons": neuron}
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def draw(seed: int, depth: int, sigma_w: float) -> tuple:
    """Weights, inputs and targets of a network: the same unit normals whatever sigma_w."""
    key, scale = gaussian.key("derivation", seed), sigma_w / WIDTH**0.5
    weights = [scale * gaussian.normal(key, k + 1, (WIDTH, WIDTH)) for k in range(depth)]
    return weights, *gaussian.normal(key, 0, (2, BATCH, WIDTH))


def one_neuron(seed: int) -> float:
    """Complex steps against the closed form of one ReLU neuron, the mean over 100 examples."""
    v = gaussian.normal(gaussian.key("one neuron", seed), 0, (101, WIDTH + 1))
    W, x, y = v[0, :WIDTH, None], v[1:, :WIDTH], v[1:, WIDTH:]
    formula = (np.maximum(x @ W, 0) - y) * (x @ W >= 0) * x
    return relative_error(witness.complex_step([W], x, y, "relu"), [formula.mean(axis=0)])


def _complex_steps_off(t: pd.DataFrame) -> pd.Series:
    return t[["error_complex", "error_norm"]].max(axis=1) / rounding(WIDTH, t.depth, t.condition)


def _differences_off(t: pd.DataFrame) -> pd.Series:
    on = t.depth, t.condition, t.cost_over_gradient
    return t.error_difference / rounding_of_differences(WIDTH, *on)


def _worst(table: str, of):
    """Judge: the worst of all networks."""
    return lambda tables: worst(of(tables[table]), tables[table].seed)


def _median(table: str, where: str, of):
    """Judge: the median over the networks of a query."""
    return lambda tables: median_interval(of(tables[table].query(where)))


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
        steps,
        "log2_step",
        "log10_error",
        hue="activation",
        style="witness",
        ax=left,
        lw=0.7,
        ylim=(-18, 2),
    )
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
        preset: [{"seed": SEED + i, "depths": depths} for i in range(seeds)]
        for preset, seeds, depths in (("quick", 3, [1, 5, 20]), ("paper", 20, [1, 3, 10, 30]))
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
            judge=_worst("checks", _complex_steps_off),
        ),
        Claim(
            name="finite differences confirm the equations",
            statement="The whole gradient against central differences, every activation and depth: "
            "the largest relative error in units of 4 (width + 4) 2^(-53 2/3) max(depth, "
            "condition) max(1, C / ‖dC/dW‖).",
            threshold=below(1),
            judge=_worst("checks", _differences_off),
        ),
        Claim(
            name="one neuron in closed form",
            statement="(ReLU(Wx) - y) Step(Wx) x against complex steps: the largest relative error "
            "in units of 4 (width + 4) 2^-53.",
            threshold=below(1),
            judge=_worst("neurons", lambda t: t.error_neuron / rounding(WIDTH, 1, 1)),
        ),
        Claim(
            name="only phi' tells one backward pass from another",
            statement="Every activation's backward pass on every activation's signals, phi' alone "
            "replaced by theirs: layers, of any pair, whose gradient norm is not theirs bit for "
            "bit; none.",
            threshold=below(1),
            judge=_worst("swaps", lambda t: t.layers_differing),
            about="A",
        ),
        Claim(
            name="phi' matters",
            statement="ReLU's own backward pass, phi' not replaced, on a sigmoid network's "
            "signals: decades by which dC/dW^(0) is off, either way, in the deepest networks; more "
            "than one.",
            threshold=above(1),
            judge=_median(
                "swaps", "signals == 'sigmoid' and code == 'relu'", lambda t: t.log10_off.abs()
            ),
        ),
        Claim(
            name="finite differences lose a vanished gradient",
            statement="Sigmoid at sigma_w = 1, the deepest networks: log10 of the relative error "
            "of central differences in dC/dW^(0); above -1, when not one digit is right.",
            threshold=above(-1),
            judge=_median(
                "checks",
                "activation == 'sigmoid' and sigma_w == 1 and depth == depth.max()",
                lambda t: np.log10(t.error_difference_first),
            ),
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
