"""The law of the matrix-free engine against explicit weights, and one contract for both engines.

Every two-sample test of this file belongs to one family. Its false-alarm rate, the chance that a
right engine fails any of them, is FAMILY = 1e-3 by Bonferroni; seeds are fixed.
"""

import itertools

import numpy as np
import pytest
from scipy import stats

from study import Network, backpropagate, profile
from study.arithmetic.scaled import Scaled
from study.core.activations import TABLE
from study.core.columns import PROFILE_COLUMNS
from study.engines import matrix_free as mf
from study.engines import walk
from study.engines.dense import DenseWeights
from study.engines.march import Data, March

FAMILY = 1e-3
NETS = {"relu": 2**0.5, "sigmoid": 4.0, "tanh": 1.5, "linear": 1.0}
LAWS = ("gaussian", "orthogonal")
SHAPES = [(5, 1), (8, 2), (5, 5), (16, 5), (24, 1)]  # width, batch
SLOW_SHAPES = [*SHAPES, (64, 1), (5, 2), (16, 2), (16, 9), (16, 16), (64, 5)]
DEPTH, DRAWS = 5, 3000
FLOOR = -4.0  # stands for the logarithm of a dead layer's zero


# --- Two samples of the joint law ----------------------------------------------------------------


def examples(width, batch):
    """The inputs and targets of every draw: as y = 0, dC/dr follows r, and so W's two uses meet."""
    inputs = np.random.default_rng([width, batch]).standard_normal((batch, width))
    return inputs, np.zeros((batch, width))


def explicit(name, law, width, batch, draws, rng, cost=True, sigma_b=0.0):
    """Plain backprop on explicit weights: features (draws, features), as `features` has them."""
    row = TABLE[name]
    shape = (draws, width, width)
    random = rng.standard_normal((draws, batch, width))
    r = [np.broadcast_to(examples(width, batch)[0], random.shape) if cost else random]
    W, z = [], []
    for _ in range(DEPTH):
        G = rng.standard_normal(shape) / width**0.5
        if law == "orthogonal":
            G, right = np.linalg.qr(G)
            G *= np.sign(right.diagonal(axis1=1, axis2=2))[:, None]
        W.append(NETS[name] * G)
        z.append(r[-1] @ W[-1] + sigma_b * rng.standard_normal((draws, 1, width)))
        r.append(row.phi(z[-1]))
    random = rng.standard_normal((draws, batch, width))
    random /= np.linalg.norm(random, axis=(1, 2), keepdims=True)
    dr = r[-1] / batch if cost else random
    grad, delta = [], []
    for k in reversed(range(DEPTH)):
        d = dr * row.derivative(z[k])
        dr = d @ W[k].mT
        grad.append(np.linalg.norm(r[k].mT @ d, axis=(1, 2)))
        delta.append(np.linalg.norm(d, axis=2))
    signal = [np.linalg.norm(x, axis=2) for x in r[1:]]
    return features(np.array(grad[::-1]), np.array(signal), np.array(delta[::-1]))


def features(grad, signal, delta):
    """log10 of the gradients' norms, (layers, draws), and of two examples' r and delta."""
    parts = [grad, *(x[..., b] for x in (signal, delta) for b in range(min(2, x.shape[-1])))]
    with np.errstate(divide="ignore"):
        # Rounded, so that what is constant but for rounding is.
        return np.round(np.maximum(np.log10(np.concatenate(parts)), FLOOR), 9).T


def engine(
    law, width, batch, seeds, layers=mf.MatrixFreeWeights, names=tuple(NETS), cost=True, sigma_b=0.0
):
    """The same features of each network, by an engine."""
    nets = [Network(name, DEPTH, width, NETS[name], sigma_b=sigma_b, weights=law) for name in names]
    march = March(
        layers, dict(enumerate(nets)), seeds, Data(batch, *(examples(width, batch) if cost else ()))
    )
    march.columns(np.arange)
    found = {}
    for j, name in enumerate(names):
        rows = slice(j * len(seeds), (j + 1) * len(seeds))
        trunk, record = march.trunk[rows], march.record
        columns = record.columns(
            np.arange(DEPTH), np.arange(len(march.trunk))[rows], trunk, np.zeros((DEPTH, 1))
        )
        squares = [
            (x.squares * 4.0**x.exponent) ** 0.5
            for x in (record.signal[1:, trunk], record.delta[:, rows])
        ]
        found[name] = features(10.0 ** columns["log10_grad_norm"], *squares)
    return found


