"""The frame: one row a layer, times network and seed. What each column holds, in order."""

from typing import NamedTuple

TOLERANCE = 1e-9
"""What a number may differ by, relative or absolute, where it is computed again elsewhere."""


class Column(NamedTuple):
    """What one column holds: float64, int64, bool or string; its unit and meaning in words.

    The tolerance is how far, relatively or absolutely, a number may be from another machine's.
    """

    type: str
    unit: str
    meaning: str
    tolerance: float = TOLERANCE


NETWORK: dict[str, Column] = {
    "activation": Column("string", "-", "phi, the name of the activation"),
    "depth": Column("int64", "layers", "number of weight matrices"),
    "width": Column("int64", "units", "units in a layer"),
    "sigma_w": Column("float64", "1", "standard deviation: Var W = sigma_w^2 / fan_in"),
    "sigma_b": Column("float64", "1", "standard deviation: Var b = sigma_b^2"),
    "weights": Column("string", "-", "law of the weights: gaussian, uniform or orthogonal"),
    "dtype": Column("string", "-", "number format the network was computed in"),
    "kink": Column("float64", "1", "value of phi' where phi has a kink, ReLU'(0)"),
    "seed": Column("int64", "-", "names the draw; networks with the same seed share weights"),
}
"""What a row is of."""

LAYER: dict[str, Column] = {
    "layer": Column("int64", "layers", "k of W^(k), 0 next to the input"),
    "grad_norm_mantissa": Column("float64", "1", "‖dC/dW^(k)‖ = mantissa 2^exponent; 0 or [1, 2)"),
    "grad_norm_exponent": Column("int64", "log2", "the power of two that goes with the mantissa"),
    "log10_grad_norm": Column("float64", "log10", "Frobenius norm of dC/dW^(k); -inf: a true zero"),
    "log10_delta_norm": Column("float64", "log10", "Frobenius norm of dC/dz^(k+1)"),
    "log10_upstream_norm": Column("float64", "log10", "Frobenius norm of dC/dr^(k+1)"),
    "log10_signal_norm": Column("float64", "log10", "Frobenius norm of r^(k+1)"),
    "log10_weight_norm": Column(
        "float64", "log10", "Frobenius norm of W^(k); empty where no matrix was formed"
    ),
    "log10_derivative_factor": Column(
        "float64", "log10", "‖dC/dz^(k+1)‖ / ‖dC/dr^(k+1)‖: what the activation's derivative did"
    ),
    "log10_weight_factor": Column(
        "float64", "log10", "‖dC/dr^(k)‖ / ‖dC/dz^(k+1)‖: what the weights did"
    ),
    "active_fraction": Column("float64", "1", "share of units with phi'(z) > 0.01 of its maximum"),
    "status": Column(
        "string",
        "-",
        "what a plain run would have seen: ok, dead (a true zero), float32_underflow, "
        "float32_overflow, float64_underflow or float64_overflow",
    ),
}
"""What was measured of a layer; `study.backpropagate` gives these alone."""

PROFILE_COLUMNS: dict[str, Column] = {
    **NETWORK,
    **LAYER,
    "engine": Column("string", "-", "which engine computed the row: dense or matrix_free"),
}
"""The frame of `study.profile`."""
