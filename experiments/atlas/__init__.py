"""An atlas: networks by activation, weight scale, depth, width and weight law, layer by layer.

The tables hold medians over all seeds. ``gradient_norms`` holds the norms themselves of one seed,
at the critical scale, 1 and 2 (of every depth, width and law), in three layers.

Networks of ReLU, and linear ones, are walked at one scale, from which all others follow.

All are in float32, whose exponents are kept apart. Its rounding moves a median by up to 0.15
decades where ReLU and GELU are deepest, and by more where sigmoid is chaotic: another rounding
draws such a network anew, by the same law.

Matrices of uniform weights have to be drawn, at a hundred times the cost of the other laws. These
networks have `UNIFORM` seeds: the fewest with which half the interval of what tells them from
Gaussian ones, of 99 %, is within the claim's threshold.
"""

from collections.abc import Callable
from itertools import chain, product

import numpy as np
import pandas as pd

import study
from experiments.atlas.profiles import expected_norms, middle, profiled, told_apart
from study.plot.floats import FLOAT32_DECADES
from study.records.norms import gradient_norms, thinned
from study.runs.experiment import Experiment
from study.statistics.claims import Claim, Estimate, above, below
from study.statistics.estimators import resampled
from study.statistics.summaries import running_factors

# Round numbers around each activation's critical scale, and that scale.
SCALES = {
    "relu": [0.5, 0.7, 1.0, 1.2, 1.3, 2**0.5, 1.5, 1.6, 1.8, 2.0, 2.8, 4.0],
    "sigmoid": [1.0, 2.0, 4.0, 6.0, 8.0, 9.0, 10.149264, 11.0, 12.0, 15.0, 20.0, 30.0],
    "tanh": [0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0],
    "linear": [0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0],
    "selu": [0.2, 0.3, 0.5, 0.6, 0.690486, 0.75, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0],
    "gelu": [0.5, 0.7, 1.0, 1.2, 1.3, 1.4, 1.468011, 1.5, 1.6, 1.8, 2.0, 4.0],
}
LAWS = ("gaussian", "orthogonal", "uniform")
CRITICAL = {name: study.theory.critical_sigma_w(name) for name in SCALES}
SHOWN = 13  # layers of a profile
MEASURED = ["log10_grad_norm", "derivative", "weights"]  # the latter two summed from the output
TOGETHER = 6  # seeds, whose frame of all layers fits a small machine's memory
SEED = 2000
UNIFORM = 12
RECORDED = (1.0, 2.0)  # and the critical scale: of these, the gradient norms of the first seed
AWAY = 1.2  # a factor of the critical scale
VANISHES = -3.0  # decades
RIGHT = 2 / 3  # of all guesses


def cells(pick: slice, depths: list[int], widths: list[int], seeds: int) -> list[dict]:
    """Networks of a width and a law a cell, of one activation, numbered from ``first`` on."""
    kinds = [[[name, sigma_w] for sigma_w in scales[pick]] for name, scales in SCALES.items()]
    # Uniform weights are drawn, once for all activations: what takes longest comes first.
    groups = [(width, LAWS[2], [*chain(*kinds)]) for width in widths[::-1]]
    groups += product(widths[::-1], LAWS[:2], kinds)
    rows = []
    first = 0
    for width, law, group in groups:
        cell = {"width": width, "weights": law, "first": first, "kinds": group}
        count = min(seeds, UNIFORM) if law == "uniform" else seeds
        rows.append(cell | {"depths": depths, "seeds": [*range(SEED, SEED + count)]})
        first += len(group) * len(depths)
    return rows


def measure(
    width: int, weights: str, first: int, kinds: list[list], depths: list[int], seeds: list[int]
) -> dict[str, pd.DataFrame]:
    """Profile networks of one width and law, and keep what stands for all."""
    nets = {
        first + place: study.Network(name, depth, width, sigma_w, weights=weights, dtype="float32")
        for place, ((name, sigma_w), depth) in enumerate(product(kinds, depths))
    }
    shown, norms = layer_by_layer(nets, seeds)
    # Of the layer next to the input: the sums of all factors.
    ends = shown[shown.layer == 0].assign(log10_gain=lambda rows: rows.derivative + rows.weights)
    networks = pd.DataFrame({"network": [*nets]})
    for name in ("activation", "sigma_w", "depth", "width", "weights"):
        networks[name] = [getattr(net, name) for net in nets.values()]
    networks["n_seeds"] = len(seeds)
    # Network by network, as above.
    networks["gain"] = ends.groupby("network").log10_gain.median().to_numpy()
    deepest = ends[ends.network.isin(networks.network[networks.depth == max(depths)])]
    deepest = deepest.rename(columns={"log10_grad_norm": "log10_first_norm"})
    by_network = shown.groupby("network")
    return {
        "networks": rounded(networks),
        "layers": rounded(pd.concat(of_layers(nets[at], rows) for at, rows in by_network)),
        "ends": rounded(deepest[["network", "seed", "log10_gain", "log10_first_norm"]]),
    } | norms


