"""What the derivative did to the gradient and what the weights did, layer by layer."""

import numpy as np
import pandas as pd

import study
from study import images
from study.claims import Claim, Estimate, above, below, median_interval, verdict, within
from study.claims import bootstrap_over_seeds as bootstrap
from study.plotting.anatomy import derivative_and_weights

QUESTION = "What did the derivative take from the gradient, and what did the weights give back?"

WIDTH, DEPTH = 256, 100
FIRST, LAST = 10, 95  # past the transient of the forward pass, below the cost
BATCH = {"random": 1, "digits": 4}
SIGMA_B = {"sigmoid": 0.0, "tanh": 0.05**0.5, "relu": 0.0}
CRITICAL = {name: study.theory.critical_sigma_w(name, bias) for name, bias in SIGMA_B.items()}
SCALES = [0.5, 1.0, 2.0]
SEED = 1000  # those from 0 on were seen when the thresholds were chosen

CLOSE, ROUGHLY = float(np.log10(1.01)), float(np.log10(1.05))
"""Decades: 1 % and 5 % of a factor."""

GRID = {
    preset: [{"inputs": kind, "seed": seed, "scales": SCALES} for kind in BATCH for seed in seeds]
    for preset, seeds in (("quick", range(SEED, SEED + 4)), ("paper", range(SEED, SEED + 20)))
}

COLUMNS = {
    "inputs": "random: one standard normal input and a random unit cotangent at the output; "
    "digits: 4 MNIST images and the squared-error cost [-]",
    "scale": "sigma_w beside the activation's critical one [1]",
    "layers_passed": "on the way down from the output, depth - k [layers]",
    "derivative": "log10_derivative_factor, summed over the layers passed [log10]",
    "weights": "log10_weight_factor, summed over the layers passed [log10]",
    "log10_derivative": "log10_derivative_factor, mean over the window [log10 a layer]",
    "log10_weight": "log10_weight_factor, mean over the window [log10 a layer]",
    "log10_derivative_largest": "log10_derivative_factor, the largest of all layers [log10]",
    "square_passed": "share of the gradient's square that the derivative lets through: its factor "
    "squared, mean over the window [1]",
    "log10_over_count": "log10_derivative_factor less log10 of the square root of the share of "
    "active units, mean over the window [log10 a layer]",
}

PASSED = ["layers_passed", "derivative", "weights"]
NET = ["activation", "scale", "sigma_w", "sigma_b"]
KEYS = ["inputs", *NET, "seed"]


def cost(inputs: str, seed: int, scales: list[float]) -> tuple[float, int]:
    """Core-seconds and bytes: drawing the weights, and a column for each network and example."""
    columns = len(SIGMA_B) * len(scales) * BATCH[inputs]
    return 0.3 + 0.045 * columns, 2**27 + 2**21 * columns


def measure(inputs: str, seed: int, scales: list[float]) -> dict[str, pd.DataFrame]:
    """Every activation at multiples of its critical scale, all on the same unit weights."""
    cells = [(name, scale) for name in SIGMA_B for scale in scales]
    nets = [
        study.Network(name, DEPTH, WIDTH, sigma_w=scale * CRITICAL[name], sigma_b=SIGMA_B[name])
        for name, scale in cells
    ]
    x, y = images.sample(seed, BATCH[inputs]) if inputs == "digits" else (None, None)
    df = study.profile(nets, [seed], BATCH[inputs], engine="dense", inputs=x, targets=y)
    df = df.assign(inputs=inputs, scale=np.repeat([scale for _, scale in cells], DEPTH))
    df["layers_passed"] = DEPTH - df.layer
    down = df[::-1].groupby(KEYS, sort=False)  # from the output to the input
    df["derivative"] = down.log10_derivative_factor.cumsum()
    df["weights"] = down.log10_weight_factor.cumsum()
    shown = df.layers_passed.isin(np.linspace(0, DEPTH, 9)[1:].astype(int))
    networks = df.groupby(KEYS, sort=False).apply(_summary, include_groups=False).reset_index()
    return {"networks": networks, "layers": df[[*KEYS, *PASSED]][shown]}


def _summary(layers: pd.DataFrame) -> pd.Series:
    window = layers[(layers.layer >= FIRST) & (layers.layer < LAST)]
    derivative = window.log10_derivative_factor
    found = {
        "log10_derivative": derivative.mean(),
        "log10_weight": window.log10_weight_factor.mean(),
        "log10_derivative_largest": layers.log10_derivative_factor.max(),
        "square_passed": (10 ** (2 * derivative)).mean(),
        "log10_over_count": (derivative - 0.5 * np.log10(window.active_fraction)).mean(),
    }
    return pd.Series(found)


def expected(activation: str, sigma_w: float, sigma_b: float) -> np.ndarray:
    """1/2 log10 E phi'^2, layer by layer, at infinite width: what the derivative does."""
    chi = study.theory.trajectory(activation, sigma_w, sigma_b, DEPTH).chi
    return 0.5 * np.log10(chi / sigma_w**2)


def _mean(activation: str, of):
    """Judge: mean over seeds of what is made of the networks of random inputs, {scale: rows}."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        own = tables["networks"]
        own = own[(own.inputs == "random") & (own.activation == activation)]
        values = of({scale: rows.set_index("seed") for scale, rows in own.groupby("scale")})
        return bootstrap(values.rename("value").reset_index(), lambda f: float(f.value.mean()))

    return judge


def _farthest(off):
    """Judge: of (seed, networks) deviations, the largest mean over seeds in absolute value."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        wide = tables["networks"].pivot(index="seed", columns=KEYS[:-1])
        deviations = np.asarray(off(wide))
        frame = pd.DataFrame({"seed": wide.index, "row": range(len(wide))})
        return bootstrap(frame, lambda f: float(np.abs(deviations[f.row].mean(axis=0)).max()))

    return judge


