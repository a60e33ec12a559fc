"""What a number format does: the depth at which a plain run loses the gradient, and ReLU'(0)."""

import functools
from bisect import bisect_left
from itertools import pairwise, product
from statistics import NormalDist

import numpy as np
import pandas as pd

import study
from study import gaussian, images
from study.backprop import unit_cotangent
from study.claims import (
    Claim,
    Estimate,
    above,
    below,
    bootstrap_over_seeds,
    median_interval,
    within,
)
from study.formats import FORMATS, PlainRun, is_lost, printed_norm
from study.plotting.precision import depth_and_kink

QUESTION = "How deep does a number format carry the gradient, and does ReLU'(0) matter?"

ACTIVATIONS = ["relu", "sigmoid", "tanh"]
FOUR = ["float16", "bfloat16", "float32", "float64"]
WIDTH, DEEPEST = 64, 1000
ABOVE = np.arange(DEEPEST)  # layers above the first
HE = 2**0.5
KINKS = [0.0, 0.5, 1.0]
KINK_DEPTH, SPECIAL = 10, 3  # of the networks for ReLU'(0): the depth, and k of the special layer
EXAMPLES = 8  # where zeros are there by structure
SITUATIONS = [
    "random inputs",
    "MNIST digits",
    "blank image",
    "dead layer",
    "zero-initialised layer",
]
TRAINED, RATE, TRAINING_BATCH, TRAINING_IMAGES = [784, 32, 32, 10], 0.25, 16, 4000
CONTRAST = 0.125  # of the training images; a power of two is exact in every format

GRID = {
    preset: [{"part": "kink", "seed": seed, "batch": batch} for seed in range(seeds)]
    + [{"part": "depth", "seed": seed, "scales": scales} for seed in range(seeds)]
    + [{"part": "training", "seed": seed, "steps": steps} for seed in range(seeds)]
    for preset, seeds, batch, scales, steps in (
        ("quick", 3, 32, [1.0, HE], 10),
        ("paper", 10, 256, [0.5, 1.0, HE, 2.0, 4.0, 10.149264], 200),
    )
}

COLUMNS = {
    "format": "number format of the plain run; float16_narrow rounds its sums term by term [-]",
    "depth_lost": "smallest depth where all of dC/dW^(0) is 0, or some of it or of the output is "
    f"not finite; inf: none up to {DEEPEST} [layers]",
    "depth_norm_lost": "smallest depth where the norm of dC/dW^(0), as the run prints it, is 0 or "
    f"not finite, or the output is not; inf: none up to {DEEPEST} [layers]",
    "expected_depth": f"depth_lost by theory; inf: beyond {DEEPEST} [layers]",
    "log10_true_norm": "norm of dC/dW^(0) at depth_lost (where that is inf, at depth "
    f"{DEEPEST}), by the scaled engine in float64 [log10]",
    "situation": "which ReLU network and inputs [-]",
    "preactivations": "number of entries of all z [-]",
    "zeros": "how many of them were exactly 0 [-]",
    "gradient_difference": "largest difference of dC/dW at ReLU'(0) = 0 or 1/2 from that at 1, in "
    "units of the layer's largest entry; the largest of all layers [1]",
    "delta_difference": "the same of dC/dz, for every example; its sum is a bias's gradient [1]",
    "steps": "steps of gradient descent [steps]",
    "accuracy": "share of 1,000 held-out images classified rightly [%]",
    "step_parted": "first step after which a weight is not what it is with ReLU'(0) = 1; inf: none "
    "[steps]",
}


def measure(part: str, seed: int, **sizes) -> dict[str, pd.DataFrame]:
    """One of the three parts, for one seed."""
    return {part: {"kink": _kink, "depth": _depth, "training": _training}[part](seed, **sizes)}


def cost(part: str, seed: int, **sizes) -> tuple[float, int]:
    """Core-seconds and bytes of a cell, about."""
    if part == "depth":
        return 1.0 * len(sizes["scales"]), 4 * 8 * DEEPEST * WIDTH**2
    if part == "kink":
        return 0.4 + 0.015 * sizes["batch"], 10**8
    return 1.0 + 0.05 * sizes["steps"], 2 * 10**8


