"""Laws of activations that are shaped for a depth: Martens, Zhang."""

from experiments.laws.finite_width import kind, mean
from experiments.laws.law import OFF, Law
from experiments.laws.mean_field import Pair
from experiments.laws.walks import first_order
from study import theory
from study.core.activations import Activation
from study.theory.shaped import dks, tat, tat_leaky_relu

DEPTH = 50
ETA = 0.9


def _gradient(row: Activation, depth: int, networks: int) -> Law:
    """The mean of ln G through all layers."""
    of = kind(row, depth, 1.0)
    law = first_order(of(1))
    return Law(
        measure=mean(of),
        sizes=(512, 1024, 2048),
        networks=networks,
        limit=law.log_chi,
        offset=law.mean - law.log_chi,
        off=OFF,
    )


def _correlation(row: Activation, c_0: float, limit: float, networks: int) -> Law:
    """The mean correlation that two inputs have after `DEPTH` layers."""
    walk = Pair(row, 1.0, c_0, DEPTH, sigma_b=0.0)
    return Law(
        measure=lambda n, seeds: 1 - walk.gaps(n, seeds)[:, -1],
        sizes=(128, 256, 512),
        networks=networks,
        limit=limit,
    )


def _mapped(row: Activation, c: float) -> float:
    """The correlation that the map makes of c, `DEPTH` times."""
    for _ in range(DEPTH):
        c = float(theory.correlation_map(row, c, 1.0, 1.0))
    return c


SHAPED_TANH = dks("tanh", DEPTH)

LAWS = {
    "shaped tanh gradient": _gradient(dks("tanh", 20), 20, 150),
    "shaped tanh correlation": _correlation(SHAPED_TANH, 0.8, _mapped(SHAPED_TANH, 0.8), 100),
    "tailored gelu gradient": _gradient(tat("gelu", 20), 20, 150),
    "tailored leaky relu": _correlation(tat_leaky_relu(DEPTH, ETA), 0.0, ETA, 100),
}
