"""An atlas: networks by activation, weight scale, depth, width and weight law, layer by layer."""

from itertools import product

import numpy as np
import pandas as pd

import study
from experiments.atlas.profiles import expected_norms, middle, shown_layers, told_apart
from study.plot.floats import FLOAT32_DECADES
from study.runs.experiment import Experiment
from study.statistics.claims import Claim, Estimate, above, below, bootstrap_over_seeds
from study.statistics.estimators import worst

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
NEAR = 6  # layers near either end of a profile
SEED = 2000


def _cells(pick: slice, depths: list[int], widths: list[int], seeds: int) -> list[dict]:
    """An activation, a width and a law a cell; its networks are numbered from ``first`` on."""
    asked = [*product(SCALES, widths, LAWS[:2])]
    # Uniform weights are drawn, which takes longest where wide: first, to share out well.
    asked += [(name, width, LAWS[2]) for width in widths[::-1] for name in SCALES]
    cells, first = [], 0
    for activation, width, law in asked:
        net = {"activation": activation, "width": width, "weights": law, "first": first}
        scales = SCALES[activation][pick]
        more = {"scales": scales, "depths": depths}
        cells.append({**net, **more, "seeds": [*range(SEED, SEED + seeds)]})
        first += len(scales) * len(depths)
    return cells


_MIDDLE = "of the seeds' middle 80 %"
_NORM = "of log10 ‖dC/dW^(layer)‖"


def measure(
    activation: str,
    width: int,
    weights: str,
    first: int,
    scales: list[float],
    depths: list[int],
    seeds: list[int],
) -> dict[str, pd.DataFrame]:
    """Profile networks of one activation, width and law, and keep what stands for all."""
    asked = [
        study.Network(activation, depth, width, sigma, weights=weights)
        for sigma in scales
        for depth in depths
    ]
    df = study.profile(asked, seeds)  # for one input: dense for uniform weights alone
    kept = ("log10_grad_norm", "log10_derivative_factor", "log10_weight_factor")
    columns = df[[*kept]].to_numpy()
    networks, layers, ends = [], [], []
    for number, net in enumerate(asked, first):
        own, columns = np.split(columns, [len(seeds) * net.depth])
        norm, *factors = own.reshape(len(seeds), net.depth, 3).transpose(2, 0, 1)
        # 0 / 0 beneath a true zero, which is itself a factor, -inf.
        known = [np.where(np.isnan(f), 0.0, f) for f in factors]
        phi, weight = (np.cumsum(f[:, ::-1], axis=1)[:, ::-1] for f in known)
        gain = (phi + weight)[:, 0]
        about = {"activation": activation, "sigma_w": net.sigma_w, "depth": net.depth}
        about |= {"width": width, "weights": weights, "n_seeds": len(seeds)}
        networks.append({"network": number, **about, "gain": float(middle(gain)[0])})
        at = shown_layers(net.depth, NEAR)
        median, low, high = middle(norm[:, at])
        rows = {"network": number, "layer": at, "median": median, "low": low, "high": high}
        rows |= {"derivative": middle(phi[:, at])[0], "weight": middle(weight[:, at])[0]}
        rows["theory"] = expected_norms(activation, net.sigma_w, net.depth, width, weights, at)
        layers.append(pd.DataFrame(rows))
        if net.depth == max(depths):
            found = {"network": number, "seed": seeds, "log10_gain": gain}
            ends.append(pd.DataFrame({**found, "log10_first_norm": norm[:, 0]}))
    tables = {"networks": pd.DataFrame(networks)}
    tables |= {"layers": pd.concat(layers), "ends": pd.concat(ends)}
    return {name: _rounded(table) for name, table in tables.items()}


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    measured = [name for name in table.select_dtypes("float64") if name != "sigma_w"]
    return table.assign(**{name: table[name].round(2) + 0.0 for name in measured})  # no -0.0


