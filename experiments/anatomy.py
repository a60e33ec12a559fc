"""What the derivative did to the gradient and what the weights did, layer by layer."""

import numpy as np
import pandas as pd

import study
from study.runs.experiment import Experiment
from study.sampling import digits
from study.statistics.claims import Claim, Estimate, above, below, within
from study.statistics.estimators import farthest, mean, worst
from study.statistics.gains import FACTORS, mean_factors, running_factors
from study.theory.decay import derivative_decades

WIDTH, DEPTH = 256, 100
FIRST, LAST = 10, 95  # past the transient of the forward pass, below the cost
BATCH = {"random": 1, "digits": 4}
SIGMA_B = {"sigmoid": 0.0, "tanh": 0.05**0.5, "relu": 0.0}
CRITICAL = {name: study.theory.critical_sigma_w(name, bias) for name, bias in SIGMA_B.items()}
SCALES = [0.5, 1.0, 2.0]
SEED = 1000  # those from 0 on were seen when the thresholds were chosen

CLOSE, ROUGHLY = float(np.log10(1.01)), float(np.log10(1.05))
"""Decades: 1 % and 5 % of a factor."""


PASSED = ["layers_passed", "derivative", "weights"]
NET = ["activation", "scale", "sigma_w", "sigma_b"]
KEYS = ["inputs", *NET, "seed"]


def measure(inputs: str, seed: int, scales: list[float]) -> dict[str, pd.DataFrame]:
    """Every activation at multiples of its critical scale, all on the same unit weights."""
    cells = [(name, scale) for name in SIGMA_B for scale in scales]
    nets = [
        study.Network(name, DEPTH, WIDTH, sigma_w=scale * CRITICAL[name], sigma_b=SIGMA_B[name])
        for name, scale in cells
    ]
    x, y = digits.sample(seed, BATCH[inputs]) if inputs == "digits" else (None, None)
    df = study.profile(nets, [seed], BATCH[inputs], engine="dense", inputs=x, targets=y)
    df = df.assign(inputs=inputs, scale=np.repeat([scale for _, scale in cells], DEPTH))
    layers = running_factors(df, KEYS)
    shown = layers.layers_passed.isin(np.linspace(0, DEPTH, 9)[1:].astype(int))
    return {"networks": mean_factors(df, KEYS, FIRST, LAST), "layers": layers[shown]}


