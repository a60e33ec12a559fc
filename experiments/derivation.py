"""The three equations of backpropagation, held against witnesses that know phi but not phi'."""

import dataclasses

import numpy as np
import pandas as pd

import study
from study import backprop, gaussian, witness
from study.activations import TABLE
from study.claims import Claim, Estimate, above, below, median_interval, verdict
from study.measures import Measures
from study.nonlinearity import Block
from study.plotting.derivation import errors_of_witnesses
from study.scaled import Scaled, log10_ratio, settle
from study.witness import UNIT_ROUNDOFF, relative_error

QUESTION = (
    "Are the three equations the derivative of the cost, and is phi' all that tells two apart?"
)

WIDTH, BATCH = 12, 2
STEPS = [*range(-6, -61, -3), -100, -300, -900]
STEPS_DEPTH, STEPS_OF = 10, ["sigmoid", "tanh", "relu"]
SEED = 1000  # those from 0 on were seen when the units of the claims were chosen
CRITICAL = {name: study.theory.critical_sigma_w(name) for name in TABLE}

GRID = {
    preset: [{"seed": SEED + i, "depths": depths} for i in range(seeds)]
    for preset, seeds, depths in (("quick", 3, [1, 5, 20]), ("paper", 20, [1, 3, 10, 30]))
}

COLUMNS = {
    "log2_step": "h, what both witnesses add to a weight [log2]",
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
    "error_neuron": "complex steps against (ReLU(Wx) - y) Step(Wx) x, 100 examples [1]",
    "signals": "activation of the network whose signals r and z are given [-]",
    "code": "activation whose backward pass is run on them [-]",
    "layers_differing": "layers whose gradient norm is not bit for bit that of the signals' own "
    "network when phi' alone is replaced by theirs in the code [layers]",
    "log10_off": "‖dC/dW^(0)‖ by the code as it is, beside that of the signals' network [log10]",
}


def cost(seed: int, depths: list[int]) -> tuple[float, int]:
    """Core-seconds and bytes: every entry of W takes a pass through the layers above it."""
    return 1.0 + 0.0025 * sum(depth**2 for depth in depths), 2**27


def measure(seed: int, depths: list[int]) -> dict[str, pd.DataFrame]:
    """Every activation on the same unit weights, at its critical scale; sigmoid also at 1."""
    checks, steps, swaps = [], [], []
    for name, sigma in [*CRITICAL.items(), ("sigmoid", 1.0)]:
        own = {"activation": name, "sigma_w": sigma, "width": WIDTH, "seed": seed}
        nets = {depth: draw(seed, depth, sigma) for depth in {*depths, STEPS_DEPTH}}
        checks += [own | {"depth": depth} | check(name, *nets[depth]) for depth in depths]
        if sigma == CRITICAL[name]:
            swaps += [own | {"depth": max(depths)} | row for row in swap(name, *nets[max(depths)])]
        if sigma == CRITICAL[name] and name in STEPS_OF:
            own |= {"depth": STEPS_DEPTH}
            net = nets[STEPS_DEPTH]
            steps += [own | {"log2_step": h} | check(name, *net, 2.0**h, 2.0**h) for h in STEPS]
    neuron = [{"seed": seed, "error_neuron": one_neuron(seed)}]
    tables = {"checks": checks, "steps": steps, "swaps": swaps, "neurons": neuron}
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def draw(seed: int, depth: int, sigma_w: float) -> tuple:
    """Weights, inputs and targets of a network: the same unit normals whatever sigma_w."""
    key, scale = gaussian.key("derivation", seed), sigma_w / WIDTH**0.5
    weights = [scale * gaussian.normal(key, k + 1, (WIDTH, WIDTH)) for k in range(depth)]
    return weights, *gaussian.normal(key, 0, (2, BATCH, WIDTH))


