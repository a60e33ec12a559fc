"""Theory of transformers: its limits in closed form, and networks of uniform attention."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from study.engines.transformer import MATRICES, Transformer, gradient_norms
from study.sampling import gaussian
from study.theory.transformers import transformer

TOKENS = 8


def test_post_ln_halves_what_tells_tokens_apart_and_keeps_their_mean_gradient():
    post = transformer(300, TOKENS, 64, "post")
    assert_allclose(np.diff(post.log10_difference)[-100:], -math.log10(2) / 2, rtol=1e-9)
    # T independent gradients: what differs between them halves with each block below the output.
    below = np.arange(40)
    squares = (1 + (TOKENS - 1) * 2.0**-below) / TOKENS
    assert_allclose(10 ** (2 * post.log10_upstream[::-1][:40]), squares, rtol=1e-9)
    # Gradients of queries and keys fall as the square of the difference.
    query = post.log10_norms[:, 0] - post.log10_norms[:, 2]
    assert_allclose(np.diff(query)[100:200], -math.log10(2), rtol=1e-9)
    last = transformer(1000, TOKENS, 64, "post").log10_norms[-1, 0]
    assert_allclose(last, -1000 * math.log10(2), rtol=0.02)  # no square underflows


def test_gelu_post_ln_explodes_by_its_chi():
    """(1 + chi) / 2 a block of what all tokens share, chi = E gelu'^2 / E gelu^2."""
    z, weights = np.polynomial.hermite_e.hermegauss(120)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    cdf = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z])
    chi = weights @ (cdf + z * density) ** 2 / (weights @ (z * cdf) ** 2)
    post = transformer(44, TOKENS, 64, "post", activation="gelu")
    found = 10 ** (2 * -np.diff(post.log10_upstream)[18])
    assert_allclose(found, (1 + chi) / 2, rtol=1e-5)
    assert found > 1.03


def test_pre_ln_falls_as_one_over_the_root_of_the_block():
    pre = transformer(800, TOKENS, 64, "pre")
    at = np.array([200, 800]) - 1
    assert_allclose(np.diff(pre.log10_norms[at, 2]) / math.log10(4), -0.5, atol=0.02)
    assert_allclose(np.diff(pre.log10_difference[at]) / math.log10(4), -0.25, atol=0.03)


def test_branches_of_one_over_root_depth_keep_tokens_apart():
    """Twice the blocks change nothing; undamped, the tokens become alike."""
    kept = [transformer(L, TOKENS, 64, "none", L**-0.5).log10_difference[-1] for L in (50, 100)]
    assert_allclose(*kept, atol=0.01)
    assert kept[0] > -0.3
    assert transformer(40, TOKENS, 64, "none").log10_difference[-1] < -4


@pytest.mark.parametrize(
    ("norm", "branch", "activation"),
    [("pre", 1.0, "gelu"), ("post", 1.0, "relu"), ("post", 0.5, "gelu"), ("none", 0.4, "relu")],
)
def test_networks_of_uniform_attention_have_these_norms(norm, branch, activation):
    about = {"norm": norm, "branch": branch, "activation": activation}
    net = Transformer(blocks=6, width=256, logits=0.0, **about)
    x, u = np.random.default_rng(0).normal(size=(2, 8, TOKENS, 256))
    u /= np.linalg.norm(u, axis=(-2, -1), keepdims=True)
    key = gaussian.key(3, "theory of transformers")
    frame = gradient_norms(net, lambda k: net.drawn(key, k, len(x)), x, u, range(6))
    frame["square"] = 10 ** (2 * frame.log10_grad_norm)
    found = frame.groupby(["layer", "matrix"]).square.mean().unstack()[list(MATRICES[2:])]
    right = transformer(6, TOKENS, 256, **about)
    assert np.abs(np.log10(found) / 2 - right.log10_norms[:, 2:]).to_numpy().max() < 0.1
    apart = frame.groupby("layer").log10_difference.mean()
    assert_allclose(apart, right.log10_difference, atol=0.03)
    # The control: another place for the normalisation is seen.
    wrong = transformer(6, TOKENS, 256, "post" if norm == "pre" else "pre", branch).log10_norms
    assert np.abs(np.log10(found) / 2 - wrong[:, 2:]).to_numpy().max() > 0.2