def _largest(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: sigmoid's largest factor of all; one refutes what is said of each: no interval."""
    own = tables["networks"].query("activation == 'sigmoid'")
    worst = float(own.log10_derivative_largest.max())
    return Estimate(worst, worst, worst, own.seed.nunique())


def _beyond_theory(wide: pd.DataFrame) -> np.ndarray:
    nets = wide.log10_derivative.columns
    derivative = [expected(net[1], *net[3:])[FIRST:LAST].mean() for net in nets]
    weight = np.log10(nets.get_level_values("sigma_w"))
    return np.hstack([wide.log10_derivative - derivative, wide.log10_weight - weight])


def _images_beyond_random(wide: pd.DataFrame) -> np.ndarray:
    growth = wide.log10_derivative + wide.log10_weight
    return growth["digits"] - growth["random"]


def _growth(rows: pd.DataFrame) -> pd.Series:
    return rows.log10_derivative + rows.log10_weight


CALLED = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}

CLAIMS = [
    Claim(
        "sigmoid's derivative takes a factor of four",
        "Sigmoid: log10 of the largest factor ‖dC/dz‖ / ‖dC/dr‖ of any layer, weight scale, input "
        "and seed; below log10 of 1/4.",
        below(float(np.log10(0.25))),
        _largest,
        about="A",
    ),
    Claim(
        "ReLU's derivative lets half of the square through",
        "ReLU at its critical scale: share of the gradient's square that passes a layer; within "
        "0.49 to 0.51.",
        within(0.49, 0.51),
        _mean("relu", lambda at: at[1.0].square_passed),
        about="A",
    ),
    Claim(
        "ReLU's derivative counts active units",
        "ReLU at its critical scale: decades by which its factor differs from the square root of "
        "the share of active units; within 1 % of a factor.",
        within(-CLOSE, CLOSE),
        _mean("relu", lambda at: at[1.0].log10_over_count),
        about="A",
    ),
    *[
        Claim(
            f"the weights pay back what {called}'s derivative takes",
            f"{called} at its critical scale, sigma_w = {CRITICAL[name]:.6g}: decades that the "
            "weights give beside those that the derivative takes; within 5 % of 1.",
            within(0.95, 1.05),
            _mean(name, lambda at: -at[1.0].log10_weight / at[1.0].log10_derivative),
            about="B",
        )
        for name, called in CALLED.items()
    ],
    *[
        Claim(
            f"{called}'s derivative alone decides",
            f"{called}: 1 where the gradient does the same, vanish or explode, at half and at "
            "twice the critical scale, -1 where not; above 0.",
            above(0),
            _mean(name, lambda at: np.sign(_growth(at[0.5]) * _growth(at[2.0]))),
            about="saying",
        )
        for name, called in CALLED.items()
    ],
    Claim(
        "larger weights make sigmoid's derivative take more",
        "Sigmoid: decades per layer of the derivative at twice the critical scale less those at "
        "half of it; below 0.",
        below(0),
        _mean("sigmoid", lambda at: at[2.0].log10_derivative - at[0.5].log10_derivative),
    ),
    Claim(
        "both factors are mean field's",
        "All activations, scales and inputs: decades per layer between the derivative's factor and "
        "1/2 log10 E phi'^2, or the weights' and sigma_w, the largest; below 5 % of a factor.",
        below(ROUGHLY),
        _farthest(_beyond_theory),
    ),
    Claim(
        "images do not change the balance",
        "All activations and scales: decades per layer on MNIST digits less those on random "
        "inputs, paired by seed, the largest mean; below 5 % of a factor.",
        below(ROUGHLY),
        _farthest(_images_beyond_random),
    ),
]


def figure(tables: dict[str, pd.DataFrame]):
    """Decades taken and given on the way down: a row an activation, a column a weight scale."""
    layers = tables["layers"].assign(both=lambda t: t.derivative + t.weights)
    points, lines, parts = [], [], [*PASSED[1:], "both"]
    for key, own in layers.groupby(["inputs", *NET, "layers_passed"], sort=False):
        for part in parts:
            found = median_interval(own[part])
            points.append((*key, part, found.value, found.low, found.high))
    for net in layers[NET].drop_duplicates().itertuples(index=False):
        derivative = expected(net.activation, net.sigma_w, net.sigma_b)[::-1].cumsum()
        weights = np.log10(net.sigma_w) * np.arange(1, DEPTH + 1)
        for part, values in zip(parts, (derivative, weights, derivative + weights), strict=True):
            lines += [(*net, k + 1, part, value) for k, value in enumerate(values)]
    columns = [*NET, "layers_passed", "part", "value"]
    pays = [verdict(c.judge(tables), c.threshold) for c in CLAIMS if "pay back" in c.name]
    return derivative_and_weights(
        pd.DataFrame(points, columns=["inputs", *columns, "low", "high"]),
        pd.DataFrame(lines, columns=columns),
        "What the derivative takes, the weights "
        + ("pay back" if set(pays) == {"supported"} else "do not always pay back")
        + " at each activation's critical scale",
        "Decades of gradient norm, summed over the layers passed: ▼ dashed, what the derivative "
        "did, log10 ‖dC/dz‖ / ‖dC/dr‖; ▲ dotted, what the weights did; ● both.\nMarks: median of "
        f"{layers.seed.nunique()} seeds with its 95 % interval, width {WIDTH}, Gaussian weights; "
        "filled: random inputs, open: MNIST digits, squared error; biases for tanh alone, σ_b² = "
        "0.05.\nLines, mean-field theory, no free offset: ½ log10 E φ'², log10 σ_w, their sum.",
    )