def _wide(tables: dict[str, pd.DataFrame], column: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The deepest networks, and their ends: a row a seed, a column a network."""
    ends = tables["ends"].pivot(index="seed", columns="network", values=column)
    return tables["networks"].set_index("network").loc[ends.columns], ends


def _over_seeds(ends: pd.DataFrame, statistic) -> Estimate:
    """A statistic of the array (seeds, networks), seeds resampled."""
    values, frame = ends.to_numpy(), pd.DataFrame({"seed": ends.index, "row": range(len(ends))})
    return bootstrap_over_seeds(frame, lambda f: float(statistic(values[f["row"]])), resamples=500)


def _sign_right(tables: dict[str, pd.DataFrame]) -> Estimate:
    about, gains = _wide(tables, "log10_gain")
    critical = about.activation.map(study.theory.critical_sigma_w)
    away = (np.abs(np.log(about.sigma_w / critical)) > np.log(AWAY)).to_numpy()
    explodes = (about.sigma_w > critical).to_numpy()[away]

    def share(gain: np.ndarray) -> float:
        return np.mean((np.median(gain, axis=0) > 0) == explodes)

    return _over_seeds(gains.loc[:, away], share)


def _zeros(tables: dict[str, pd.DataFrame]) -> Estimate:
    about, norms = _wide(tables, "log10_first_norm")
    vanishing = (about.gain < VANISHES).to_numpy()

    def share(norm: np.ndarray) -> float:
        return np.mean(np.median(norm, axis=0) < FLOAT32_DECADES[0])

    return _over_seeds(norms.loc[:, vanishing], share)


def _farthest_from_theory(tables: dict[str, pd.DataFrame]) -> Estimate:
    """The largest distance of a median from theory, in the widest networks of up to 100 layers."""
    about = tables["networks"]
    about = about[(about.width == about.width.max()) & (about.depth <= 100)]
    own = tables["layers"].merge(about[["network"]])
    return worst((own["median"] - own.theory).abs(), tables["ends"].seed)


def _pairs(tables: dict[str, pd.DataFrame], *laws: str) -> list[pd.DataFrame]:
    """The gains under each law, a row a seed; networks of the same place in each are alike else."""
    about, gains = _wide(tables, "log10_gain")
    order = about.reset_index().sort_values(["activation", "sigma_w", "width"])
    return [gains[order.network[order.weights == law]] for law in laws]


def _spread_ratio(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Orthogonal over Gaussian: the ratio of the spreads of a network's gain, the median of all."""
    gaussian, orthogonal = _pairs(tables, "gaussian", "orthogonal")

    def ratio(gain: np.ndarray) -> float:
        _, low, high = middle(gain)
        of_gaussian, of_orthogonal = np.split(high - low, 2)
        return np.median(of_orthogonal / of_gaussian)

    return _over_seeds(pd.concat([gaussian, orthogonal], axis=1), ratio)


def _uniform_from_gaussian(tables: dict[str, pd.DataFrame]) -> Estimate:
    return told_apart(*(own.to_numpy() for own in _pairs(tables, "uniform", "gaussian")))


AWAY = 1.2  # a factor of the critical scale
VANISHES = -3.0  # decades
RIGHT = 2 / 3  # of all guesses


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


experiment = Experiment(
    question="What does the gradient do, layer by layer, in any of these networks?",
    grid={
        "quick": _cells(slice(1, None, 4), [10, 100], [16, 64], 10),
        "paper": _cells(slice(None), [10, 30, 100, 300, 1000], [64, 256, 1024], 20),
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(name=name, statement=statement, threshold=threshold, judge=judge, about=about)
        for name, about, threshold, judge, statement in (
            (
                "the phase tells the sign",
                "B",
                above(0.99),
                _sign_right,
                f"Share of the deepest networks with sigma_w more than a factor of {AWAY} from the "
                "critical one, all widths and laws, whose median gradient grows on its way down "
                "where sigma_w is above it, and shrinks where below; above 0.99.",
            ),
            (
                "float32 shows zeros that are none",
                "",
                above(0.5),
                _zeros,
                "Share of the deepest networks that lose more than three decades, whose first "
                "layer's median gradient norm is below float32's normal range, where a plain run "
                "ends at 0; above one half.",
            ),
            (
                "wide and shallow networks are where theory says",
                "",
                below(0.5),
                _farthest_from_theory,
                "The largest distance, in decades, of a median gradient norm from theory without a "
                "free offset, in any layer of the widest networks up to 100 layers deep; below "
                "0.5.",
            ),
            (
                "orthogonal weights make seeds more alike",
                "",
                below(0.8),
                _spread_ratio,
                "Middle 80 % of seeds of the decades gained in the deepest networks, orthogonal "
                "over Gaussian weights, the median of all pairs of networks; below 0.8.",
            ),
            (
                "only the variance of the weights counts",
                "",
                below((2 * RIGHT - 1) ** 2),
                _uniform_from_gaussian,
                "How well the decades gained tell a deepest network of uniform weights from one of "
                "Gaussian weights of the same variance: (2P - 1)^2, where P is the chance that the "
                "first gains more; the mean of all pairs of networks, without bias, 0 where only "
                "the variance counts; below 1/9, two right guesses in three.",
            ),
        )
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
)