def check(name, weights, x, y, h=witness.COMPLEX_STEP, h_difference=witness.CENTRAL_STEP) -> dict:
    """Errors of the equations, and of the recorded norms, against the witnesses."""
    ours = witness.equations(weights, x, y, name)
    steps = witness.complex_step(weights, x, y, name, h)
    differences = witness.central_difference(weights, x, y, name, h_difference)
    df = study.backpropagate(weights, x, name, targets=y)
    norms = np.ldexp(df.grad_norm_mantissa, df.grad_norm_exponent)
    layers = list(zip(ours, norms, steps, strict=True))
    r, size = x, np.linalg.norm(ours)
    for W in weights:
        r = TABLE[name].phi(r @ W)
    by = [
        1 + 2.0**-30 * gaussian.normal(gaussian.key("move"), k, W.shape) for k in range(len(ours))
    ]
    moved = witness.equations([W * b for W, b in zip(weights, by, strict=True)], x, y, name)
    moved = [relative_error([m], [g]) for m, g in zip(moved, ours, strict=True)]
    return {
        "error_complex": max(relative_error([g], [t]) for g, _, t in layers),
        "error_norm": max(relative_error([n], [np.linalg.norm(t)]) for _, n, t in layers),
        "error_difference": relative_error(differences, ours),
        "error_difference_first": relative_error(differences[:1], ours[:1]),
        "excluded": float(np.isnan(differences).mean()),
        "condition": max(moved) * 2.0**30,
        "cost_over_gradient": float(((r - y) ** 2).sum() / (2 * BATCH) / size) if size else np.inf,
    }


def swap(name: str, weights, x, cotangent):
    """The study's backward pass of each activation on the signals of one, phi' replaced or not."""
    theirs, depth = TABLE[name], len(weights)
    linear, record = backprop.Explicit(weights, None), Measures.empty(depth, 1, len(x))
    r, s = settle(x[None], 0)
    record.signal.put(0, s, 0)
    trace, _ = backprop.forward(linear, r, [Block(slice(0, 1), theirs, 1.0)], range(depth), record)

    def gradient(row) -> tuple:
        dr = Scaled(cotangent[None], 0)
        for stretch in reversed(trace):
            dr = backprop.backward(linear, stretch, dr, [Block(slice(0, 1), row, 1.0)], record)
        return record.gradient.norms()

    true = gradient(theirs)
    for code, row in TABLE.items():
        one = dataclasses.replace(row, prefactor=theirs.prefactor, decay=theirs.decay)
        differing = int(np.not_equal(gradient(one), true).any(axis=0).sum())
        off = float(log10_ratio(gradient(row), true)[0, 0])
        yield {"signals": name, "code": code, "layers_differing": differing, "log10_off": off}


def one_neuron(seed: int) -> float:
    """Complex steps against the closed form of one ReLU neuron, the mean over 100 examples."""
    v = gaussian.normal(gaussian.key("one neuron", seed), 0, (101, WIDTH + 1))
    W, x, y = v[0, :WIDTH, None], v[1:, :WIDTH], v[1:, WIDTH:]
    formula = (np.maximum(x @ W, 0) - y) * (x @ W >= 0) * x
    return relative_error(witness.complex_step([W], x, y, "relu"), [formula.mean(axis=0)])


def rounding(t: pd.DataFrame) -> pd.Series:
    """The relative error that rounding may cause.

    A sum of n products is right to n u and phi to a few u, forwards and backwards, in the equations
    and in the witness: as if the weights were moved by that. The layers' errors add up, or grow as
    the network's condition has it.
    """
    return 4 * (WIDTH + 4) * UNIT_ROUNDOFF * np.maximum(t.depth, t.condition)


def rounding_of_differences(t: pd.DataFrame) -> pd.Series:
    """The same of central differences: that error of the *cost*, divided by h = u^(1/3)."""
    return rounding(t) * UNIT_ROUNDOFF ** (-1 / 3) * np.maximum(1, t.cost_over_gradient)