def p_values(a, b, rng):
    """Marginals, 20 projections of the joint law, and every covariance of two features."""
    with np.errstate(all="ignore"):
        mean, scale = np.concatenate([a, b]).mean(0), np.concatenate([a, b]).std(0)
        a, b = (np.clip((x - mean) / np.maximum(scale, 1e-8), -4, 4) for x in (a, b))
        directions = rng.standard_normal((a.shape[1], 20))
        columns = [np.concatenate([x, x @ directions], axis=1).T for x in (a, b)]
        found = [stats.ks_2samp(x, y, method="asymp").pvalue for x, y in zip(*columns, strict=True)]
        i, j = np.triu_indices(a.shape[1])
        a, b = a[:, i] * a[:, j], b[:, i] * b[:, j]
        z = (a.mean(0) - b.mean(0)) / np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
        return np.array([*found, *2 * stats.norm.sf(np.abs(np.nan_to_num(z)))])


def comparisons(batch):
    """How many p-values a comparison has."""
    count = DEPTH * (1 + 2 * min(batch, 2))
    return count + 20 + count * (count + 1) // 2


FAST_SIZE = len(LAWS) * len(NETS) * sum(comparisons(batch) for _, batch in SHAPES)
EXTRA_SIZE = 3 * comparisons(2) * len(LAWS)
LEVEL = FAMILY / (FAST_SIZE + EXTRA_SIZE)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("width", "batch"), SHAPES)
def test_joint_law_is_that_of_explicit_weights(law, width, batch):
    rng = np.random.default_rng([width, batch, len(law)])
    draws = DRAWS if width < 24 else DRAWS // 2
    drawn = engine(law, width, batch, range(draws))
    for name in NETS:
        plain = explicit(name, law, width, batch, draws, rng)
        p = p_values(drawn[name], plain, rng)
        assert len(p) == comparisons(batch)
        print(f"{law} {name} {width} {batch}: {len(p)} tests, min p {p.min():.2g}; {LEVEL:.2g}")
        assert p.min() > LEVEL, name


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("width", "batch"), SLOW_SHAPES)
def test_joint_law_more_draws(law, width, batch):
    rng = np.random.default_rng([width, batch, len(law), 1])
    draws = 40_000 if width < 64 else 10_000
    drawn = engine(law, width, batch, range(10**6, 10**6 + draws))
    level = FAMILY / (len(LAWS) * len(NETS) * sum(comparisons(b) for _, b in SLOW_SHAPES))
    for name in NETS:
        p = p_values(drawn[name], explicit(name, law, width, batch, draws, rng), rng)
        assert p.min() > level, name


@pytest.mark.parametrize("law", LAWS)
def test_joint_law_with_biases_and_against_the_dense_engine(law):
    rng = np.random.default_rng(len(law))
    how = {"cost": False, "sigma_b": 0.5}
    drawn = engine(law, 8, 2, range(DRAWS), names=["tanh"], **how)["tanh"]
    assert p_values(drawn, explicit("tanh", law, 8, 2, DRAWS, rng, **how), rng).min() > LEVEL
    seeds = range(10**5, 10**5 + 600)
    dense = [engine(law, 8, 2, [s], DenseWeights, ["tanh"], **how)["tanh"] for s in seeds]
    assert p_values(drawn, np.concatenate(dense), rng).min() > LEVEL


# --- Negative controls: what a wrong derivation gives is rejected --------------------------------


def afresh(c, D, Q, G1, H, out):
    S, _ = mf.factor(D, frame=False)
    mf.times(c * S, H, out)


def unprojected(c, D, Q, G1, H, out):
    afresh(c, D, Q, G1, H, out)
    out += mf.times(c * (D @ G1.mT), Q)


