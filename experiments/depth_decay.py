"""How the gradient decays or grows on its way down networks of 10 to 3,000 layers."""

import numpy as np
import pandas as pd

import study
from study import images
from study.claims import Claim, Estimate, above, below, median_interval, within
from study.plotting.depth import decades_against_depth

QUESTION = "How much of the gradient reaches the input, by activation, weight scale and depth?"

ACTIVATIONS = ["relu", "sigmoid", "tanh", "linear"]
SCALES = [0.5, 1.0, 2**0.5, 2.0, 4.0, 10.149264]
INPUTS = {"random": "random inputs", "digits": "MNIST digits, squared error"}
WIDTH = 128
BATCH = {"random": 1, "digits": 8}

GRID = {
    preset: [
        {"inputs": inputs, "seed": seed, "batch": batch, "depths": depths}
        for inputs, batch in BATCH.items()
        for seed in range(seeds)
    ]
    for preset, seeds, depths in (
        ("quick", 6, [10, 30, 100, 300]),
        ("paper", 20, [10, 30, 100, 300, 1000, 3000]),
    )
}

COLUMNS = {
    "inputs": "random: one standard normal input and a random unit cotangent at the output; "
    "digits: 8 MNIST images and the squared-error cost [-]",
    "log10_decay": "‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖: the part of the gradient that reaches the "
    "input, the sum of all factors [log10]",
    "log10_grad_norm_first": "Frobenius norm of dC/dW^(0) [log10]",
    "log10_grad_norm_last": "Frobenius norm of dC/dW^(depth-1) [log10]",
    "status_first": "what a plain run would have seen of the norm of dC/dW^(0) [-]",
    "layers_lost_float32": "layers whose gradient norm is outside float32's normal range [layers]",
    "layers_lost_float64": "layers whose gradient norm is outside float64's normal range [layers]",
}

CELL = ["activation", "sigma_w", "depth"]


def measure(inputs: str, seed: int, batch: int, depths: list[int]) -> dict[str, pd.DataFrame]:
    """Profile every activation, scale and depth of one seed, all on the same weights."""
    nets = [
        study.Network(activation=name, depth=depth, width=WIDTH, sigma_w=sigma)
        for name in ACTIVATIONS
        for sigma in SCALES
        for depth in depths
    ]
    x, y = images.sample(seed, batch) if inputs == "digits" else (None, None)
    df = study.profile(nets, [seed], batch=batch, engine="dense", inputs=x, targets=y)
    df.insert(0, "inputs", inputs)
    deepest = df[df.depth == max(depths)]
    shown = np.unique(np.linspace(0, max(depths) - 1, 31).round().astype(int))
    return {
        "networks": df.groupby(["inputs", *CELL, "width", "seed"], sort=False)
        .apply(_summary, include_groups=False)
        .reset_index(),
        "layers": deepest[deepest.layer.isin(shown)],
    }


def _summary(layers: pd.DataFrame) -> pd.Series:
    first, last = layers.iloc[0], layers.iloc[-1]
    status = layers.status
    return pd.Series(
        {
            "log10_decay": (layers.log10_derivative_factor + layers.log10_weight_factor).sum(),
            "log10_grad_norm_first": first.log10_grad_norm,
            "log10_grad_norm_last": last.log10_grad_norm,
            "status_first": first.status,
            "layers_lost_float32": int((~status.isin(["ok", "dead"])).sum()),
            "layers_lost_float64": int(status.str.startswith("float64").sum()),
        }
    )


def expected_decay(activation: str, sigma_w: float, depth: int) -> float:
    """log10 of ‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖, as theory has it.

    ReLU and linear: the median of the exact law at this width. The others: an infinitely wide
    network, layer by layer.
    """
    if activation in ("relu", "linear"):
        widths = [WIDTH] * (depth + 1)
        law = study.theory.finite_width.backward_law(widths, activation, "gaussian", sigma_w)
        return float(law.median / 2 / np.log(10))
    chi = study.theory.trajectory(activation, sigma_w, 0.0, depth).chi
    return float(0.5 * np.log10(chi).sum())