def _depth(seed: int, scales: list[float]) -> pd.DataFrame:
    """Where each format loses the gradient of each network; all on the same unit weights."""
    key = gaussian.key(seed, "weights")  # those of `study.profile`
    unit = np.stack([gaussian.normal(key, k, (WIDTH, WIDTH)) for k in range(DEEPEST)])
    x = gaussian.normal(gaussian.key(seed, "inputs"), 0, (1, WIDTH))
    dr = unit_cotangent(gaussian.key(seed, "cotangent"), (1, WIDTH), np.float64)
    lines, nets = [], []
    for activation, sigma, name in product(ACTIVATIONS, scales, FOUR):
        run = PlainRun(sigma / WIDTH**0.5 * unit, x, activation, FORMATS[name])
        lost, norm_lost = _lost(run, dr)
        expected = expected_depth(activation, sigma, name)
        lines.append((activation, sigma, WIDTH, seed, name, lost, norm_lost, expected))
        nets.append(study.Network(activation, int(min(lost, DEEPEST)), WIDTH, sigma, kink=0.0))
    columns = ["activation", "sigma_w", "width", "seed", "format"]
    columns += ["depth_lost", "depth_norm_lost", "expected_depth"]
    true = study.profile(nets, [seed], engine="dense")
    norms = true.log10_grad_norm[true.layer == 0].to_numpy()
    return pd.DataFrame(lines, columns=columns).assign(log10_true_norm=norms)


def _lost(run: PlainRun, dr: np.ndarray) -> list[float]:
    """The smallest depths at which dC/dW^(0), and then its printed norm, are lost."""

    @functools.cache
    def first_gradient(depth: int) -> np.ndarray:
        return run.gradient(0, run.backward(dr, 0.0, depth)[0])

    def lost(depth: int) -> bool:
        return not np.isfinite(run.r[depth]).all() or is_lost(first_gradient(depth))

    def norm_lost(depth: int) -> bool:
        return lost(depth) or not 0 < printed_norm(first_gradient(depth), run.number) < np.inf

    return [
        1.0 + bisect_left(range(1, DEEPEST), True, key=gone) if gone(DEEPEST) else np.inf
        for gone in (lost, norm_lost)
    ]


@functools.cache
def expected_depth(activation: str, sigma_w: float, name: str) -> float:
    """The depth at which theory expects a format to lose dC/dW^(0); inf beyond DEEPEST.

    There the largest entry of dC/dz^(1) rounds to 0, or times x exceeds the range, or z^(depth)
    does (which only ReLU lets grow). Mean field, layer by layer where chi changes on the way; to
    ReLU's chi the exact law adds the drift of a layer of finite width.
    """
    log2 = np.log2
    if activation == "relu":
        rate = log2(study.theory.mean_field(activation, sigma_w).chi)
        rate += study.theory.finite_width.forward_law([WIDTH, WIDTH]).mean / np.log(2)
        z, delta = log2(sigma_w) + ABOVE * rate / 2, (ABOVE + 1) * rate / 2 - log2(sigma_w)
    else:
        mean = study.theory.trajectory(activation, sigma_w, 0.0, DEEPEST)
        z, delta = np.zeros(DEEPEST), log2(mean.chi).cumsum() / 2 - log2(sigma_w)
    live = WIDTH // 2 if activation == "relu" else WIDTH
    delta += log2(_largest_of(live) / live**0.5)
    lowest, highest = log2(FORMATS[name].smallest) - 1, log2(FORMATS[name].largest)
    gone = (delta <= lowest) | (np.maximum(delta, z) + log2(_largest_of(WIDTH)) > highest)
    return float(np.argmax(gone) + 1) if gone.any() else np.inf


def _largest_of(count: int) -> float:
    """The median of the largest magnitude among so many standard normal numbers."""
    return NormalDist().inv_cdf((1 + 0.5 ** (1 / count)) / 2)


