"""Theory refuses what it is not about, in words: the field, its value and what is allowed."""

import numpy as np
import pytest

from study import theory
from study.theory import blocks, finite_width, fluctuations, rounding, spectra
from study.theory.finite_width import NormLaw
from study.theory.shaped import dks, tat, tat_leaky_relu
from study.theory.transformers import transformer
from study.theory.two_inputs import shattering_offset


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        (theory.mean_field, ("swoosh", 1.0), r"activation = .swoosh.; allowed: relu"),
        (theory.mean_field, ("relu", float("nan")), r"sigma_w = nan; allowed: .*from 0"),
        (theory.mean_field, ("relu", "2"), r"sigma_w = '2'; allowed"),
        (theory.mean_field, ("relu", 1.0, -0.1), r"sigma_b = -0.1; allowed"),
        (theory.critical_sigma_w, ("relu", float("nan")), r"sigma_b = nan; allowed"),
        (theory.variance_map, ("relu", -1.0, 1.0), r"q = -1.0; allowed"),
        (theory.gradient_factor, ("relu", [1.0, np.nan], 1.0), r"q = .*nan.*; allowed"),
        (theory.correlation_map, ("relu", 1.1, 1.0, 1.0), r"c = 1.1; allowed: between"),
        (theory.trajectory, ("relu", 1.0, 0.0, 2.5), r"layers = 2.5; allowed: an integer"),
        (blocks.batch_norm_factor, ("relu", 3), r"batch = 3; allowed: .* >= 4"),
        (blocks.branch_scales, ("1/l2", 3), r"schedule = '1/l2'; allowed: undamped"),
        (blocks.growth, ([],), r"scales = \[\]; allowed: one number"),
        (blocks.growth, ([np.nan],), r"scales = \[nan\]; allowed"),
        (blocks.shattering, (3, [1.0]), r"scales = \[1.0\]; allowed: 3 numbers"),
        (blocks.shattering, (3, None, 1.5), r"c_0 = 1.5; allowed: .*-1 to 1"),
        (blocks.normalised_shattering, (4, 3), "batch = 3; allowed: an integer >= 4"),
        (finite_width.born_dead, ([],), r"widths = \(\); allowed: at least 1"),
        (finite_width.forward_law, (5,), r"widths = 5; allowed: a sequence"),
        (finite_width.forward_law, ([5, 2.0],), r"widths\[1\] = 2.0; allowed: an integer"),
        (finite_width.forward_law, ([5, 5], "tanh"), r"activation = 'tanh'; allowed: relu"),
        (finite_width.forward_law, ([5, 6], "relu", "orthogonal"), r"widths = .*: all equal"),
        (finite_width.weight_gradient_law, ([5, 5], 1), r"layer = 1; allowed: .* 0 to 0"),
        (NormLaw(0.0, (5,), (5,)).quantile, (1.0,), r"p = 1.0; allowed"),
        (NormLaw(0.0, (3,)).cdf, (0.0,), r"widths \[3\]: .*no smooth density"),
        (fluctuations.kurtosis_shift, ([5, 5], "relu", 0.9), r"kurtosis = 0.9; allowed: .*1 to"),
        (fluctuations.kurtosis_shift, ([5], "tanh", 2), r"widths = \(5,\); allowed: at least 2"),
        (fluctuations.kurtosis_shift, ([5, 5], "tanh", 2), "activation = 'tanh'; allowed: relu"),
        (fluctuations.fluctuations("tanh", 1.0, depth=3).gain, (5, 3), "first = 3; .*from 0 to 2"),
        (spectra.spectrum, ("relu", 3, "uniform"), r"weights = 'uniform'; allowed: gaussian"),
        (spectra.spectrum, ("tanh", 3, "gaussian", 0.0), r"q = 0.0; allowed"),
        (spectra.spectrum("hard_tanh", 3, "orthogonal", 0.2).largest_at, (9,), "atom or a hard"),
        (rounding.cancellation, (2,), "products = 2; allowed: an integer from 3 to 150"),
        (rounding.cancellation, (9, "float8"), "format = 'float8'; allowed"),
        (shattering_offset, (0,), "depth = 0; allowed"),
        (shattering_offset, (3, 1.5), "c_0 = 1.5; allowed"),
        (dks, ("relu", 10), "activation = 'relu'; allowed"),
        (tat, ("hard_tanh", 10), "activation = 'hard_tanh'; allowed"),
        (dks, ("linear", 10), "activation = 'linear'; allowed"),
        (dks, ("tanh", 0), "depth = 0; allowed"),
        (dks, ("tanh", 10, 0.9), "zeta = 0.9; allowed"),
        (tat, ("tanh", 10, -1.0), "tau = -1.0; allowed"),
        (tat_leaky_relu, (10, 1.0), "eta = 1.0; allowed"),
        (transformer, (0, 4, 8, "pre"), "blocks = 0; allowed"),
        (transformer, (1001, 4, 8, "pre"), "blocks = 1001; allowed"),
        (transformer, (2, 1, 8, "pre"), "tokens = 1; allowed"),
        (transformer, (2, 4, 8, "middle"), "norm = 'middle'; allowed"),
        (transformer, (2, 4, 8, "none", 1.0, "gelu"), "activation = 'gelu'; allowed: a scale-free"),
    ],
)
def test_bad_input_is_named(function, arguments, words):
    with pytest.raises(ValueError, match=words):
        function(*arguments)
