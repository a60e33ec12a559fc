"""Which networks gradient descent trains, on real digits, and where it takes their weights."""

import functools
import math

import numpy as np
import pandas as pd

import study
from study import gaussian, images
from study.claims import (
    Claim,
    Estimate,
    above,
    below,
    bootstrap_over_seeds,
    median_interval,
    verdict,
    within,
)
from study.plotting.training import trainability
from study.training import gaussian_weights, train

QUESTION = "How deep a network can be trained, from which weight scale, and where do weights go?"

WIDTH, BATCH, TRAIN, HELD_OUT = 64, 32, 4000, 300
CHANCE, TRAINED = 0.1, 0.55  # half way from chance to perfect
SHALLOW, DEEP = 10, 50
CRITICAL = {n: round(study.theory.critical_sigma_w(n), 9) for n in ("relu", "tanh", "sigmoid")}
SHARES = {"relu": [0.5, 0.5**0.5, 1, 1.25, 2], "tanh": [0.5, 0.8, 1, 1.25, 2]}
SHARES["sigmoid"] = [1 / CRITICAL["sigmoid"], 0.5, 1, 1.25, 2]
METHODS = {
    "momentum": {"optimiser": "momentum"},
    "clipped": {"optimiser": "momentum", "clip": 1.0},
    "adam": {"optimiser": "adam"},
}
# Half decades around what a pilot with another seed found best at 10 layers.
RATES = {
    "momentum": {"relu": [0.01, 0.003, 0.001], "sigmoid": [0.3, 0.1, 0.03]},
    "adam": {"relu": [0.003, 0.001, 0.0003], "sigmoid": [0.01, 0.003, 0.001]},
}
for grid in RATES.values():
    grid["tanh"] = grid["relu"]
RATES["clipped"] = RATES["momentum"]

GRID = {
    preset: [
        {"activation": name, "method": method, "depth": depth, "seed": seed, "steps": steps,
         "scales": [round(share * CRITICAL[name], 9) for share in shares]}
        for method in METHODS
        for depth in (depths if method == "momentum" else [SHALLOW])
        for name in CRITICAL
        for shares in [SHARES[name][::every] if method == "momentum" else [1, 2]]
        for seed in range(seeds)
    ]
    for preset, seeds, steps, depths, every in (
        ("quick", 2, 100, [SHALLOW, DEEP], 2),
        ("paper", 5, 150, [5, SHALLOW, 20, DEEP, 100, 300], 1),
    )
}  # fmt: skip

COLUMNS = {
    "method": "momentum (0.9); clipped: the same, its gradient's norm clipped at 1; adam [-]",
    "rate": "learning rate [1]",
    "status": "ok; or diverged: loss or gradient were no longer finite [-]",
    "steps": "steps taken [steps]",
    "chosen": "whether of the rates this one has the lowest train_loss; the largest where all "
    "diverged [-]",
    "train_loss": "cross-entropy, mean over the last 20 batches; inf where it diverged [nat]",
    "accuracy": f"share of {HELD_OUT} held-out digits told right; nan where it diverged [1]",
    "log10_weight_growth": "norm of all weights over what it was before training; where the run "
    "diverged, of the last finite weights [log10]",
    "spread_before": "largest over smallest ‖dC/dW^(k)‖ of the layers, before training [log10]",
    "spread_after": "the same after training; nan where it diverged [log10]",
    "active_after": "active_fraction after training, mean over the hidden layers; nan where it "
    "diverged [1]",
    "step": "steps taken so far [steps]",
    "loss": "cross-entropy of the next batch; nan at the step that failed [nat]",
}


def cost(activation, method, depth, seed, steps, scales) -> tuple[float, int]:
    """Core-seconds and bytes, about."""
    nets = len(scales) * len(RATES[method][activation])
    entries = nets * (depth * WIDTH**2 + 784 * WIDTH)
    seconds = 0.2 + 8.5e-9 * steps * nets * (depth + 4) * WIDTH**2
    return seconds, 4 * (6 * entries + 2 * nets * depth * BATCH * WIDTH)