def reused(c, D, Q, G1, H, out):
    mf.gaussian_back(c, D, Q, G1, G1, out)


def haar_afresh(c, D, Q, F, H, out):
    S, _ = mf.factor(D, frame=False)
    _, E = mf.factor(H)
    mf.times(c * S, E, out)


def haar_unprojected(c, D, Q, F, H, out):
    A = D @ F.mT
    S, _ = mf.factor(D - mf.times(A, F), frame=False)
    _, E = mf.factor(H)
    mf.times(c * S, E, out)
    out += mf.times(c * A, Q)


# A frame E made of F again is no control: its direction within the complement of Q hardly meets
# what the forward pass made of F, and no test of norms here can tell (p > 1e-5 in 4,000 draws).


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("law", "wrong"),
    [("gaussian", x) for x in (afresh, unprojected, reused)]
    + [("orthogonal", x) for x in (haar_afresh, haar_unprojected)],
)
def test_wrong_laws_are_rejected(monkeypatch, law, wrong, batch):
    monkeypatch.setitem(mf.BACK, law, wrong)
    rng = np.random.default_rng(1)
    smallest = []
    for name in ("relu", "tanh"):
        drawn = engine(law, 5, batch, range(DRAWS), names=[name])[name]
        smallest.append(p_values(drawn, explicit(name, law, 5, batch, DRAWS, rng), rng).min())
    print(f"{law} {wrong.__name__} {batch}: min p {smallest}; {LEVEL:.2g}")
    assert min(smallest) < LEVEL


# --- Identities that hold for every draw ---------------------------------------------------------


def layer(law, R, D, seeds=1, dtype="float64", sigma_w=1.5, trunk=slice(None)):
    """Z = R W and D W' of one layer, R (rows, batch, n_in) and D (rows, batch, width)."""
    net = Network("linear", 1, D.shape[-1], sigma_w, weights=law, dtype=dtype)
    trunks = len(R) // seeds
    linear = mf.MatrixFreeWeights([net] * trunks, range(seeds), R.shape[-1], R.shape[-2], 1)
    linear.trunk = trunk
    r, delta = (Scaled(x, 0, np.vecdot(x, x)) for x in (R, D))
    with np.errstate(all="ignore"):
        Z, back = linear.up(0, r), linear.down(0, delta, r)
        back = back.mantissa * 2.0 ** np.asarray(back.exponent)[..., None]
    return Z.mantissa, back


def batches(n_in, n_out, batch, rows=2):
    """Batches of full rank, and with duplicates, zeros, and nearly dependent examples."""
    rng = np.random.default_rng([n_in, n_out, batch])
    R, D = (rng.standard_normal((rows, batch, n)) for n in (n_in, n_out))
    yield R, D
    twins, some = R.copy(), D.copy()
    twins[0, -1] = twins[0, 0]
    twins[1, batch // 2 :] = 0
    some[0, 0] = 0
    some[1, -1] = some[1, 0]
    yield twins, some
    yield np.zeros_like(R), D
    close = R[:, :1] + 1e-7 * R
    yield close, D[:, :1] + 1e-9 * D
    yield 2.0 ** rng.integers(-100, 100, (rows, batch, 1)) * R, D


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("n_in", "n_out"), [(8, 8), (3, 8), (13, 8), (1, 1), (8, 1), (1, 8)])
@pytest.mark.parametrize("batch", [1, 2, 5, 8, 20])
def test_both_ways_are_one_matrix(law, n_in, n_out, batch):
    """(D W') R' = D (R W)' whatever was drawn; an orthogonal W keeps lengths and angles."""
    for R, D in batches(n_in, n_out, batch):
        for trunk in (slice(None), np.array([0, 1, 0, 1])):
            d = D if isinstance(trunk, slice) else np.concatenate([D, D[::-1]])
            Z, back = layer(law, R, d, trunk=trunk, seeds=1 if isinstance(trunk, slice) else 2)
            size = np.linalg.norm(d, axis=2)[:, :, None] * np.linalg.norm(R, axis=2)[trunk][:, None]
            error = np.abs(back @ R[trunk].mT - d @ Z[trunk].mT)
            assert (error <= 1e-10 * size).all()
            if law == "orthogonal":
                c2 = 1.5**2 * max(n_in, n_out) / n_in
                for kept, x, y in ((n_in <= n_out, R, Z), (n_in >= n_out, d, back)):
                    s = np.linalg.norm(x, axis=2)
                    bound = 1e-9 * s[:, :, None] * s[:, None]
                    assert not kept or (np.abs(y @ y.mT / c2 - x @ x.mT) <= bound).all()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("batch", [6, 9])