def _he(seed: int, purpose: str, widths: list[int]) -> list[np.ndarray]:
    key, shapes = gaussian.key(seed, "precision", purpose), pairwise(widths)
    return [gaussian.normal(key, k, n) * (2 / n[0]) ** 0.5 for k, n in enumerate(shapes)]


def _kink(seed: int, batch: int) -> pd.DataFrame:
    """What ReLU'(0) changes at initialisation: 0 and 1/2 against 1."""
    lines = []
    for situation, name in product(SITUATIONS, FORMATS):
        count = batch if situation in SITUATIONS[:2] else EXAMPLES
        x = gaussian.normal(gaussian.key(seed, "precision", "inputs"), 0, (count, WIDTH))
        x = images.sample(seed, count)[0] if situation == "MNIST digits" else x
        x = 0 * x if situation == "blank image" else x
        weights = _he(seed, situation, [x.shape[1]] + KINK_DEPTH * [WIDTH])
        if situation == "dead layer":
            weights[SPECIAL] = -np.abs(weights[SPECIAL])  # as r >= 0, every z < 0
        if situation == "zero-initialised layer":
            weights[SPECIAL] = 0 * weights[SPECIAL]
        run = PlainRun(weights, x, "relu", FORMATS[name])
        dr = unit_cotangent(gaussian.key(seed, "precision"), run.z[-1].shape, np.float64)
        deltas = [run.backward(dr, kink) for kink in KINKS]
        gradients = [[run.gradient(k, d) for k, d in enumerate(own)] for own in deltas]
        differ = [max(_apart(own, runs[-1]) for own in runs[:-1]) for runs in (gradients, deltas)]
        lines.append((situation, name, seed, sum(z.size for z in run.z), _zeros(run.z), *differ))
    columns = ["situation", "format", "seed", "preactivations", "zeros"]
    return pd.DataFrame(lines, columns=[*columns, "gradient_difference", "delta_difference"])


def _zeros(z: list[np.ndarray]) -> int:
    return sum(int(np.count_nonzero(one == 0)) for one in z)


