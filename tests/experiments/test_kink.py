"""The experiment on ReLU'(0), in pieces."""

import numpy as np
import pytest

import study.sampling.digits
from experiments import kink
from experiments.kink import chance
from experiments.kink.choices import apart, descend, differences, with_kink, zeros
from study.arithmetic.rounded import FORMATS, Rounded, rounded_layers
from study.core.backprop import forward, weight_gradient


def test_differences_are_relative_to_the_layers_largest_entry():
    a, b = [np.array([1.0, 2.0]), np.zeros(2)], [np.array([1.0, 4.0]), np.zeros(2)]
    assert apart(a, b) == 0.5
    assert apart(a, a) == 0.0
    assert apart([np.array([5e-324])], [np.array([0.0])]) == 1.0


def test_zeros_by_structure_do_what_the_algebra_says():
    """Everything is exact: which gradients can depend on ReLU'(0), and which z are 0."""
    with np.errstate(under="ignore"):
        df = kink.measure("initialisation", seed=0, batch=4)["initialisation"]
    double = df[df.format == "float64"].set_index("situation")
    layer = kink.EXAMPLES * kink.WIDTH
    layers = {"blank image": 10, "dead layer": 6, "zero-initialised layer": 7}
    for situation, count in layers.items():
        assert double.zeros[situation] == count * layer
    assert (double.zeros[kink.GENERIC] == 0).all()
    assert double.delta_difference[list(layers)].tolist() == [1, 1, 1]
    assert double.gradient_difference[list(layers)].tolist() == [0, 0, 1]
    by_chance = df[df.situation.isin(kink.GENERIC) & (df.format != "float16_narrow")]
    assert not by_chance.gradient_difference.any()


@pytest.mark.parametrize("name", FORMATS)
def test_black_pixels_give_no_zero_and_their_weights_learn_nothing(name):
    """z sums the other pixels, too: no tie. The weights of black pixels stay, at any ReLU'(0)."""
    number = FORMATS[name]
    x = study.sampling.digits.digits().images[:8]
    layers = rounded_layers(kink.he(0, "test", [784, 16, 4]), "relu", number)
    trace, _ = forward(layers, Rounded(x, number))
    dr = Rounded(np.ones((8, 4)), number)
    dark = ~x.any(axis=0)
    assert dark.sum() > 100
    assert zeros(trace) == 0
    for value in kink.KINKS:
        first = with_kink(trace, dr, value)[-1]
        dW = weight_gradient(first.r, first.delta).value
        assert not dW[dark].any()
        assert dW[~dark].any(axis=1).mean() > 0.5
    assert differences(trace, dr, kink.KINKS) == (0.0, 0.0)


def test_zeros_are_counted_and_float32_has_none_in_a_pass():
    for name in chance.NETWORKS:
        found = chance.counted(name, 0, 1).iloc[0]
        assert found.preactivations == chance.EXAMPLES * chance.WIDTH * chance.DEPTH
        assert found.zeros == 0
    assert chance.share(24, 10**9).low < 2.4e-8 < chance.share(24, 10**9).high


def test_a_band_of_no_width_is_relu_and_a_wide_one_decides():
    z = np.array([-0.5, -0.0, 0.25, 2.0], np.float32)
    plain, wide = chance.widened(0.0), chance.widened(0.5)
    assert plain.derivative(z, 0.0).tolist() == [0, 0, 1, 1]
    assert wide.derivative(z, 0.0).tolist() == [0, 0, 0, 1]
    assert wide.derivative(z, 1.0).tolist() == [1, 1, 1, 1]
    assert wide.phi(z).tolist() == [0, 0, 0.25, 2]


def test_runs_part_where_they_meet_the_band_alone():
    df = chance.with_bands("sgd", [0, 1], 30)
    exact = df[df.band == 0]
    assert (exact.met == 0).all()
    assert exact.groupby("seed").accuracy.nunique().eq(1).all()
    assert df[df.band == max(chance.BANDS)].met.between(1e-4, 0.1).all()


def test_training_pairs_the_runs():
    with np.errstate(under="ignore"):
        df = kink.measure("training", seed=0, steps=2)["training"]
    double = df[df.format == "float64"]
    assert double.zeros.sum() == 0
    assert np.isinf(double.step_parted).all()
    assert double.accuracy.nunique() == 1
    assert np.isinf(df.step_parted[df.kink == 1.0]).all()


def test_descent_is_that_of_the_closed_form():
    """One unit, y = ReLU(W x): dC/dW = (ReLU(W x) - y) Step(W x) x, the derivation's example."""
    W, x, y, rate = 0.75, 2.0, 1.0, 0.125
    batches = [(np.array([[x]]), np.array([[y]]))] * 3
    start = [np.array([[W]])]
    found = descend(start, batches, ["relu"], FORMATS["float64"], [0.0, 1.0], rate)
    for _ in range(3):
        W -= rate * (W * x - y) * x
    assert {descent.weights[0].item() for descent in found.values()} == {W}
    assert {descent.parted for descent in found.values()} == {np.inf}


def test_descents_part_where_z_is_0():
    """From z = 0 ReLU'(0) decides whether anything is learnt: the negative control."""
    start, batch = [np.zeros((1, 1)), np.ones((1, 1))], (np.ones((1, 1)), np.ones((1, 1)))
    found = descend(start, [batch] * 2, ["relu", "linear"], FORMATS["float64"], [0.0, 1.0], 0.5)
    assert found[0.0].weights[0].item() == 0
    assert found[1.0].weights[0].item() > 0
    assert (found[0.0].parted, found[1.0].parted) == (1.0, np.inf)
    assert (found[0.0].zeros, found[1.0].zeros) == (2, 1)
