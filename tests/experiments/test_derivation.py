"""The witnesses against torch, exact fractions and each other."""

import itertools
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import study
from experiments import derivation
from experiments.derivation import equations, witness
from experiments.derivation.witness import UNIT_ROUNDOFF, relative_error
from study.core.activations import TABLE
from study.core.blocks import Dense

U = UNIT_ROUNDOFF
WITNESSES = {
    "equations": (equations, 300 * U),
    "complex_step": (witness.complex_step, 300 * U),
    "central_difference": (witness.central_difference, 300 * U ** (2 / 3)),
}


def network(seed, widths, batch=3, scale=1.0):
    rng = np.random.default_rng(seed)
    weights = [scale * rng.normal(size=(m, n)) / m**0.5 for m, n in itertools.pairwise(widths)]
    return weights, rng.normal(size=(batch, widths[0])), rng.normal(size=(batch, widths[-1]))


@pytest.mark.parametrize("name", TABLE)
def test_every_witness_has_the_entries_of_torch_autograd(torch, torch_phi, name):
    weights, x, y = network(3, [4, 6, 5, 3])
    Ws, r = [torch.tensor(W, requires_grad=True) for W in weights], torch.tensor(x)
    for W in Ws:
        r = torch_phi[name](r @ W)
    cost = 0.5 * ((r - torch.tensor(y)) ** 2).sum() / len(x)
    cost.backward()
    true = [W.grad.numpy() for W in Ws]
    for called, (of, tolerance) in WITNESSES.items():
        with np.errstate(under="ignore"):
            found = of(weights, x, y, name)
        assert [g.shape for g in found] == [W.shape for W in weights]
        for got, expected in zip(found, true, strict=True):
            size = np.linalg.norm(expected)
            lost = max(1, float(cost.detach()) / size) if "difference" in called and size else 1
            assert relative_error([got], [expected]) < tolerance * lost, called
    norms = study.backpropagate(weights, x, name, targets=y)
    got = np.ldexp(norms.grad_norm_mantissa, norms.grad_norm_exponent)
    np.testing.assert_allclose(got, [np.linalg.norm(g) for g in true], rtol=300 * U)


def test_a_relu_networks_gradient_equals_the_exact_one_in_fractions():
    """Its cost is quadratic in each weight alone: the central difference of fractions is exact."""
    rng = np.random.default_rng(2)
    widths = [3, 4, 4, 2]
    weights = [rng.integers(-800, 801, (m, n)) / 1024 for m, n in itertools.pairwise(widths)]
    x, y = rng.integers(-8, 9, (1, 3)) / 4, rng.integers(-8, 9, (1, 2)) / 4

    def exact_cost(Ws):
        r = [Fraction(v) for v in x[0]]
        for W in Ws:
            z = [sum(r[i] * W[i][j] for i in range(len(r))) for j in range(len(W[0]))]
            assert all(v != 0 for v in z)
            r = [max(v, Fraction(0)) for v in z]
        return sum((a - Fraction(b)) ** 2 for a, b in zip(r, y[0], strict=True)) / 2

    exact = [[[Fraction(v) for v in row] for row in W] for W in weights]
    h, true = Fraction(1, 2**40), [np.zeros(W.shape) for W in weights]
    for k, W in enumerate(exact):
        for i, j in np.ndindex(true[k].shape):
            here, costs = W[i][j], []
            for step in (h, -h):
                W[i][j] = here + step
                costs.append(exact_cost(exact))
            W[i][j] = here
            true[k][i, j] = float((costs[0] - costs[1]) / (2 * h))
    assert all(g.any() for g in true)
    for of in (derivation.equations, witness.complex_step):
        for got, expected in zip(of(weights, x, y, "relu"), true, strict=True):
            np.testing.assert_allclose(got, expected, rtol=20 * U, atol=0)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "erf"])
def test_errors_of_differences_go_as_the_square_of_the_step_and_complex_steps_need_none(name):
    weights, x, y = network(5, [4, 5, 3])
    true = derivation.equations(weights, x, y, name)
    for of, sign in ((witness.central_difference, 1), (witness.complex_step, -1)):
        found = [of(weights, x, y, name, step) for step in (2.0**-9, 2.0**-10)]
        off = [
            np.concatenate([(a - b).ravel() for a, b in zip(f, true, strict=True)]) for f in found
        ]
        np.testing.assert_allclose(off[0], 4 * off[1], rtol=0.01, atol=1e-11)
        if sign == 1:
            first = off[0]
    np.testing.assert_allclose(off[0], -first, rtol=0.01, atol=1e-11)  # h^2 C'''/6 and its negative
    tiny = witness.complex_step(weights, x, y, name, 2.0**-900)
    for a, b in zip(tiny, witness.complex_step(weights, x, y, name), strict=True):
        assert np.array_equal(a, b)


def test_a_difference_across_a_kink_is_left_out():
    W, x, y = np.array([[1e-9]]), np.array([[1.0]]), np.array([[1.0]])
    assert np.isnan(witness.central_difference([W], x, y, "relu", 1e-6)[0]).all()
    assert witness.complex_step([W], x, y, "relu")[0] == pytest.approx(-1, rel=1e-8)
    assert not np.isnan(witness.central_difference([W], x, y, "tanh", 1e-6)[0]).any()
    assert np.isnan(relative_error([np.array([np.nan])], [np.array([1.0])]))
    assert relative_error([np.array([1.0])], [np.array([0.0])]) == np.inf
    assert relative_error([np.array([0.0])], [np.array([0.0])]) == 0