def _apart(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest difference, in units of the layer's largest entry; the largest of all layers."""
    pairs = [(np.abs(a - b).max(), np.abs([a, b]).max()) for a, b in zip(ours, theirs, strict=True)]
    return max(float(gap) / float(top) if gap > 0 else 0.0 for gap, top in pairs)


def _training(seed: int, steps: int) -> pd.DataFrame:
    """Gradient descent from the same weights on the same digits, for each ReLU'(0)."""
    digits, start, layers = (
        images.digits(),
        _he(seed, "training", TRAINED),
        ["relu"] * 2 + ["linear"],
    )
    rng = np.random.default_rng(gaussian.key(seed, "precision", "batches"))
    batches = rng.integers(TRAINING_IMAGES, size=(steps, TRAINING_BATCH))
    lines = []
    for name, number in FORMATS.items():
        x, y = number.rounded(CONTRAST * digits.images), number.rounded(np.eye(10)[digits.classes])
        nets = {kink: [number.rounded(W) for W in start] for kink in KINKS}
        parted, zeros = dict.fromkeys(KINKS, np.inf), dict.fromkeys(KINKS, 0)
        for step, (batch, kink) in enumerate(product(batches, KINKS)):
            run = PlainRun(nets[kink], x[batch], layers, number)
            deltas = run.backward((run.r[-1] - y[batch]) / TRAINING_BATCH, kink)
            moves = [number.rounded(RATE * run.gradient(k, d)) for k, d in enumerate(deltas)]
            nets[kink] = [
                number.rounded(W - move) for W, move in zip(run.weights, moves, strict=True)
            ]
            zeros[kink] += _zeros(run.z[:-1])
            if kink == KINKS[-1]:
                for other in KINKS:
                    if not all(map(np.array_equal, nets[other], nets[kink])):
                        parted[other] = min(parted[other], 1.0 + step // len(KINKS))
        for kink, weights in nets.items():
            shown = PlainRun(weights, x[TRAINING_IMAGES:], layers, number).r[-1]
            right = shown.argmax(axis=1) == digits.classes[TRAINING_IMAGES:]
            about = (name, kink, seed, steps, zeros[kink], parted[kink], 100 * float(right.mean()))
            lines.append(about)
    columns = ["format", "kink", "seed", "steps", "zeros", "step_parted", "accuracy"]
    return pd.DataFrame(lines, columns=columns)


def _networks(tables: dict, activation: str, sigma_w: float, name: str) -> pd.DataFrame:
    own = tables["depth"]
    return own[(own.activation == activation) & (own.sigma_w == sigma_w) & (own.format == name)]


def _bfloat16_reach(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: each seed's smallest depth_lost of bfloat16 / float32, of networks both lose."""
    wide = tables["depth"].pivot(
        index=["activation", "sigma_w", "seed"], columns="format", values="depth_lost"
    )
    ratio = wide.bfloat16 / wide.float32
    return median_interval(ratio[np.isfinite(wide.float32)].groupby("seed").min())


def _differs(situations: list[str], name: str, column: str):
    """Judge: each seed's largest difference that ReLU'(0) makes in these situations."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        own = tables["kink"]
        own = own[own.situation.isin(situations) & (own.format == name)]
        return median_interval(own.groupby("seed")[column].max())

    return judge


def accuracy_difference(training: pd.DataFrame, name: str) -> Estimate:
    """Mean accuracy with ReLU'(0) = 0 less that with 1, paired by seed."""
    own = training[training.format == name].pivot(index="seed", columns="kink", values="accuracy")
    gain = pd.DataFrame({"gain": own[0.0] - own[1.0]}).reset_index()
    return bootstrap_over_seeds(gain, lambda f: float(f.gain.mean()))


def _no_difference(name: str, situations: list[str], number: str, column: str, what: str) -> Claim:
    unit = float(np.finfo(number.removesuffix("_narrow")).epsneg)
    return Claim(
        f"ReLU'(0) makes no difference {name}",
        f"{what}, {number}: the largest difference that ReLU'(0) = 0 or 1/2 makes from 1, relative "
        "to the layer's largest entry, median over seeds; below the format's unit roundoff.",
        below(unit),
        _differs(situations, number, column),
    )


GENERIC, WEIGHTS, DELTA = SITUATIONS[:2], "gradient_difference", "delta_difference"
CLAIMS = [
    Claim(
        "float32 loses sigmoid's gradient where chi says",
        "Sigmoid at sigma_w = 1: depth at which a plain float32 run has lost dC/dW^(0), over the "
        "depth expected from chi and the format's range with subnormals; within 5 % of 1.",
        within(0.95, 1.05),
        lambda t: median_interval(
            (n := _networks(t, "sigmoid", 1.0, "float32")).depth_lost / n.expected_depth
        ),
    ),
    Claim(
        "the printed norm is lost at half the depth",
        "Sigmoid at sigma_w = 1, float32: depth at which the norm, summed as squares, is lost, "
        "over the depth at which the gradient is; within 10 % of 1/2.",
        within(0.45, 0.55),
        lambda t: median_interval(
            (n := _networks(t, "sigmoid", 1.0, "float32")).depth_norm_lost / n.depth_lost
        ),
    ),
    Claim(
        "float64 is deep enough for sigmoid",
        f"Sigmoid at sigma_w = 1: depth at which a plain float64 run loses dC/dW^(0); above "
        f"{DEEPEST}.",
        above(DEEPEST),
        lambda t: median_interval(_networks(t, "sigmoid", 1.0, "float64").depth_lost),
    ),
    Claim(
        "float64 is deep enough for He-initialised ReLU",
        f"ReLU at sigma_w = sqrt 2: the same; above {DEEPEST}.",
        above(DEEPEST),
        lambda t: median_interval(_networks(t, "relu", HE, "float64").depth_lost),
    ),
    Claim(
        "bfloat16 reaches as deep as float32",
        "Depth at which bfloat16 loses dC/dW^(0) over that of float32, the smallest of all "
        "networks that both lose; above 4/5.",
        above(0.8),
        _bfloat16_reach,
    ),
    _no_difference("at initialisation, float64", GENERIC, "float64", WEIGHTS, "dC/dW"),
    _no_difference("at initialisation, float32", GENERIC, "float32", WEIGHTS, "dC/dW"),
    _no_difference("at initialisation, float16", GENERIC, "float16", WEIGHTS, "dC/dW"),
    _no_difference("at initialisation, float16 sums", GENERIC, "float16_narrow", WEIGHTS, "dC/dW"),
    _no_difference("to weights around a dead layer", ["dead layer"], "float64", WEIGHTS, "dC/dW"),
    _no_difference("to biases above a dead layer", ["dead layer"], "float64", DELTA, "dC/dz"),
    _no_difference(
        "to a zero-initialised layer", ["zero-initialised layer"], "float64", WEIGHTS, "dC/dW"
    ),
    *(
        Claim(
            f"ReLU'(0) makes no difference in training, {called}",
            "Held-out accuracy on MNIST digits with ReLU'(0) = 0 less that with 1, paired by seed, "
            "mean; less than one point.",
            within(-1, 1),
            functools.partial(lambda name, t: accuracy_difference(t["training"], name), name),
        )
        for called, name in (("float32", "float32"), ("float16 sums", "float16_narrow"))
    ),
]


def _points(frame: pd.DataFrame, keys: list[str], judge) -> pd.DataFrame:
    found = [(key, judge(own)) for key, own in frame.groupby(keys, sort=False)]
    lines = [(*key, e.value, e.low, e.high) for key, e in found]
    return pd.DataFrame(lines, columns=[*keys, "value", "low", "high"])


def figure(tables: dict[str, pd.DataFrame]):
    """Depth lost per format against sigma_w, a panel an activation; below, ReLU'(0)."""
    depth, kink, training = (tables[name] for name in ("depth", "kink", "training"))
    keys = ["activation", "sigma_w", "format"]
    scales = np.geomspace(depth.sigma_w.min(), depth.sigma_w.max(), 49)
    lines = pd.DataFrame(product(ACTIVATIONS, scales, FOUR), columns=keys)
    lines["value"] = [expected_depth(*row) for row in lines.itertuples(index=False)]
    random = kink[kink.situation == GENERIC[0]]
    random = random.assign(rate=1e6 * random.zeros / random.preactivations)
    parted = training[np.isfinite(training.step_parted)].groupby("format").seed.nunique()
    seeds, found = training.seed.nunique(), _networks(tables, "sigmoid", 1.0, "float32")
    trained = _points(training, ["format"], lambda f: accuracy_difference(f, f.format.iloc[0]))
    count = [int(parted.get(name, 0)) for name in trained.format]
    trained["parted"] = [f"{n} of {seeds} runs parted" for n in count]
    differ = kink.groupby(["situation", "format"], sort=False)[[WEIGHTS, DELTA]].median()
    return depth_and_kink(
        _points(depth, keys, lambda f: median_interval(f.depth_lost)),
        lines,
        DEEPEST,
        differ.reset_index().set_axis(["situation", "format", "gradient", "delta"], axis=1),
        _points(random, ["format"], lambda f: bootstrap_over_seeds(f, lambda g: g.rate.mean())),
        trained,
        "A format's range and χ set the depth a plain run reaches: float32 loses sigmoid "
        f"(σ_w = 1) at {found.depth_lost.median():.0f}, theory {found.expected_depth.median():.0f}",
        f"Above: depth at which a plain run has lost dC/dW⁰ (all 0, or not finite), ReLU′(0) = 0, "
        f"median over {seeds} seeds with its 95 % interval, width {WIDTH}, no bias; open marks: "
        f"not lost in {DEEPEST} layers.\nLines, no free offset: from χ and the format's range with "
        "subnormals; for sigmoid and tanh of infinite width. float16, sums too: sums are rounded "
        f"term by term.\nBelow left: He-initialised ReLU, depth {KINK_DEPTH}, medians; black: "
        "dC/dW, grey and open: dC/dz. Middle: random inputs. Right: "
        f"{training.steps.max()} steps of gradient descent from the\nsame weights, widths "
        f"{'-'.join(map(str, TRAINED))}; grey: less than one point; parted: the weights differ. "
        "Both: means over seeds with 95 % intervals.",
    )