def _mean(activation: str, of):
    """Judge: mean over seeds of what is made of the networks of random inputs, {scale: rows}."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        own = tables["networks"].query(f"inputs == 'random' and activation == '{activation}'")
        return mean(of({scale: rows.set_index("seed") for scale, rows in own.groupby("scale")}))

    return judge


def _largest(tables: dict[str, pd.DataFrame]) -> Estimate:
    own = tables["networks"].query("activation == 'sigmoid'")
    return worst(own.log10_derivative_largest, own.seed)


def _beyond_theory(tables: dict[str, pd.DataFrame]) -> Estimate:
    wide = tables["networks"].pivot(index="seed", columns=KEYS[:-1])
    nets = wide.log10_derivative.columns
    derivative = [derivative_decades(net[1], *net[3:], DEPTH)[FIRST:LAST].mean() for net in nets]
    weight = np.log10(nets.get_level_values("sigma_w"))
    parts = wide.log10_derivative - derivative, wide.log10_weight - weight
    return farthest(pd.concat(parts, axis=1))


def _images_beyond_random(tables: dict[str, pd.DataFrame]) -> Estimate:
    growth = _growth(tables["networks"].pivot(index="seed", columns=KEYS[:-1]))
    return farthest(growth["digits"] - growth["random"])


def _growth(rows: pd.DataFrame) -> pd.Series:
    return rows.log10_derivative + rows.log10_weight


CALLED = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}


def figure(tables: dict[str, pd.DataFrame]):
    """What the derivative takes and the weights give back in a layer, at three weight scales.

    Decades of the gradient's norm a layer, mean over the layers in the middle: what the derivative
    did, what the weights did, and both. Marks: median over seeds with its 95 % interval, random
    inputs, Gaussian weights; biases for tanh alone. Strokes: mean-field theory, no free offset, 1/2
    log10 E phi'^2, log10 sigma_w and their sum. At the critical scale the two cancel.
    """
    called = {
        0.5: "half the critical scale",
        1.0: "critical scale",
        2.0: "twice the critical scale",
    }
    networks = tables["networks"].query("inputs == 'random'").sort_values("scale")
    shown = networks.assign(
        scale=networks.scale.map(called),
        depth=DEPTH,
        log10_derivative_factor=networks.log10_derivative,
        log10_weight_factor=networks.log10_weight,
    )
    return study.plot.factors(shown, per="network", col="scale", theory=True, height=1.6).figure


experiment = Experiment(
    question="What did the derivative take from the gradient, and what did the weights give back?",
    grid={
        preset: [
            {"inputs": kind, "seed": seed, "scales": SCALES} for kind in BATCH for seed in seeds
        ]
        for preset, seeds in (("quick", range(SEED, SEED + 4)), ("paper", range(SEED, SEED + 20)))
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(name=name, statement=statement, threshold=threshold, judge=judge, about=about)
        for name, about, threshold, judge, statement in (
            (
                "sigmoid's derivative takes a factor of four",
                "A",
                below(float(np.log10(0.25))),
                _largest,
                "Sigmoid: log10 of the largest factor ‖dC/dz‖ / ‖dC/dr‖ of any layer, weight "
                "scale, input and seed; below log10 of 1/4.",
            ),
            (
                "ReLU's derivative lets half of the square through",
                "A",
                within(0.49, 0.51),
                _mean("relu", lambda at: at[1.0].square_passed),
                "ReLU at its critical scale: share of the gradient's square that passes a layer; "
                "within 0.49 to 0.51.",
            ),
            (
                "ReLU's derivative counts active units",
                "A",
                within(-CLOSE, CLOSE),
                _mean("relu", lambda at: at[1.0].log10_over_count),
                "ReLU at its critical scale: decades by which its factor differs from the square "
                "root of the share of active units; within 1 % of a factor.",
            ),
            *(
                (
                    f"the weights pay back what {called}'s derivative takes",
                    "B",
                    within(0.95, 1.05),
                    _mean(name, lambda at: -at[1.0].log10_weight / at[1.0].log10_derivative),
                    f"{called} at its critical scale, sigma_w = {CRITICAL[name]:.6g}: decades that "
                    "the weights give beside those that the derivative takes; within 5 % of 1.",
                )
                for name, called in CALLED.items()
            ),
            *(
                (
                    f"{called}'s derivative alone decides",
                    "saying",
                    above(0),
                    _mean(name, lambda at: np.sign(_growth(at[0.5]) * _growth(at[2.0]))),
                    f"{called}: 1 where the gradient does the same, vanish or explode, at half and "
                    "at twice the critical scale, -1 where not; above 0.",
                )
                for name, called in CALLED.items()
            ),
            (
                "larger weights make sigmoid's derivative take more",
                "",
                below(0),
                _mean("sigmoid", lambda at: at[2.0].log10_derivative - at[0.5].log10_derivative),
                "Sigmoid: decades per layer of the derivative at twice the critical scale less "
                "those at half of it; below 0.",
            ),
            (
                "both factors are mean field's",
                "",
                below(ROUGHLY),
                _beyond_theory,
                "All activations, scales and inputs: decades per layer between the derivative's "
                "factor and 1/2 log10 E phi'^2, or the weights' and sigma_w, the largest; below 5 "
                "% of a factor.",
            ),
            (
                "images do not change the balance",
                "",
                below(ROUGHLY),
                _images_beyond_random,
                "All activations and scales: decades per layer on MNIST digits less those on "
                "random inputs, paired by seed, the largest mean; below 5 % of a factor.",
            ),
        )
    ],
    columns={
        "inputs": "random: one standard normal input and a random unit cotangent at the output; "
        "digits: 4 MNIST images and the squared-error cost [-]",
        "scale": "sigma_w beside the activation's critical one [1]",
    }
    | FACTORS,
)
