"""The arms that decide verdicts once more, with twice the steps and rates a quarter decade apart.

python -m experiments.training.again > again.csv
"""

import sys

import numpy as np
import pandas as pd

from experiments.training import CRITICAL, experiment
from experiments.training.networks import LOGGED, of_networks
from study.engines.arms import GOAL, Arm, last_loss

DECIDING = [("sigmoid", 30), ("tanh", 100), ("relu", 100)]
QUARTERS = 10 ** np.array([-0.25, 0.0, 0.25])


def again(activation: str, depth: int, rate: float, cell: dict) -> pd.DataFrame:
    """An arm at its critical scale, tuned near its rate: what became of its seeds."""
    arm = Arm(activation, CRITICAL[activation], depth)
    steps = 2 * cell["steps"]
    tuning = np.tile(cell["tuning_seeds"], len(QUARTERS))
    rates = rate * np.repeat(QUARTERS, len(cell["tuning_seeds"]))
    tried = last_loss(arm.course(tuning, rates, 2 * cell["many"])).reshape(len(QUARTERS), -1)
    best = rate * QUARTERS[np.median(tried, axis=1).argmin()]
    course = arm.course(cell["seeds"], [best] * len(cell["seeds"]), steps, GOAL, LOGGED)
    rows = of_networks(arm, course, cell["seeds"], steps)
    return rows.assign(activation=activation, depth=depth, rate=best)


if __name__ == "__main__":
    first = pd.read_csv("results/training/networks.csv")
    first = first[(first.remedy == "none") & (first.share == 1)]
    chosen = first.groupby(["activation", "depth"]).rate.first()
    cell = experiment.grid["paper"][0]
    for number, (name, depth) in enumerate(DECIDING):
        rows = again(name, depth, chosen[name, depth], cell)
        rows.to_csv(sys.stdout, index=False, header=number == 0)
        sys.stdout.flush()