def measure(
    activation: str, method: str, depth: int, seed: int, steps: int, scales: list[float]
) -> dict[str, pd.DataFrame]:
    """Train a network a scale and rate, all from the same unit weights and on the same batches."""
    pairs = [(sigma, rate) for sigma in scales for rate in RATES[method][activation]]
    nets = pd.DataFrame(pairs, columns=["sigma_w", "rate"])
    key, (x, classes) = gaussian.key(seed, "training"), images.digits()
    x, y = x.astype(np.float32), np.eye(10, dtype=np.float32)[classes]
    picked = np.random.default_rng(key).integers(TRAIN, size=(steps + 1, BATCH))
    widths = [x.shape[1], *[WIDTH] * (depth - 1), 10]
    course = train(
        gaussian_weights([key] * len(nets), widths, nets.sigma_w, "float32"),
        nets.rate,
        lambda step: (x[picked[step]], y[picked[step]]),
        steps,
        [activation] * (depth - 1) + ["linear"],
        held_out=(x[TRAIN : TRAIN + HELD_OUT], classes[TRAIN : TRAIN + HELD_OUT]),
        logged=[0, steps // 10, steps // 4, steps // 2, steps],
        layered=[0, steps // 2, steps] if depth <= DEEP else [0, steps],
        **METHODS[method],
    )
    log, layers = course.log, course.layers
    start = log.groupby("network").log10_weight_norm.transform("first")
    log["log10_weight_growth"] = log.log10_weight_norm - start
    last = log.drop_duplicates("network", keep="last").set_index("network")
    spread = layers.groupby(["step", "network"]).log10_grad_norm.agg(_spread)
    hidden = layers[(layers.layer < depth - 1) & (layers.step == steps)]
    loss = course.losses[-20:].mean(axis=0)
    nets = nets.assign(activation=activation, method=method, depth=depth, seed=seed)
    nets = nets[["activation", "method", "depth", "sigma_w", "seed", "rate"]]
    networks = nets.assign(
        status=course.networks.status,
        steps=course.networks.steps,
        train_loss=np.where(np.isnan(loss), np.inf, loss),
        accuracy=last.accuracy,
        log10_weight_growth=last.log10_weight_growth,
        spread_before=spread.get(0),
        spread_after=spread.get(steps),
        active_after=hidden.groupby("network").active_fraction.mean(),
    )
    chosen = networks.groupby("sigma_w").train_loss.idxmin()
    networks.insert(6, "chosen", networks.index.isin(chosen))
    networks = networks.astype({"spread_before": float, "spread_after": float})
    shown = np.linspace(0, depth - 1, 5).round().astype(int)
    layers = layers[layers.layer.isin(shown)]
    layers = nets.loc[chosen].merge(layers, left_index=True, right_on="network")
    return {
        "networks": networks,
        "course": nets.loc[chosen].merge(log, left_index=True, right_on="network")[
            [*nets.columns, "step", "loss", "accuracy", "log10_weight_growth"]
        ],
        "layers": layers[layers.sigma_w == CRITICAL[activation]][
            [*nets.columns, "step", "layer", "log10_grad_norm", "log10_weight_norm",
             "active_fraction"]
        ],
    }  # fmt: skip


def _spread(norms: pd.Series) -> float:
    return norms.max() - norms.min() if norms.max() > -np.inf else np.nan


@functools.cache
def reach(activation: str, sigma_w: float) -> float:
    """How deep a network can be trained by the rule of Schoenholz et al. 2017: 6 xi_c, in layers.

    In the ordered phase that is 6 xi_grad: without biases q may go to 0, where xi_c is infinite.
    """
    field = study.theory.mean_field(activation, sigma_w)
    return 6 * (field.xi_grad if field.phase == "ordered" else field.xi_c)


def _chosen(tables, activation, depth, share=1.0, method="momentum") -> pd.DataFrame:
    """The networks at the chosen rate, a row a seed; one that diverged tells digits by chance."""
    found = tables["networks"]
    found = found[found.chosen & (found.activation == activation) & (found.method == method)]
    found = found[found.depth == min(depth, found.depth.max())]
    found = found[np.isclose(found.sigma_w, share * CRITICAL[activation])]
    return found.fillna({"accuracy": CHANCE}).sort_values("seed").reset_index(drop=True)


def _median(column: str, *which):
    """Judge: the median over seeds; what a diverged run does not have is beyond all bounds."""
    return lambda tables: median_interval(_chosen(tables, *which)[column].fillna(np.inf))


def _large_less_critical(tables: dict[str, pd.DataFrame]) -> Estimate:
    large, critical = (_chosen(tables, "relu", SHALLOW, share) for share in (2, 1))
    return median_interval(large.accuracy - critical.accuracy)


def _relu_less_others(method: str):
    """Judge: growth of a large weight norm, ReLU's less the lower of tanh's and sigmoid's."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        found = [_chosen(tables, name, SHALLOW, 2, method) for name in CRITICAL]
        relu, tanh, sigmoid = (own.log10_weight_growth for own in found)
        return median_interval(relu - np.minimum(tanh, sigmoid))

    return judge


def _share_trained(low: float, high: float):
    """Judge: the share that trains among networks with depth / reach in these bounds."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        found = tables["networks"]
        found = found[found.chosen & (found.method == "momentum") & (found.activation != "relu")]
        limit = [reach(*pair) for pair in zip(found.activation, found.sigma_w, strict=True)]
        found = found[(found.depth / limit).between(low, high)]
        return bootstrap_over_seeds(found, lambda f: float((f.accuracy > TRAINED).mean()))

    return judge


BEST = f"held-out accuracy at the rate with the lowest training loss (chance {CHANCE})"
LARGE = f"started at twice the critical sigma_w, {SHALLOW} layers"
SHARE = f"share with held-out accuracy above {TRAINED}"
PER_LAYER = 10 ** (6 / DEEP)  # the factor of the squared gradient that makes 3 decades of its norm

CLAIMS = [
    Claim(name, statement, threshold, judge, about)
    for name, about, threshold, judge, statement in (
        *(
            (f"deep sigmoid networks cannot be trained, {depth} layers", "saying",
             below(2 * CHANCE), _median("accuracy", "sigmoid", depth),
             f"Sigmoid at its critical sigma_w, {depth} layers: {BEST}.")
            for depth in (SHALLOW, DEEP)
        ),
        *(
            (f"He initialisation makes deep ReLU trainable, {called}", "saying",
             above(TRAINED), _median("accuracy", "relu", depth),
             f"ReLU at sigma_w = sqrt 2, {called}: {BEST}.")
            for depth, called in ((DEEP, f"{DEEP} layers"), (np.inf, "the deepest networks"))
        ),
        ("beyond 6 xi_c nothing trains", "", below(0.1), _share_trained(2, np.inf),
         f"Tanh and sigmoid networks over twice as deep as 6 xi_c: {SHARE}."),
        ("within 6 xi_c all train", "", above(0.9), _share_trained(0, 0.5),
         f"Tanh and sigmoid networks under half as deep as 6 xi_c: {SHARE}."),
        ("large weights are poor solutions for ReLU", "C", below(0), _large_less_critical,
         f"ReLU {LARGE}: held-out accuracy less that at the critical one, by seed."),
        *(
            (f"ReLU leaves large weights more than tanh and sigmoid do, {method}", "C",
             below(0), _relu_less_others(method),
             f"Networks {LARGE}, {method}: decades that the weight norm grows in training under "
             "ReLU, less the lower of those under tanh and sigmoid, by seed.")
            for method in METHODS
        ),
        ("descent takes ReLU back from large weights", "C", below(-0.5 * math.log10(2)),
         _median("log10_weight_growth", "relu", SHALLOW, 2, "clipped"),
         f"ReLU {LARGE}, clipped: decades that the weight norm grows; half way back or more."),
        ("descent does not take ReLU to large weights", "C", below(3 / SHALLOW),
         _median("log10_weight_growth", "relu", SHALLOW),
         f"ReLU started at sigma_w = sqrt 2, {SHALLOW} layers: decades that the weight norm grows; "
         "less than what, in each layer, would raise a gradient by three decades."),
        *(
            (f"a healthy {name} network stays healthy", "", below(3),
             _median("spread_after", name, DEEP),
             f"Networks of {name}, critical sigma_w, {DEEP} layers, after training: decades "
             "between the largest and the smallest gradient norm of the layers.")
            for name in CRITICAL
        ),
        ("ReLU's derivative is 1 often enough in training", "A",
         within(0.5 / PER_LAYER, 0.5 * PER_LAYER), _median("active_after", "relu", DEEP),
         f"ReLU at sigma_w = sqrt 2, {DEEP} layers, after training: share of active units; within "
         "what keeps the gradient within three decades."),
    )
]  # fmt: skip


def _over_seeds(frame: pd.DataFrame, keys: list[str], column: str) -> pd.DataFrame:
    rows = [
        (*key, *vars(median_interval(own[column])).values())
        for key, own in frame.groupby(keys, sort=False)
    ]
    return pd.DataFrame(rows, columns=[*keys, "value", "low", "high", "seeds"])


def figure(tables: dict[str, pd.DataFrame]):
    """Maps of held-out accuracy, and what training did to weight norms and gradients."""
    networks, course, layers = (tables[name] for name in ("networks", "course", "layers"))
    networks = networks[networks.chosen & (networks.method == "momentum")]
    keys = ["activation", "sigma_w", "depth"]
    cells = _over_seeds(networks.fillna({"accuracy": CHANCE}), keys, "accuracy")
    lost = networks.assign(diverged=networks.status == "diverged").groupby(keys).diverged.mean()
    critical = [CRITICAL[name] for name in cells.activation]
    cells = cells.join(lost, on=keys).assign(critical=np.isclose(cells.sigma_w, critical))
    rules = pd.DataFrame(
        [
            (name, sigma, reach(name, sigma))
            for name, own in cells.groupby("activation", sort=False)
            for sigma in np.geomspace(own.sigma_w.min() / 2, own.sigma_w.max() * 2, 150)
        ],
        columns=["activation", "sigma_w", "value"],
    )
    starts = {1.0: "critical", 2.0: "twice critical"}
    share = np.round(course.sigma_w / course.activation.map(CRITICAL), 6)
    course = course.assign(start=share.map(starts))[share.isin(starts) & (course.depth == SHALLOW)]
    keys = ["method", "activation", "start"]
    growth = course.pivot(index=[*keys, "seed"], columns="step", values="log10_weight_growth")
    growth = growth.ffill(axis=1)  # a run that diverged keeps the weights it had last
    growth = growth[sorted(course.step[course.accuracy.notna()].unique())].stack().rename("decades")
    growth = _over_seeds(growth.reset_index(), [*keys, "step"], "decades")
    growth = growth.sort_values("method", key=lambda m: m.map([*METHODS].index), kind="stable")
    deep = layers[(layers.depth == DEEP) & layers.step.isin([0, layers.step.max()])]
    deep = deep.assign(when=np.where(deep.step == 0, "before", "after"))
    profile = _over_seeds(deep, ["activation", "when", "layer"], "log10_grad_norm")
    brought_back = {c.name: c for c in CLAIMS}["descent takes ReLU back from large weights"]
    back = verdict(brought_back.judge(tables), brought_back.threshold) == "supported"
    return trainability(
        cells,
        rules,
        growth,
        profile,
        {"critical": "each at its critical σ_w", "profile": f"{DEEP} layers at critical σ_w"}
        | {method: f"{method.replace('adam', 'Adam')}, {SHALLOW} layers" for method in METHODS},
        "Depth and weight scale decide what trains, and descent "
        + ("leads back from large weights" if back else "does not lead back from large weights"),
        f"MNIST digits, width {WIDTH}, {course.step.max()} steps of batch {BATCH}, float32, no "
        f"biases, output layer at σ_w = 1. Medians over {networks.seed.nunique()} seeds; whiskers: "
        "95 % order-statistic interval (their range, below 6 seeds).\nAbove: held-out accuracy, "
        "momentum 0.9, at that of three learning rates with the lowest training loss; div.: most "
        "seeds diverged at all three. Red: 6 ξ_c of mean-field theory\n(6 ξ_grad where ordered), "
        "no free offset; elsewhere it is infinite. Below: norm of all weights over what it was; "
        "filled: from twice the critical σ_w, open: from the critical one;\na run that diverged "
        "keeps the weights it had last. Right: open before, filled after training.",
    )