def layer_by_layer(
    nets: dict[int, study.Network], seeds: list[int]
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """What was measured in the layers that are shown, by network; and the norms that are kept."""
    kept = [
        number
        for number, net in nets.items()
        if np.isclose(net.sigma_w, [*RECORDED, CRITICAL[net.activation]]).any()
    ]
    shown = []
    norms = {}
    for start in range(0, len(seeds), TOGETHER):
        block = seeds[start : start + TOGETHER]
        # For one input dense for uniform weights alone.
        frame = profiled([*nets.values()], block)
        numbers = np.repeat([*nets], [len(block) * net.depth for net in nets.values()])
        if SEED in block:
            few = frame[(frame.seed == SEED) & np.isin(numbers, kept)]
            norms = {"gradient_norms": gradient_norms(few, 3)} if len(few) else {}
        sums = running_factors(frame).assign(network=numbers)
        shown.append(thinned(sums, SHOWN)[["network", "seed", "layer", *MEASURED]])
    return pd.concat(shown).sort_values("network", kind="stable"), norms


def of_layers(net: study.Network, rows: pd.DataFrame) -> pd.DataFrame:
    """What is known of a network, layer by layer, from its rows seed by seed."""
    at = rows.layer.unique()
    median, low, high = middle(rows[MEASURED].to_numpy().reshape(-1, len(at), len(MEASURED)))
    table = {"network": rows.network.iloc[0], "layer": at}
    table |= {"median": median[:, 0], "low": low[:, 0], "high": high[:, 0]}
    table |= {"derivative": median[:, 1], "weight": median[:, 2]}
    return pd.DataFrame(table | {"theory": expected_norms(net, at)})


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """What was measured to two decimals, without -0.0."""
    measured = table.select_dtypes("float64").drop(columns="sigma_w", errors="ignore")
    return table.assign(**(measured.round(2) + 0.0))


def deepest(tables: dict[str, pd.DataFrame], column: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The deepest networks, and a column of theirs: a row a seed, a column a network."""
    values = tables["ends"].pivot(index="seed", columns="network", values=column)
    return tables["networks"].set_index("network").loc[values.columns], values


def share(values: pd.DataFrame, holds: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    """The share of networks, the columns, of whose median over common seeds something holds."""
    return resampled(
        values.dropna(), lambda rows: holds(np.median(rows, axis=0)).mean(), resamples=500
    )


def sign_right(tables: dict[str, pd.DataFrame]) -> Estimate:
    """The share of networks away from the critical scale whose gradient does as the phase says."""
    networks, gains = deepest(tables, "log10_gain")
    critical = networks.activation.map(CRITICAL)
    away = (np.abs(np.log(networks.sigma_w / critical)) > np.log(AWAY)).to_numpy()
    explodes = (networks.sigma_w > critical).to_numpy()[away]
    return share(gains.loc[:, away], lambda medians: (medians > 0) == explodes)


def shown_as_zero(tables: dict[str, pd.DataFrame]) -> Estimate:
    """The share of vanishing networks whose first gradient is below float32's range."""
    networks, norms = deepest(tables, "log10_first_norm")
    vanishing = (networks.gain < VANISHES).to_numpy()
    return share(norms.loc[:, vanishing], lambda medians: medians < FLOAT32_DECADES[0])


def farthest_from_theory(tables: dict[str, pd.DataFrame]) -> Estimate:
    """The largest distance of a median from theory, in the widest networks of up to 100 layers."""
    networks = tables["networks"]
    networks = networks[(networks.width == networks.width.max()) & (networks.depth <= 100)]
    layers = tables["layers"].merge(networks[["network"]])
    farthest = float((layers["median"] - layers.theory).abs().max())
    # No interval: one network refutes what is said of every one.
    return Estimate(farthest, farthest, farthest, tables["ends"].seed.nunique())


def gains_under(tables: dict[str, pd.DataFrame], law: str) -> pd.DataFrame:
    """The gains under a law, a row a seed; columns of the same place are alike under every law."""
    networks, gains = deepest(tables, "log10_gain")
    networks = networks.reset_index().sort_values(["activation", "sigma_w", "width"])
    return gains[networks.network[networks.weights == law]].dropna()


def spread_ratio(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Orthogonal over Gaussian: the ratio of the spreads of a network's gain, the median of all."""
    # Seeds are resampled together.
    both = [gains_under(tables, law) for law in ("gaussian", "orthogonal")]

    def ratio(gain: np.ndarray) -> float:
        _, low, high = middle(gain)
        of_gaussian, of_orthogonal = np.split(high - low, 2)
        return np.median(of_orthogonal / of_gaussian)

    return resampled(pd.concat(both, axis=1), ratio, resamples=500)


def uniform_from_gaussian(tables: dict[str, pd.DataFrame]) -> Estimate:
    """How well the gains tell uniform weights from Gaussian ones."""
    uniform = gains_under(tables, "uniform")
    gaussian = gains_under(tables, "gaussian").loc[uniform.index]
    return told_apart(uniform.to_numpy(), gaussian.to_numpy())  # place by place


def figure(tables: dict[str, pd.DataFrame]):
    """The gradient's norm layer by layer: ReLU's profile is level, sigmoid's itself falls.

    Norm of the gradient of the weights against the layer, 100 layers, one curve a weight scale.
    Marks: median of 20 seeds with its 95 % interval, Gaussian weights, random inputs. Lines: what
    theory expects at this width. Shaded: beyond the normal range of float32. All other networks of
    the atlas are in the explorer.
    """
    networks = tables["networks"]
    widths = sorted(networks.width.unique())
    shown = networks[
        networks.activation.isin(["relu", "sigmoid", "tanh", "linear"])
        & networks.sigma_w.isin([0.5, 1.0, 2**0.5, 2.0, 4.0, 12.0])
        & (networks.width == widths[len(widths) // 2])
        & (networks.weights == "gaussian")
        & (networks.depth == networks.depth[networks.depth <= 100].max())
    ]
    layers = tables["layers"].merge(shown, on="network")
    return study.plot.profile(
        layers.rename(columns={"median": "log10_grad_norm"}), hue="sigma_w", col="activation",
        interval=("low", "high"), theory=layers.rename(columns={"theory": "log10_grad_norm"}),
        height=2.3,
    ).figure  # fmt: skip


_MIDDLE = "of the seeds' middle 80 %"
_NORM = "of log10 ‖dC/dW^(layer)‖"

experiment = Experiment(
    question="What does the gradient do, layer by layer, in any of these networks?",
    grid={
        "quick": cells(slice(1, None, 4), [10, 100], [16, 64], 8),
        "paper": cells(slice(None), [10, 30, 100, 300, 1000], [64, 256, 1024], 20),
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="the phase tells the sign",
            statement=f"Share of the deepest networks with sigma_w more than a factor of {AWAY} "
            "from the critical one, all widths and laws, whose median gradient grows on its way "
            "down where sigma_w is above it, and shrinks where below; above 0.99.",
            threshold=above(0.99),
            judge=sign_right,
            about="B2",
        ),
        Claim(
            name="float32 shows zeros that are none",
            statement="Share of the deepest networks that lose more than three decades, whose "
            "first layer's median gradient norm is below float32's normal range, where a plain run "
            "ends at 0; above one half.",
            threshold=above(0.5),
            judge=shown_as_zero,
        ),
        Claim(
            name="wide and shallow networks are where theory says",
            statement="The largest distance, in decades, of a median gradient norm from theory "
            "without a free offset, in any layer of the widest networks up to 100 layers deep; "
            "below 0.5.",
            threshold=below(0.5),
            judge=farthest_from_theory,
        ),
        Claim(
            name="orthogonal weights make seeds more alike",
            statement="Middle 80 % of seeds of the decades gained in the deepest networks, "
            "orthogonal over Gaussian weights, the median of all pairs of networks; below 0.8.",
            threshold=below(0.8),
            judge=spread_ratio,
        ),
        Claim(
            name="uniform and Gaussian weights of one variance are hardly told apart",
            statement="How well the decades gained tell a deepest network of uniform weights from "
            "one of Gaussian weights of the same variance: (2P - 1)^2, where P is the chance that "
            "the first gains more; the mean of all pairs of networks, without bias, 0 where only "
            "the variance counts; below 1/9, two right guesses in three.",
            threshold=below((2 * RIGHT - 1) ** 2),
            judge=uniform_from_gaussian,
        ),
    ],
    columns={
        "network": "which network, a row of the table networks [-]",
        "n_seeds": "seeds behind the row [seeds]",
        "gain": "‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖, what the gradient gained from output to input, "
        "median over the seeds, rounded to 0.01 [log10]",
        "median": f"median over the seeds {_NORM}, rounded to 0.01; a random unit gradient at the "
        "output, one standard normal input [log10]",
        "low": f"lower end {_MIDDLE} {_NORM}, rounded to 0.01 [log10]",
        "high": f"upper end {_MIDDLE} {_NORM}, rounded to 0.01 [log10]",
        "derivative": "log10_derivative_factor summed from the output down to this layer, its own "
        "included, median over the seeds, rounded to 0.01 [log10]",
        "weight": "log10_weight_factor summed likewise, median over the seeds, rounded to 0.01 "
        "[log10]",
        "theory": f"what theory expects {_NORM}, no free offset: for relu and linear the exact "
        "law's median at this width, of Gaussian or orthogonal weights, for uniform ones that of "
        "Gaussian, moved by their kurtosis to second order in 1 / width; else mean field of "
        "infinite width, the same for all laws; rounded to 0.01 [log10]",
        "log10_gain": "‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖, of the deepest networks, rounded to 0.01 "
        "[log10]",
        "log10_first_norm": "‖dC/dW^(0)‖, of the deepest networks, rounded to 0.01 [log10]",
    },
    version=4,
)
