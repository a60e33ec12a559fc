"""How the gradient decays or grows on its way down networks of 10 to 10,000 layers."""

import numpy as np
import pandas as pd

import study
from study.runs.experiment import Experiment
from study.sampling import digits
from study.statistics.claims import Claim, Estimate, above, below, median_interval, within

SCALES = [0.5, 1.0, 2**0.5, 2.0, 4.0, 10.149264]
NETS = [[name, s] for name in ("relu", "sigmoid", "tanh", "linear") for s in SCALES]
NETS[NETS.index(["sigmoid", 2.0])] = ["sigmoid", 16.0]  # 10.149264 is its critical scale
WIDTH = 256
IMAGES = 4  # a network
SHOWN = 25  # layers of a profile


_SEEDS = "of ‖dC/dr^(layer)‖ / ‖dC/dr^(depth)‖ over the seeds"


def measure(
    inputs: str, nets: list[list], seeds: list[int], depths: list[int]
) -> dict[str, pd.DataFrame]:
    """Profile every network at every depth; random inputs give profiles layer by layer as well."""
    asked = [
        study.Network(activation=name, depth=depth, width=WIDTH, sigma_w=sigma)
        for name, sigma in nets
        for depth in depths
    ]
    if inputs == "random":
        df = study.profile(asked, seeds, engine="matrix_free")
    else:
        x, y = digits.sample(seeds[0], IMAGES)
        df = study.profile(asked, seeds, engine="dense", inputs=x, targets=y)
    both = df[["log10_derivative_factor", "log10_weight_factor"]]
    factors = both.fillna(0.0).sum(axis=1).to_numpy()  # 0 / 0 beneath a true zero, itself -inf
    networks, layers = [], []
    for net in asked:
        own, factors = np.split(factors, [len(seeds) * net.depth])
        # Column d - 1: from the output d layers down.
        down = np.cumsum(own.reshape(len(seeds), net.depth)[:, ::-1], axis=1)
        about = {"inputs": inputs, "activation": net.activation, "sigma_w": net.sigma_w}
        about |= {"depth": net.depth, "width": net.width}
        networks.append(pd.DataFrame(about | {"seed": seeds, "log10_decay": down[:, -1]}))
        if net.depth == max(depths) and inputs == "random":
            for d in np.unique(np.geomspace(1, net.depth, SHOWN).round().astype(int)):
                found = median_interval(down[:, d - 1])
                numbers = {"low": found.low, "median": found.value, "high": found.high}
                layers.append({**about, "layer": net.depth - d, **numbers})
    made = {"networks": pd.concat(networks), "layers": pd.DataFrame(layers)}
    return {name: table for name, table in made.items() if len(table)}


def _of(tables: dict, inputs: str, activation: str, sigma_w: float, depth: int = 0):
    """The networks of a kind at that depth, or the largest."""
    own = tables["networks"].query("inputs == @inputs and activation == @activation")
    return own[(own.sigma_w == sigma_w) & (own.depth == (depth or own.depth.max()))]


def _gain(activation: str, sigma_w: float):
    """Judge: the median decay of random inputs at the largest depth."""
    return lambda tables: median_interval(_of(tables, "random", activation, sigma_w).log10_decay)


def _rate(tables: dict[str, pd.DataFrame]) -> Estimate:
    own = _of(tables, "random", "sigmoid", 1.0)
    return median_interval(own.log10_decay / own.depth)


def _digits_minus_random(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Two groups of seeds that share nothing: each interval at 97.5 %, so 95 % together."""
    a = _of(tables, "digits", "sigmoid", 1.0)
    b = _of(tables, "random", "sigmoid", 1.0, a.depth.max())
    a, b = (median_interval(own.log10_decay / own.depth, level=0.975) for own in (a, b))
    return Estimate(a.value - b.value, a.low - b.high, a.high - b.low, min(a.n, b.n))


RATE = 0.5 * np.log10(study.theory.mean_field("sigmoid", 1.0).chi)
GAIN = "median decades the gradient gains on its way down the deepest network"


COMPARED = [1.0, 2**0.5, 4.0, 10.149264]  # scales at which all were measured


def figure(tables: dict[str, pd.DataFrame]):
    """What reaches the input of networks of up to 100 layers, at equal weights.

    Decades of the gradient's norm gained from the output to the input, at four weight scales that
    all activations share. Marks: median over seeds with its 95 % interval, random inputs. Lines, no
    free offset: for ReLU and linear the median of the exact law at this width, for sigmoid and tanh
    mean-field theory. Shaded: beyond the normal range of float32, where a plain run shows 0 or inf.
    Deeper networks go on as straight: the same slope holds over 10,000 layers.
    """
    networks = tables["networks"]
    shown = networks[(networks.inputs == "random") & (networks.depth <= 100)]
    shown = shown[shown.sigma_w.isin(COMPARED)]
    return study.plot.depth(
        shown, "log10_decay", hue="activation", col="sigma_w", theory=True, height=2.3
    ).figure


experiment = Experiment(
    question="How much of the gradient reaches the input, by activation, weight scale and depth?",
    grid={
        preset: [
            # Random inputs: a network a cell, with all seeds. Digits: all on one seed's matrices.
            *(
                {"inputs": "random", "nets": [n], "seeds": [*range(many)], "depths": d}
                for n in NETS
            ),
            *(
                {"inputs": "digits", "nets": NETS, "seeds": [1000 + i], "depths": less}
                for i in range(few)
            ),
        ]
        for preset, many, d, few, less in (
            ("quick", 16, [10, 30, 100, 300], 3, [10, 30, 100]),
            ("paper", 64, [10, 30, 100, 300, 1000, 10000], 10, [10, 30, 100, 300, 1000]),
        )
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(name=name, statement=statement, threshold=threshold, judge=judge, about=about)
        for name, about, threshold, judge, statement in (
            (
                "sigmoid vanishes as mean field says",
                "",
                within(1.02 * RATE, 0.98 * RATE),
                _rate,
                "Sigmoid at sigma_w = 1: decades of gradient norm per layer, median over seeds; "
                "within 2 % of 1/2 log10 chi.",
            ),
            *(
                (
                    f"weights alone make {name} {fate}",
                    "B",
                    beyond,
                    _gain(name.lower(), sigma),
                    f"{name} at sigma_w = {sigma}: {GAIN}; outside float32's range.",
                )
                for name, sigma, fate, beyond in (
                    ("ReLU", 1, "vanish", below(-38)),
                    ("ReLU", 2, "explode", above(38)),
                    ("sigmoid", 16, "explode", above(38)),
                )
            ),
            (
                "He initialisation preserves the gradient",
                "saying",
                within(-1, 1),
                _gain("relu", 2**0.5),
                f"ReLU at sigma_w = sqrt 2: {GAIN}; within a factor of ten.",
            ),
            (
                "images do not change the rate",
                "",
                within(-0.01, 0.01),
                _digits_minus_random,
                "Sigmoid at sigma_w = 1: median decades per layer on MNIST digits less those on "
                "random inputs, in networks of equal depth with seeds of their own.",
            ),
        )
    ],
    columns={
        "inputs": "random: one standard normal input and a random unit cotangent at the output, by "
        "the matrix-free engine; digits: MNIST images and the squared-error cost, by the dense "
        "engine [-]",
        "log10_decay": "‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖: the part of the gradient that reaches the "
        "input, the sum of all factors [log10]",
        "median": f"median {_SEEDS} [log10]",
        "low": f"lower end of the 95 % interval of the median {_SEEDS} [log10]",
        "high": f"upper end of the 95 % interval of the median {_SEEDS} [log10]",
    },
)