def test_a_batch_that_spans_the_layer_is_backprop_on_the_weights_it_reveals(law, batch):
    net = Network("tanh", 5, 6, 1.2, 0.3, weights=law)
    march = March(mf.MatrixFreeWeights, {0: net}, [3], Data(batch))
    (segment,) = march._climb()
    r, z = ([getattr(step, x).mantissa[0] for step in segment[2]] for x in "rz")
    nothing = Scaled(np.zeros((1, batch, 6)), 0)
    b = [march.weights.biased(k, nothing).mantissa[0, 0] for k in range(5)]
    W = [np.linalg.lstsq(r[k], z[k] - b[k])[0] for k in range(5)]
    told = backpropagate(W, march.inputs[0], "tanh", b, cotangent=march.cotangent[0])
    got = profile(net, seeds=[3], batch=batch, engine="matrix_free")
    for column in ("log10_grad_norm", "log10_signal_norm", "log10_derivative_factor"):
        np.testing.assert_allclose(got[column], told[column], atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 3, 16, 20])
def test_an_orthogonal_linear_network_keeps_every_norm(batch, dtype):
    net = Network("linear", 200, 16, 1.0, weights="orthogonal", dtype=dtype)
    df = profile(net, seeds=range(3), batch=batch, engine="matrix_free")
    for _, one in df.groupby("seed"):
        for column in ("log10_grad_norm", "log10_delta_norm", "log10_signal_norm"):
            assert np.ptp(one[column]) < (1e-4 if dtype == "float32" else 1e-9), column
    assert abs(df.log10_weight_factor).max() < (1e-6 if dtype == "float32" else 1e-9)


