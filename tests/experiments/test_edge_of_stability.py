"""The sharpness against Hessians known otherwise."""

import numpy as np
import pytest

from experiments import edge_of_stability as edge


def test_the_sharpness_of_a_linear_layer_is_that_of_its_inputs():
    """C = 1/2 |x W - y|^2: the Hessian is x'x / n for each output, whatever W."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    W = rng.normal(size=(6, 5))
    found = edge.sharpness([W], ["linear"], x, rng.normal(size=(40, 5)))
    assert found == pytest.approx(np.linalg.eigvalsh(x.T @ x / 40)[-1], rel=1e-3)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
def test_the_sharpness_is_torchs(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 5)), rng.normal(size=(30, 3))
    weights = [rng.normal(size=(5, 6)), rng.normal(size=(6, 3))]

    def cost(flat):
        first, second = flat[:30].reshape(5, 6), flat[30:].reshape(6, 3)
        out = getattr(torch, name)(torch.tensor(x) @ first) @ second
        return 0.5 * ((out - torch.tensor(y)) ** 2).sum(axis=1).mean()

    flat = torch.tensor(np.concatenate([W.ravel() for W in weights]))
    hessian = torch.autograd.functional.hessian(cost, flat).numpy()
    found = edge.sharpness(weights, [name, "linear"], x, y)
    assert found == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=2e-3)


def test_a_run_that_diverged_has_no_sharpness():
    df = edge.measure("tanh", rate=1e9, steps=60, looks=2, seeds=[0, 1])["sharpness"]
    assert df.sharpness[df.step == 0].gt(0).all()
    assert df.sharpness[df.step == 60].isna().all()