def _per_layer(inputs: str, activation: str, sigma_w: float):
    """Judge: the median decay in decades per layer, at the largest depth."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        own = _of(tables["networks"], inputs, activation, sigma_w)
        return median_interval(own.log10_decay / own.depth)

    return judge


def _at_depth(inputs: str, activation: str, sigma_w: float, column: str = "log10_decay"):
    """Judge: the median of a column at the largest depth."""
    return lambda tables: median_interval(
        _of(tables["networks"], inputs, activation, sigma_w)[column]
    )


def _of(networks: pd.DataFrame, inputs: str, activation: str, sigma_w: float) -> pd.DataFrame:
    own = networks[(networks.inputs == inputs) & (networks.activation == activation)]
    return own[(own.sigma_w == sigma_w) & (own.depth == networks.depth.max())]


def _digits_minus_random(tables: dict[str, pd.DataFrame]) -> Estimate:
    a, b = (_of(tables["networks"], kind, "sigmoid", 1.0) for kind in ("digits", "random"))
    return median_interval((a.log10_decay.to_numpy() - b.log10_decay.to_numpy()) / a.depth.max())


SIGMOID_RATE = 0.5 * np.log10(study.theory.mean_field("sigmoid", 1.0).chi)

CLAIMS = [
    Claim(
        "sigmoid vanishes as mean field says",
        "Sigmoid at sigma_w = 1: decades of gradient norm per layer, median over seeds; within 2 % "
        "of 1/2 log10 chi.",
        within(1.02 * SIGMOID_RATE, 0.98 * SIGMOID_RATE),
        _per_layer("random", "sigmoid", 1.0),
    ),
    Claim(
        "weights alone make ReLU vanish",
        "ReLU at sigma_w = 1: decades the gradient gains on its way down the deepest network; "
        "below float32's range.",
        below(-38),
        _at_depth("random", "relu", 1.0),
    ),
    Claim(
        "weights alone make ReLU explode",
        "ReLU at sigma_w = 2: decades the gradient gains on its way down the deepest network; "
        "above float32's range.",
        above(38),
        _at_depth("random", "relu", 2.0),
    ),
    Claim(
        "He initialisation preserves the gradient",
        "ReLU at sigma_w = sqrt 2: decades the typical (median) gradient gains on its way down the "
        "deepest network; within a factor of ten.",
        within(-1, 1),
        _at_depth("random", "relu", 2**0.5),
    ),
    Claim(
        "images do not change the rate",
        "Sigmoid at sigma_w = 1: decades per layer on MNIST digits less those on random inputs, "
        "paired by seed.",
        within(-0.01, 0.01),
        _digits_minus_random,
    ),
]


def figure(tables: dict[str, pd.DataFrame]):
    """Decades against depth, a panel an activation, a row a kind of input."""
    networks = tables["networks"]
    points = []
    for key, own in networks.groupby(["inputs", *CELL], sort=False):
        median = median_interval(own.log10_decay)
        points.append((*key, median.value, median.low, median.high))
    points = pd.DataFrame(points, columns=["inputs", *CELL, "value", "low", "high"])
    lines = networks[CELL].drop_duplicates()
    lines = lines.assign(value=[expected_decay(*row) for row in lines.itertuples(index=False)])
    return decades_against_depth(
        points,
        lines,
        INPUTS,
        "The weight scale decides whether gradients vanish or explode, whichever the activation",
        "Decades gained by ‖dC/dr‖ from output to input, log10(‖dC/dr⁰‖ / ‖dC/dr^depth‖). Marks: "
        f"median over {networks.seed.nunique()} seeds with its 95 % order-statistic interval, "
        f"width {WIDTH}, Gaussian weights, no bias.\nLines, no free offset: for ReLU and linear "
        "the median of the exact law at this width; for sigmoid and tanh mean-field theory of "
        "infinite width, which great depth leaves.\nNumbers at the curves: σ_w.",
    )