def test_witnesses_see_what_norms_do_not():
    """The negative control: a transposed gradient, and one that is off in its twelfth digit."""
    weights, x, y = network(7, [5, 5, 5])
    ours = derivation.equations(weights, x, y, "tanh")
    true = witness.complex_step(weights, x, y, "tanh")
    assert relative_error(ours, true) < 100 * U
    assert relative_error([g.T for g in ours], true) > 0.1
    assert relative_error([g * (1 + 1e-12) for g in ours], true) > 1000 * U


@pytest.mark.parametrize("kink", [0.0, 0.5, 1.0])
def test_one_neuron_is_its_closed_form_also_on_the_kink(kink):
    rng = np.random.default_rng(2)
    for W in (rng.normal(size=(4, 1)), -rng.normal(size=(4, 1)), np.zeros((4, 1))):
        x, y = rng.normal(size=(1, 4)), rng.normal(size=(1, 1))
        z = (x @ W).item()
        formula = (max(z, 0) - y.item()) * np.heaviside(z, kink) * x.T
        np.testing.assert_allclose(
            derivation.equations([W], x, y, "relu", kink)[0], formula, rtol=4 * U, atol=0
        )


# --- Examination ---------------------------------------------------------------------------


def square(depth, width=8, batch=2, sigma_w=1.5):
    rng = np.random.default_rng(depth)
    weights = [sigma_w * rng.normal(size=(width, width)) / width**0.5 for _ in range(depth)]
    return weights, *rng.normal(size=(2, batch, width))


def rounding(width, depth, condition):
    """The relative error that rounding may cause."""
    return 4 * (width + 4) * U * max(depth, condition)


@pytest.mark.parametrize("depth", [1, 10])
@pytest.mark.parametrize("name", TABLE)
def test_the_errors_are_within_what_rounding_allows(name, depth):
    """Equations and recorded norms, beside complex steps and beside central differences."""
    sigma_w = derivation.CRITICAL.get(name, 1.5)
    found = derivation.against_witnesses(*square(depth, sigma_w=sigma_w), name)
    assert set(found) == set(derivation.ERRORS)
    limit = rounding(8, depth, found["condition"])
    assert max(found["error_complex"], found["error_norm"]) < limit
    # That of the cost, divided by h.
    of_cost = limit * U ** (-1 / 3) * max(1, found["cost_over_gradient"])
    assert found["error_difference"] < of_cost


def test_central_differences_have_no_digit_of_a_vanished_gradient():
    found = derivation.against_witnesses(*square(30, sigma_w=1.0), "sigmoid")
    assert found["error_difference_first"] > 0.1
    assert found["error_complex"] < rounding(8, 30, found["condition"])


def test_one_neuron_is_its_closed_form_by_complex_steps():
    assert derivation.one_neuron(0) < rounding(derivation.WIDTH, 1, 1)


def test_a_wrong_equation_is_off_by_as_much_as_it_is_wrong(monkeypatch):
    """The negative control: equation (1) wrong in its ninth digit, in the last layer alone."""
    right = derivation.equations

    def wrong(weights, x, y, activation):
        *gradients, last = right(weights, x, y, activation)
        return [*gradients, last * (1 + 1e-9)]

    monkeypatch.setattr(derivation, "equations", wrong)
    found = derivation.against_witnesses(*square(4), "tanh")
    assert found["error_complex"] == pytest.approx(1e-9, rel=1e-5)
    assert found["error_complex"] > 1000 * rounding(8, 4, found["condition"])
    assert found["error_norm"] < rounding(8, 4, found["condition"])


def test_the_condition_is_the_norm_of_the_change_over_that_of_the_weights():
    """A linear layer alone, cost without target: dC/dW = x' x W, as sensitive as W itself."""
    W, x = np.array([[3.0]]), np.array([[2.0]])
    found = derivation.against_witnesses([W], x, 0 * x, "linear")
    key = derivation.gaussian.key("move")
    assert found["condition"] == pytest.approx(
        abs(derivation.gaussian.normal(key, 0, (1, 1)).item()), rel=1e-6
    )
    assert found["cost_over_gradient"] == pytest.approx(0.5 * 6.0**2 / 12.0, rel=1e-14)


def exchanged(weights, x, y, name):
    rows = derivation.with_slopes_exchanged(weights, x, y, name, derivation.ACTIVATIONS)
    return pd.DataFrame(rows).set_index("code")


@pytest.mark.parametrize("name", derivation.ACTIVATIONS)
def test_replacing_phi_prime_and_nothing_else_makes_one_backward_pass_another(name):
    rows = exchanged(*square(6), name)
    assert list(rows.index) == derivation.ACTIVATIONS
    assert (rows.layers_differing == 0).all()
    assert rows.log10_off[name] == 0
    assert (rows.log10_off.drop([name]) != 0).all()


def test_the_swap_would_notice_a_backward_pass_that_depends_on_more(monkeypatch):
    """The negative control: a backward pass that also looks at the activation's name."""
    plain = Dense.slope

    def peeking(self, z):
        return plain(self, z) * (1 + 2.0**-50 * (self.activation.name == "relu"))

    monkeypatch.setattr(Dense, "slope", peeking)
    rows = exchanged(*square(3), "sigmoid")
    assert rows.layers_differing["relu"] == 3
    assert rows.layers_differing["tanh"] == 0