def _worst(table: str, of) -> object:
    """Judge: the worst of all networks. One refutes what is said of every one: no interval."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        worst = float(np.max(of(tables[table])))
        return Estimate(worst, worst, worst, tables[table].seed.nunique())

    return judge


def _median(table: str, where: str, of) -> object:
    return lambda tables: median_interval(of(tables[table].query(where)))


CLAIMS = [
    Claim(
        "complex steps confirm the equations",
        "Equations (1) to (3), and the recorded norms, against complex steps, every activation, "
        "depth and layer: the largest relative error in units of 4 (width + 4) 2^-53 max(depth, "
        "condition).",
        below(1),
        _worst("checks", lambda t: t[["error_complex", "error_norm"]].max(axis=1) / rounding(t)),
    ),
    Claim(
        "finite differences confirm the equations",
        "The whole gradient against central differences, every activation and depth: the largest "
        "relative error in units of 4 (width + 4) 2^(-53 2/3) max(depth, condition) "
        "max(1, C / ‖dC/dW‖).",
        below(1),
        _worst("checks", lambda t: t.error_difference / rounding_of_differences(t)),
    ),
    Claim(
        "one neuron in closed form",
        "(ReLU(Wx) - y) Step(Wx) x against complex steps: the largest relative error in units of "
        "4 (width + 4) 2^-53.",
        below(1),
        _worst("neurons", lambda t: t.error_neuron / (4 * (WIDTH + 4) * UNIT_ROUNDOFF)),
    ),
    Claim(
        "only phi' tells one backward pass from another",
        "Every activation's backward pass on every activation's signals, phi' alone replaced by "
        "theirs: layers, of any pair, whose gradient norm is not theirs bit for bit; none.",
        below(1),
        _worst("swaps", lambda t: t.layers_differing),
    ),
    Claim(
        "phi' matters",
        "ReLU's own backward pass, phi' not replaced, on a sigmoid network's signals: decades by "
        "which dC/dW^(0) is off, either way, in the deepest networks; more than one.",
        above(1),
        _median("swaps", "signals == 'sigmoid' and code == 'relu'", lambda t: t.log10_off.abs()),
    ),
    Claim(
        "finite differences lose a vanished gradient",
        "Sigmoid at sigma_w = 1, the deepest networks: log10 of the relative error of central "
        "differences in dC/dW^(0); above -1, when not one digit is right.",
        above(-1),
        _median(
            "checks",
            "activation == 'sigmoid' and sigma_w == 1 and depth == depth.max()",
            lambda t: np.log10(t.error_difference_first),
        ),
    ),
]


def figure(tables: dict[str, pd.DataFrame]):
    """Errors against the step, and of every activation beside what rounding allows."""
    checks = tables["checks"].query("activation != 'sigmoid' or sigma_w != 1")
    deepest = checks[checks.depth == checks.depth.max()]
    depth, seeds = int(deepest.depth.max()), deepest.seed.nunique()
    is_so = all(verdict(c.judge(tables), c.threshold) == "supported" for c in CLAIMS[:2])
    limit = 4 * (WIDTH + 4) * depth * UNIT_ROUNDOFF
    return errors_of_witnesses(
        _medians(tables["steps"], ["activation", "log2_step"]),
        _medians(deepest, ["activation"]),
        {"error_complex": limit, "error_difference": limit * UNIT_ROUNDOFF ** (-1 / 3)},
        f"The three equations are {'' if is_so else 'not '}the derivative of the cost, to rounding",
        f"Relative error, median of {seeds} seeds with its 95 % interval; float64, width {WIDTH}, "
        f"σ_w critical for each activation; u = 2^-53.\na: depth {STEPS_DEPTH}; lines: theory with "
        f"factor 1. Complex steps stay as they are down to h = 2^{min(STEPS)}; ReLU's cost is "
        f"quadratic in each weight: no truncation.\nb: depth {depth}, steps of 2^-100, differences "
        "of u^⅓. Dashed: what rounding allows, 4 (n + 4) depth u, and the same with u^⅔; more "
        "where a network is ill-conditioned\nor its cost exceeds its gradient.",
    )


def _medians(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    medians = []
    for group, own in rows.groupby(key, sort=False):
        for witness_ in ("error_complex", "error_difference"):
            found = median_interval(own[witness_])
            medians.append((*group, witness_, found.value, found.low, found.high))
    return pd.DataFrame(medians, columns=[*key, "witness", "value", "low", "high"])