# --- Lost rank -----------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [10.0**-k for k in range(1, 17)])
def test_factor_of_nearly_dependent_examples(apart):
    """The stated accuracy: batch x eps / PIVOT^2 with Cholesky, a few eps of R after it."""
    x, y = np.random.default_rng(0).standard_normal((2, 4, 50))
    R = x[:1] + apart * y
    T, Q = mf.factor(R)
    np.testing.assert_allclose(Q @ Q.T, np.eye(4), atol=4e-9 * 4)
    np.testing.assert_allclose(T @ Q, R, atol=1e-14)
    true, law = (np.linalg.norm(x[1:] - x[0], axis=1) for x in (R, T))
    np.testing.assert_allclose(law, true, rtol=1.6e-8, atol=5e-15 * np.linalg.norm(R[0]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_duplicates_stay_duplicates(dtype):
    """Even where the smallest difference would grow, and with one example beside them."""
    x = np.random.default_rng(0).standard_normal((2, 12))
    chaotic = Network("tanh", 100, 12, 3.0, dtype=dtype)
    march = March(mf.MatrixFreeWeights, {0: chaotic}, range(4), Data(3, x[[0, 1, 0]].astype(dtype)))
    march.columns(np.arange)
    s = march.record.signal.squares
    assert np.array_equal(s[..., 0], s[..., 2])
    assert not np.isclose(s[50:, :, 0], s[50:, :, 1]).all()
    one, two = (
        profile(Network("relu", 50, 12), engine="matrix_free", inputs=x[rows])
        for rows in ([0], [0, 0])
    )
    np.testing.assert_allclose(two.log10_signal_norm - one.log10_signal_norm, np.log10(2) / 2)


def test_only_equal_rows_are_taken_for_equal():
    """Rows of the same entries in another order are others; 0 and -0 are the same."""
    x = np.random.default_rng(0).standard_normal(7)
    last = np.r_[x[:-1], np.nextafter(x[-1], 9)]
    zero = np.r_[0.0, x[1:]]
    rows = np.array([x, x[::-1], last, x, zero, -zero, zero * [-1, 1, 1, 1, 1, 1, 1], x[::-1]])
    assert mf._first_equal(rows)[:, 0].tolist() == [0, 1, 2, 0, 4, 5, 4, 1]


def test_a_stack_of_batches_is_factored_one_by_one():
    """Whether Cholesky or Householder serves, in whatever company."""
    rng = np.random.default_rng(0)
    R = rng.standard_normal((6, 3, 10))
    R[1, 2] = R[1, 0]
    R[3] = R[3, :1] * [[1], [2], [1 + 1e-7]]
    R[4] = 0
    T, Q = mf.factor(R)
    for one, own_T, own_Q in zip(R, T, Q, strict=True):
        np.testing.assert_array_equal(mf.factor(one)[0], own_T)
        np.testing.assert_array_equal(mf.factor(one)[1], own_Q)
        np.testing.assert_array_equal(mf.factor(one, frame=False)[0], own_T)
        np.testing.assert_allclose(own_T @ own_Q, one, atol=1e-14)
        np.testing.assert_allclose(own_Q @ own_Q.T, np.eye(3), atol=2e-8)


def test_a_dead_layer_and_examples_that_fall_together():
    for law, batch in itertools.product(LAWS, (1, 2)):
        df = profile(Network("relu", 60, 3, weights=law), range(4), batch, "matrix_free")
        dead = ~np.isfinite(df.log10_signal_norm)
        assert dead.any()
        assert (df.status[dead] == "dead").all()
        assert (df.log10_signal_norm[dead] == -np.inf).all()
        # Ordered: the examples become one, to rounding; the law is then that of one example.
        nets = Network("tanh", 150, 16, 0.6, 0.5, weights=law)
        df = profile(nets, range(4), 4, "matrix_free")
        assert np.isfinite(df.log10_grad_norm).all()


# --- One contract, both engines ------------------------------------------------------------------

ENGINES = ("dense", "matrix_free")
both = pytest.mark.parametrize("engine_name", ENGINES)
MIXED = [
    Network(name, depth, 6, sigma_w, sigma_b, weights=law, dtype=dtype)
    for law, dtype in (("gaussian", "float64"), ("orthogonal", "float64"), ("gaussian", "float32"))
    for name, sigma_w, sigma_b in (("relu", 1.4, 0.0), ("sigmoid", 1.0, 0.2), ("linear", 90.0, 0.0))
    for depth in (1, 7, 60)
]


def exactly(a, b):
    for column in a:
        np.testing.assert_array_equal(a[column], b[column], column)


@both
@pytest.mark.parametrize("batch", [1, 3])
def test_contract(engine_name, batch):
    df = profile(MIXED, seeds=[5, 2], batch=batch, engine=engine_name)
    assert list(df) == list(PROFILE_COLUMNS)
    assert (df.engine == engine_name).all()
    assert df.log10_weight_norm.isna().all() == (engine_name == "matrix_free")
    assert (df.grad_norm_mantissa[df.status != "dead"].between(1, 2)).all()
    assert {"ok", "dead", "float32_underflow", "float32_overflow"} <= set(df.status)
    alive = df[np.isfinite(df.log10_delta_norm)].groupby((df.layer == 0).cumsum())
    for _, one in alive:  # the factors telescope
        below = one.log10_delta_norm + one.log10_weight_factor
        step = below.to_numpy()[1:] + one.log10_derivative_factor.to_numpy()[:-1]
        np.testing.assert_allclose(step, one.log10_delta_norm[:-1], atol=1e-5)
    # Networks run together, in whatever company, as alone.
    for net in MIXED[:9]:
        alone = profile(net, seeds=[2], batch=batch, engine=engine_name)
        at = (df[list(net.fields())] == list(net.fields().values())).all(axis=1) & (df.seed == 2)
        together = df[at].reset_index(drop=True)
        if engine_name == "matrix_free":
            exactly(alone, together)
        else:
            np.testing.assert_allclose(alone.log10_grad_norm, together.log10_grad_norm, atol=1e-9)


@both
@pytest.mark.parametrize("law", LAWS)
def test_inputs_targets_and_a_smaller_output(engine_name, law):
    rng = np.random.default_rng(0)
    nets = [Network("tanh", depth, 6, 1.0, weights=law) for depth in (1, 4)]
    for n_in in (3, 6, 11):
        data = {"inputs": rng.standard_normal((2, n_in)), "targets": rng.standard_normal((2, 4))}
        df = profile(nets, seeds=range(3), engine=engine_name, **data)
        assert np.isfinite(df.log10_grad_norm).all()
        assert (df.log10_signal_norm[df.layer == df.depth - 1] <= np.log10(8) / 2).all()


@both
@pytest.mark.parametrize("kink", [0.0, 0.5, 1.0])
def test_kink(engine_name, kink):
    df = profile(Network("relu", 3, 4, 0.0, kink=kink), engine=engine_name)
    assert df.log10_derivative_factor[2] == (np.log10(kink) if kink else -np.inf)
    assert (df.status == "dead").all()


@pytest.mark.parametrize("batch", [1, 3])
def test_blocks_threads_checkpoints_and_kept_roots_change_no_bit(monkeypatch, batch):
    nets = [net for net in MIXED if net.depth == 7]
    nets += [Network("tanh", 40, 6, 1.0, 0.1, dtype="float32")]
    whole = profile(nets, seeds=range(7), batch=batch, engine="matrix_free")
    monkeypatch.setattr(mf, "BLOCK_BYTES", 1)
    exactly(whole, profile(nets, seeds=range(7), batch=batch, engine="matrix_free"))
    monkeypatch.setattr(mf.MatrixFreeWeights, "signal_bytes", 0)
    exactly(whole, profile(nets, seeds=range(7), batch=batch, engine="matrix_free"))
    monkeypatch.setattr(mf, "ROOT_BYTES", 0)
    monkeypatch.setattr(walk, "KEPT_BYTES", 0)
    monkeypatch.setattr(walk, "GROUP_BYTES", 1)
    exactly(whole, profile(nets, seeds=range(7), batch=batch, engine="matrix_free"))


@pytest.mark.parametrize("law", LAWS)
def test_formats_are_one_network(law):
    for batch in (1, 4):
        single, double = (
            profile(Network("relu", 30, 24, weights=law, dtype=d), range(3), batch, "matrix_free")
            for d in ("float32", "float64")
        )
        np.testing.assert_allclose(single.log10_grad_norm, double.log10_grad_norm, atol=1e-4)


def test_inputs_biases_and_cotangent_are_those_of_the_dense_engine():
    net = Network("tanh", 2, 9, 0.0, 0.7)
    a, b = (profile(net, [4], 3, name).drop(columns=["engine"]) for name in ENGINES)
    exactly(a.drop(columns=["log10_weight_norm"]), b.drop(columns=["log10_weight_norm"]))


def test_what_is_refused_and_what_auto_takes():
    uniform = Network("relu", 3, 64, weights="uniform")
    with pytest.raises(ValueError, match=r"weights = 'uniform'; allowed: gaussian or orthogonal"):
        profile(uniform, engine="matrix_free")
    with pytest.raises(ValueError, match="engine = 'free'; allowed: auto, dense, matrix_free"):
        profile(uniform, engine="free")
    nets = [uniform, Network("relu", 3, 64), Network("relu", 3, 64, weights="orthogonal")]
    engines = profile(nets).groupby("weights").engine.unique()
    assert {law: list(x) for law, x in engines.items()} == {
        "uniform": ["dense"],
        "gaussian": ["matrix_free"],
        "orthogonal": ["matrix_free"],
    }
    assert set(profile(nets, batch=2).engine) == {"dense"}
    for law, width in (("gaussian", 1024), ("orthogonal", 256)):
        wide, narrow = (Network("relu", 2, n, weights=law) for n in (width, width - 1))
        asked = [(wide, width // 32), (wide, width // 32 + 1), (narrow, 2)]
        taken = [profile(net, batch=batch).engine[0] for net, batch in asked]
        assert taken == ["matrix_free", "dense", "dense"]
