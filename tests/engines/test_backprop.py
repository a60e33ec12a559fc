"""The core against four witnesses: plain NumPy, torch, ball arithmetic and closed forms."""

import itertools
import math

import numpy as np
import pytest
import witness_arb as witness
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

import study
from study.arithmetic.activations import EVERY, Activations, Block
from study.arithmetic.scaled import Scaled, settle
from study.core.activations import FAR, TABLE, activation
from study.core.backprop import backward, forward
from study.core.columns import LAYER
from study.engines import recorder
from study.engines.explicit import GivenWeights
from study.engines.recorder import RecordedLayer, Recorder
from study.runs import identities

NAMES = tuple(TABLE)
DTYPES = ("float32", "float64")
U = witness.UNIT_ROUNDOFF

# Scales at which signals neither die nor run away, so that deep networks stay in range.
SCALE = dict.fromkeys(TABLE, 1.1)
SCALE |= {"relu": 1.4, "sigmoid": 3.5, "leaky_relu": 1.4, "linear": 1.0, "selu": 1.0, "gelu": 1.4}
SCALE |= {"silu": 1.5, "softplus": 1.0, "hard_tanh": 1.05, "erf": 1.05, "mish": 1.5, "relu6": 1.4}


def draw(rng, widths, sigma, dtype="float64"):
    """Gaussian weights that chain, Var W = sigma^2 / fan_in."""
    sigma = np.broadcast_to(sigma, len(widths) - 1)
    return [
        (rng.normal(size=(m, n)) * s / math.sqrt(m)).astype(dtype)
        for s, (m, n) in zip(sigma, itertools.pairwise(widths), strict=True)
    ]


def norm_of(df, k=0) -> arb:
    """The gradient's norm of a layer, exactly as reported."""
    with witness.bits(200):
        return arb(float(df.grad_norm_mantissa[k])) * arb(2) ** int(df.grad_norm_exponent[k])


# --- Plain NumPy: the same numbers ---------------------------------------------------------------


def plain(weights, x, names, top, biases=None, kink=1.0):
    """Backpropagation as anyone would write it; ``top(r)`` is dC/dr at the output."""
    rs, zs = [x], []
    for k, (W, name) in enumerate(zip(weights, names, strict=True)):
        z = rs[-1] @ W
        zs.append(z if biases is None else z + biases[k])
        rs.append(TABLE[name].phi(zs[-1]))
    dr = top(rs[-1])
    drs, deltas = [dr], []
    for W, name, z in zip(weights[::-1], names[::-1], zs[::-1], strict=True):
        deltas.append(drs[-1] * TABLE[name].derivative(z, kink))
        drs.append(deltas[-1] @ W.T)
    return rs, zs, drs[::-1], deltas[::-1]


def squares(rows):
    rows = rows.astype(np.float64)
    return np.vecdot(rows, rows)


def gradient_norm(r, delta):
    """The Frobenius norm of r' delta by the sums that the core makes, but of plain floats."""
    if len(r) == 1:
        return math.sqrt((squares(r) * squares(delta))[0])
    r, delta = (Scaled(x[None], 0, squares(x[None])) for x in (r, delta))
    total = recorder.gradient_square(r, delta)
    assert total.exponent == 0
    return math.sqrt(total.squares[0])


def in_range(arrays) -> bool:
    """Whether no float, and no square of one, has left the normal range of its format."""
    for x in arrays:
        size = np.abs(x[x != 0])
        limits = np.finfo(x.dtype)
        if not np.isfinite(x).all():
            return False
        if size.size and not (
            limits.tiny <= size.min() ** 2 and size.max() ** 2 < limits.max / 1e4
        ):
            return False
    return True


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 3, 20])
@pytest.mark.parametrize("name", NAMES)
def test_in_range_every_norm_is_that_of_plain_backprop(name, batch, dtype):
    rng = np.random.default_rng(len(name) + batch)
    compared = rescaled = 0
    for depth, factor in itertools.product((1, 7, 40, 200), (0.5, 1.0)):
        widths = [int(n) for n in rng.choice([1, 5, 16, 33], size=2)] + [12] * (depth - 1)
        weights = draw(rng, widths, factor * SCALE[name], dtype)
        biases = [rng.normal(size=W.shape[1]).astype(dtype) / 10 for W in weights]
        biases = biases if depth % 2 else None
        x = rng.normal(size=(batch, widths[0])).astype(dtype)
        y = rng.normal(size=(batch, weights[-1].shape[1])).astype(dtype)
        given_ = {"targets": y} if depth % 3 else {"cotangent": y}

        def top(r, y=y, depth=depth):
            return (r - y) / r.dtype.type(len(y)) if depth % 3 else y

        with np.errstate(all="ignore"):
            rs, zs, drs, deltas = plain(weights, x, [name] * depth, top, biases, 0.5)
            whole = in_range([*rs, *zs, *drs, *deltas])
        if not whole:
            continue
        df = study.backpropagate(weights, x, name, biases, kink=0.5, dtype=dtype, **given_)
        with np.errstate(under="ignore"):
            expected = [gradient_norm(r, delta) for r, delta in zip(rs, deltas, strict=False)]
        got = np.ldexp(df.grad_norm_mantissa, df.grad_norm_exponent)
        np.testing.assert_allclose(got, expected, rtol=1e-14)
        assert not [wrong for _, wrong in identities.check(df) if wrong]
        columns = {"delta": deltas, "signal": rs[1:], "upstream": drs[1:]}
        for column, arrays in columns.items():
            with np.errstate(divide="ignore", under="ignore"):
                logs = [np.log10(math.sqrt(squares(rows).sum())) for rows in arrays]
            np.testing.assert_allclose(df[f"log10_{column}_norm"], logs, rtol=1e-14, atol=1e-14)
        below = df.log10_upstream_norm + df.log10_derivative_factor  # equation (1)
        np.testing.assert_allclose(below, df.log10_delta_norm, rtol=1e-12, atol=1e-12)
        compared += 1
        sizes = [np.abs(rows).max() for rows in (*drs, *deltas)]
        rescaled += min(sizes) < 2.0**-27
    assert compared >= 4
    if dtype == "float32" and batch == 1 and name in ("relu", "tanh", "linear", "erf", "hard_tanh"):
        assert rescaled, "no case had to be rescaled: the test would prove too little"


# --- Torch ---------------------------------------------------------------------------------------


def torch_norms(torch, phi, weights, x, names, biases, targets, cotangent):
    """Norms of dC/dW^(k) by autograd, in float64; kinks as torch has them."""
    Ws = [torch.tensor(W, requires_grad=True) for W in weights]
    r = torch.tensor(x)
    for k, (W, name) in enumerate(zip(Ws, names, strict=True)):
        z = r @ W
        r = phi[name](z if biases is None else z + torch.tensor(biases[k]))
    if targets is None:
        r.backward(torch.tensor(cotangent))
    else:
        (0.5 * ((r - torch.tensor(targets)) ** 2).sum() / len(x)).backward()
    with np.errstate(all="ignore"):
        scales = [float(W.grad.abs().max()) for W in Ws]
        return np.array(
            [s and s * float((W.grad / s).norm()) for s, W in zip(scales, Ws, strict=True)]
        )


def configuration(rng):
    """One random network: weights, inputs and everything else that can be given."""
    depth = int(2 ** rng.uniform(0, np.log2(200.99)))
    batch = int(rng.choice([1, 1, 2, 5, 17, 40]))
    if rng.random() < 0.5:
        widths = [int(rng.integers(1, 65))] * (depth + 1)
    else:
        widths = [int(n) for n in rng.integers(1 if depth < 20 else 4, 65, size=depth + 1)]
    names = [str(rng.choice(NAMES))] * depth
    if rng.random() < 0.35:
        names = [str(name) for name in rng.choice(NAMES, size=depth)]
    factor = rng.uniform(0.7, 1.0)
    weights = draw(rng, widths, [factor * SCALE[name] for name in names])
    if rng.random() < 0.2:  # units whose every z is exactly 0, at the kink
        for W in weights:
            W[:, rng.random(W.shape[1]) < 0.1] = 0
    biases = None
    if rng.random() < 0.3 and weights[0].all():
        biases = [rng.normal(size=W.shape[1]) * 0.1 for W in weights]
    x = rng.normal(size=(batch, widths[0]))
    y = rng.normal(size=(batch, widths[-1]))
    targets, cotangent = (y, None) if rng.random() < 0.5 else (None, y)
    return weights, x, names, biases, targets, cotangent


def test_log10_norms_equal_torch_autograd_to_1e_12_over_200_configurations(torch, torch_phi):
    """Relative, with no absolute tolerance.

    A network counts when its gradients are a well-conditioned function of its weights: moving each
    of them by 2^-40 of itself must move no norm by more than 300 times as much. Otherwise (chaos, a
    cancelled gradient) rounding alone makes two right answers differ. It also has to be in torch's
    range. Next to norm 1 the logarithm passes 0: there the norm itself must be right to 1e-12.
    """
    rng = np.random.default_rng(12)
    compared, tried, worst, deep, wide, dead = 0, 0, 0.0, 0, 0, 0
    while compared < 220:
        tried += 1
        weights, x, *rest = configuration(rng)
        expected = torch_norms(torch, torch_phi, weights, x, *rest)
        moved = [W * (1 + 2.0**-40 * rng.choice([-1, 1], size=W.shape)) for W in weights]
        nearby = torch_norms(torch, torch_phi, moved, x, *rest)
        alive = expected > 0
        if not ((expected[alive] > 1e-250) & (expected[alive] < 1e250)).all():
            continue
        if not np.allclose(nearby, expected, rtol=300 * 2.0**-40, atol=0):
            continue
        names, biases, targets, cotangent = rest
        df = study.backpropagate(weights, x, names, biases, targets, cotangent, kink=0.0)
        got = df.log10_grad_norm.to_numpy()
        assert np.array_equal(np.isneginf(got), ~alive)
        logs = np.log10(expected[alive])
        error = np.abs(got[alive] - logs) / np.maximum(np.abs(logs), 1 / math.log(10))
        assert error.max(initial=0) <= 1e-12, (tried, names[0], len(weights), error.max())
        worst = max(worst, error.max(initial=0))
        compared, deep, dead = compared + 1, deep + (len(weights) > 100), dead + (not alive.all())
        wide += 2 * len(x) > min(min(W.shape) for W in weights) and len(x) > 1
    print(f"{compared} of {tried} configurations, largest error {worst:.1e}")
    assert tried < 2 * compared
    assert deep >= 20
    assert wide >= 20
    assert dead >= 1


# --- Ball arithmetic: the promise of accuracy ----------------------------------------------------


def stored_pass(weights, x, names, cotangent, kink=1.0):
    """A pass with what it stores: its record, and r^(k) and z^(k+1) as (mantissa, exponents)."""
    record = Recorder(len(weights), 1, len(x), 1)
    given_weights = GivenWeights(list(weights), [None] * len(weights))
    rows = [Activations([Block(slice(0, 1), activation(name), kink)]) for name in names]
    layers = [RecordedLayer(k, given_weights, row, record) for k, row in enumerate(rows)]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        trace, _ = forward(layers, settle(x[None], 0))
        for step in backward(trace, settle(cotangent[None], 0)):
            record.put(step.layer.k, step, EVERY)
    stored = []
    for place in (1, 2):
        parts = [step[place] for step in trace]
        exponents = [np.broadcast_to(np.asarray(p.exponent), (1, len(x)))[0] for p in parts]
        stored.append([(p.mantissa[0], e) for p, e in zip(parts, exponents, strict=True)])
    return record, *stored


def errors(weights, x, names, cotangent, precision, kink=1.0):
    """Relative errors of each layer's norms given the stored forward pass, and what is allowed.

    Of dW^(k) and dC/dz^(k+1), the larger, in units of the promise, 4 depth u. Allowed is 1 unless
    the numbers asked for are ill-conditioned, whoever computes them in floats:

    - moving every weight and every z by a relative 2^-30 moves the norm by X 2^-30: then 8 X u;
    - the examples' gradients cancel: then as many times more as the sum of their norms exceeds
      sqrt(batch) times the norm of their sum.
    """
    record, r_of, z_of = stored_pass(weights, x, names, cotangent, kink)
    every, one = np.arange(len(weights)), np.zeros(1, int)
    columns = record.columns(every, one, one, np.zeros((len(weights), 1)))
    gradient = columns["grad_norm_mantissa"], columns["grad_norm_exponent"]
    delta = record.delta.norms()
    with witness.bits(precision):

        def slopes(k):
            z = witness.matrix(*z_of[k])
            return witness.entrywise(lambda v: witness.ball_slope(names[k], v, kink), z)

        exact = witness.backward(
            [witness.matrix(W) for W in weights],
            lambda k: witness.matrix(*r_of[k]),
            slopes,
            witness.matrix(cotangent),
        )
        found = [
            max(
                witness.relative_error(gradient[0][k, 0], gradient[1][k, 0], layer.gradient),
                witness.relative_error(delta[0][k, 0], delta[1][k, 0], layer.delta),
            )
            for k, layer in enumerate(exact)
        ]
    e = record.signal.exponent[:-1, 0] + record.delta.exponent[:, 0] - gradient[1]
    parts = np.sqrt(record.signal.squares[:-1, 0] * record.delta.squares[:, 0])
    parts = parts * 2.0 ** np.clip(e, -900, 900)
    cancelled = parts.sum(axis=1) / (len(x) ** 0.5 * np.maximum(gradient[0][:, 0], 1e-300))
    moved = sensitivity(weights, z_of, names, cotangent, kink)
    depth = len(weights)
    allowed = np.maximum(1, 8 * moved / (4 * depth)) * np.maximum(1, cancelled)
    return np.array(found) / (4 * depth * U[weights[0].dtype.name]), allowed


def sensitivity(weights, z_of, names, cotangent, kink, step=2.0**-30):
    """X of `errors`, one a layer: the largest of a few random signs."""
    rng, sizes = np.random.default_rng(0), []
    weights = [W.astype(float) for W in weights]
    for trial in range(7):
        dr, log, logs = cotangent.astype(float), np.zeros(len(cotangent)), []

        def about(a, trial=trial):
            return a * (1 + step * rng.choice([-1, 1], size=a.shape)) if trial else a

        with np.errstate(all="ignore"):
            for k in reversed(range(len(weights))):
                m, e = z_of[k]
                z = about(np.ldexp(m.astype(float), np.clip(e, -2000, 2000)[:, None]))
                delta = dr * TABLE[names[k]].derivative(np.clip(z, -FAR, FAR), kink)
                size = np.linalg.norm(delta, axis=1)
                log = log + np.log(size)
                logs.append(log)
                dr = (delta / np.where(size > 0, size, 1)[:, None]) @ about(weights[k]).T
        sizes.append(np.array(logs[::-1]))
    with np.errstate(invalid="ignore"):
        moved = np.abs(np.array(sizes[1:]) - sizes[0]).max(axis=(0, 2)) / step
    return np.nan_to_num(moved, nan=0.0, posinf=0.0)


def case(rng, name, depth, width, batch, dtype, factor=1.0):
    weights = draw(rng, [width] * (depth + 1), factor * SCALE[name], dtype)
    x, c = (rng.normal(size=(batch, width)).astype(dtype) for _ in range(2))
    return weights, x, [name] * depth, c


def assert_kept(found, allowed, label):
    worst = int((found / allowed).argmax())
    beyond = (found > 1).mean()
    print(f"{label}: {found.max():.3f} of the promise, beyond it in {beyond:.1%} of the layers")
    assert (found <= allowed).all(), (label, worst, found[worst], allowed[worst])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_accuracy_promise_to_a_depth_of_100(name, dtype):
    rng = np.random.default_rng(21)
    for batch in (1, 3):
        network = case(rng, name, 100, 8, batch, dtype)
        assert_kept(*errors(*network, precision=600), f"{name} {dtype} batch {batch}")


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_accuracy_promise_to_a_depth_of_3000(name, dtype, batch):
    network = case(np.random.default_rng(31), name, 3000, 8, batch, dtype)
    assert_kept(*errors(*network, precision=6000), f"{name} {dtype} batch {batch}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_accuracy_promise_in_shallow_networks(name, dtype):
    """One layer alone is granted 6 units: phi' and the norm take that many roundings."""
    rng, all_found, all_allowed = np.random.default_rng(41), [], []
    for depth, width in ((1, 1), (1, 4), (2, 1), (3, 4), (5, 8), (12, 3)):
        for _ in range(60 // depth):
            network = case(rng, name, depth, width, 1, dtype, rng.uniform(0.5, 2))
            found, allowed = errors(*network, precision=400)
            all_found.append(found.max())
            all_allowed.append((allowed * (1.5 if depth == 1 else 1))[found.argmax()])
    assert_kept(np.array(all_found), np.array(all_allowed), f"{name} {dtype} shallow")


def test_accuracy_promise_with_a_list_of_activations_and_a_kink():
    rng = np.random.default_rng(51)
    names = [str(n) for n in rng.choice(NAMES, size=200)]
    weights = draw(rng, [8] * 201, [SCALE[n] for n in names])
    weights[100][:, 3] = 0  # z = 0 exactly
    x, c = rng.normal(size=(2, 1, 8))
    assert_kept(*errors(weights, x, names, c, precision=1000, kink=0.25), "a list")


# --- Depth 10,000 --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "scale"), [("linear", 0.01), ("relu", 100.0), ("relu", 2.0**-7), ("linear", 2.0**7)]
)
def test_norms_of_10_to_the_20000_match_the_closed_form(name, scale, dtype):
    """W = c P, P a permutation, x > 0: every layer has the gradient norm |x| |v| c^(depth-1)."""
    rng, depth, n = np.random.default_rng(0), 10_000, 6
    c = np.dtype(dtype).type(scale)
    weights = [c * np.eye(n, dtype=dtype)[rng.permutation(n)] for _ in range(depth)]
    x, v = rng.random((2, 1, n)).astype(dtype) + np.dtype(dtype).type(0.5)
    df = study.backpropagate(weights, x, name, cotangent=v)
    with witness.bits(300):
        size = witness.frobenius(witness.matrix(x)) * witness.frobenius(witness.matrix(v))
        true = size * arb(float(c)) ** (depth - 1)
        for k in (0, 1, 4999, 9998, 9999):
            error = abs(norm_of(df, k) / true - 1)
            assert error < 4 * depth * U[dtype]
            if math.frexp(scale)[0] == 0.5:  # powers of two cost nothing, at any depth
                assert error < 4 * U[dtype]
        logs = witness.log10(true)
    assert abs(logs) > 2000
    np.testing.assert_allclose(df.log10_grad_norm, logs, rtol=1e-7 if dtype == "float32" else 1e-13)
    assert np.isfinite(df.log10_signal_norm).all()
    assert set(df.status) == {f"float64_{'under' if scale < 1 else 'over'}flow"}


# --- Closed forms and identities -----------------------------------------------------------------


@given(
    W=st.integers(-50, 50).map(lambda i: i / 10),
    x=st.integers(-50, 50).map(lambda i: i / 7),
    y=st.integers(-50, 50).map(lambda i: i / 3),
    kink=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_one_neuron_in_closed_form(W, x, y, kink):
    """dC/dW = (ReLU(Wx) - y) Step(Wx) x."""
    step = 1.0 if W * x > 0 else kink if W * x == 0 else 0.0
    true = abs((max(W * x, 0.0) - y) * step * x)
    df = study.backpropagate([[[W]]], [[x]], targets=[[y]], kink=kink)
    norm = math.ldexp(df.grad_norm_mantissa[0], int(df.grad_norm_exponent[0]))
    assert norm == pytest.approx(true, rel=1e-15, abs=0)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (7, 3), (64, 64)])
def test_the_weight_norm_is_frobenius(shape):
    W = np.random.default_rng(0).normal(size=shape)
    df = study.backpropagate([W], np.ones((2, shape[0])), "linear")
    assert df.log10_weight_norm[0] == pytest.approx(np.log10(np.linalg.norm(W)), rel=1e-14)


def test_without_targets_or_cotangent_the_gradient_at_the_output_is_a_fixed_unit_direction():
    first, second = (study.backpropagate([np.eye(3)], [[1.0, 0, 0]], "linear") for _ in range(2))
    assert first.equals(second)
    assert first.log10_delta_norm[0] == pytest.approx(0, abs=1e-15)


# --- Extremes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("z", [-150.0, 150.0, -3000.0, 3000.0])
@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.decay is not None])
def test_saturation_far_below_the_range_of_a_chain_of_single_neurons(name, z, dtype):
    """Three layers, the middle one saturated: norms by ball arithmetic from the stored r and z."""
    weights = [np.array([[w]], dtype) for w in (2.0, z, 0.5)]
    one = np.ones((1, 1), dtype)
    found, _ = errors(weights, one, [name] * 3, one, precision=4000)
    assert (found <= 1).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_weights_of_1e300_and_1e_minus_300_are_no_trouble(name, size):
    rng = np.random.default_rng(10)
    weights = [rng.normal(size=(4, 4)) * size for _ in range(12)]
    x = rng.normal(size=(3, 4))
    df = study.backpropagate(weights, x, name, cotangent=rng.normal(size=(3, 4)))
    for column in ("log10_grad_norm", "log10_delta_norm", "log10_signal_norm", "log10_weight_norm"):
        values = df[column][df.status != "dead"]
        assert np.isfinite(values).all(), column
    if name in ("linear", "leaky_relu"):
        assert df.log10_signal_norm[11] == pytest.approx(12 * math.log10(size), abs=25)


def test_selu_at_minus_2_to_the_600_ends_in_a_bound_not_in_an_error_or_a_zero():
    weights = [np.array([[-(2.0**600)]]), np.array([[1.0]])]
    df = study.backpropagate(weights, [[1.0]], "selu", cotangent=[[1.0]])
    assert df.status.tolist() == ["float64_underflow", "ok"]
    assert df.log10_grad_norm[0] < -1e14
    assert 10 ** df.log10_signal_norm[0] == pytest.approx(1.7580993408473766, rel=1e-15)


def test_a_dead_network_is_dead_and_says_so():
    weights = [-np.ones((3, 3)), np.ones((3, 3)), np.ones((3, 2))]
    df = study.backpropagate(weights, np.ones((2, 3)), "relu", kink=0.0, cotangent=np.ones((2, 2)))
    assert (df.status == "dead").all()
    assert np.isneginf(df.log10_grad_norm).all()
    assert (df.grad_norm_mantissa == 0).all()
    assert (df.grad_norm_exponent == 0).all()
    assert np.isneginf(df.log10_signal_norm).all()
    assert (df.active_fraction == 0).all()
    # what dies at the output is 0 / 1; below it 0 / 0
    assert np.isneginf(df.log10_derivative_factor[2])
    assert np.isnan(df.log10_derivative_factor[:2]).all()
    assert np.isnan(df.log10_weight_factor).all()


@pytest.mark.parametrize(
    ("name", "x", "top", "status"),
    [
        ("sigmoid", [[0.0, 0.0]], {}, ["dead", "ok"]),  # in the first layer alone
        ("linear", [[1.0, 2.0]], {"cotangent": [[0.0, 0.0]]}, ["dead", "dead"]),
        ("linear", [[1.0, 2.0]], {"targets": [[1.0, 2.0]]}, ["dead", "dead"]),  # met
    ],
)
def test_zero_inputs_cotangents_and_errors_give_true_zeros(name, x, top, status):
    df = study.backpropagate([np.eye(2)] * 2, x, name, **top)
    assert df.status.tolist() == status
    assert np.isneginf(df.log10_grad_norm[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_targets_far_from_an_output_beyond_the_float_range(dtype):
    """r = 10^+-4000 against y = 1: dC/dr is r, or -y."""
    for size, log in ((10.0, 4000.0), (0.1, 0.0)):
        weights = [np.full((1, 1), size, dtype)] * 4000
        df = study.backpropagate(weights, [[1.0]], "linear", targets=[[1.0]], dtype=dtype)
        expected = log + (3999.0 if size > 1 else -3999.0)
        assert df.log10_grad_norm[0] == pytest.approx(expected, rel=1e-6)


def test_targets_and_outputs_at_the_ends_of_the_float_range():
    top = 1e308
    df = study.backpropagate([[[1.0]]], [[top]], "linear", targets=[[-top]])
    assert df.log10_grad_norm[0] == pytest.approx(616 + math.log10(2), rel=1e-15)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "selu"])
@pytest.mark.parametrize("bias", [1e25, -1e25, 3e38])
def test_biases_near_the_end_of_float32(name, bias):
    weights = [np.full((2, 2), 0.5, np.float32)] * 3
    biases = [np.array([bias, 1], np.float32)] * 3
    df = study.backpropagate(weights, [[1.0, 1.0]], name, biases, cotangent=[[1.0, 1.0]])
    assert not df.log10_grad_norm.isna().any()


def test_examples_of_very_different_size_each_keep_their_own_exponent():
    """One example explodes, one vanishes: the sum of squares is right for each."""
    c = np.array([[1e-150, 0.0], [0.0, 1e150], [0.0, 0.0]])
    weights = [np.diag([1e-100, 1e100])] * 3
    df = study.backpropagate(weights, np.ones((3, 2)), "linear", cotangent=c)
    assert df.log10_delta_norm[0] == pytest.approx(350, rel=1e-14)
    alone = study.backpropagate(weights, np.ones((1, 2)), "linear", cotangent=c[:1])
    assert alone.log10_delta_norm[0] == pytest.approx(-350, rel=1e-14)


# --- Gradients that cancel -----------------------------------------------------------------------


def cancelling(rng, distance, n=40, dtype="float64"):
    """Two pairs of nearly equal examples with nearly opposite cotangents."""
    x = rng.normal(size=(2, n))
    c = rng.normal(size=(2, n))
    near = x * (1 + distance * rng.normal(size=x.shape))
    x, c = np.concatenate([x, near]), np.concatenate([c, -c])
    return [rng.normal(size=(n, n)).astype(dtype)], x.astype(dtype), c.astype(dtype)


def exact_gradient_norm(x, c) -> arb:
    with witness.bits(300):
        return witness.frobenius(witness.matrix(x).transpose() * witness.matrix(c))


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_gradients_cancel_the_gram_form_is_left(dtype, monkeypatch):
    rng = np.random.default_rng(11)
    distance = 1e-3 if dtype == "float32" else 1e-7
    weights, x, c = cancelling(rng, distance, dtype=dtype)
    true = exact_gradient_norm(x, c)

    def error():
        df = study.backpropagate(weights, x, "linear", cotangent=c)
        return float(abs(norm_of(df) / true - 1))

    guarded = error()
    monkeypatch.setattr(recorder, "CANCELLATION", math.inf)
    unguarded = error()  # negative control: half of the digits are gone
    assert guarded < 20 * U[dtype] / distance
    assert unguarded > 100 * guarded


@pytest.mark.parametrize("dtype", DTYPES)
def test_opposite_gradients_leave_nothing_but_rounding(dtype):
    """A gradient that is exactly zero, by cancellation, is zero to the rounding of one product."""
    rng = np.random.default_rng(12)
    weights, x, c = cancelling(rng, 0.0, dtype=dtype)
    df = study.backpropagate(weights, x, "linear", cotangent=c)
    size = float(np.sqrt(squares(x) * squares(c)).sum())
    assert 10 ** df.log10_grad_norm[0] <= 2 * U[dtype] * size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [2, 3, 10, 25, 60])
def test_the_norm_over_a_batch_against_the_exact_product(batch, dtype):
    rng = np.random.default_rng(13)
    weights, x, _, c = case(rng, "linear", 1, 40, batch, dtype)
    df = study.backpropagate(weights, x, "linear", cotangent=c)
    assert float(abs(norm_of(df) / exact_gradient_norm(x, c) - 1)) < 4 * U[dtype]


def test_the_norm_over_a_batch_where_exponents_differ():
    rng = np.random.default_rng(14)
    x = rng.normal(size=(4, 20)) * 10.0 ** np.array([[300], [-300], [100], [0]])
    c = rng.normal(size=(4, 20)) * 10.0 ** np.array([[-300], [300], [-100], [0]])
    df = study.backpropagate([np.eye(20)], x, "linear", cotangent=c)
    assert float(abs(norm_of(df) / exact_gradient_norm(x, c) - 1)) < 1e-15


# --- Bad input -----------------------------------------------------------------------------------

W2 = [np.ones((3, 4)), np.ones((4, 2))]
X = np.ones((5, 3))
BAD = [
    ({"weights": []}, r"weights has length 0; allowed: at least one"),
    ({"weights": None}, r"weights = None; allowed: a sequence of matrices"),
    ({"weights": np.ones((3, 4))}, r"weights\[0\] has shape \(4,\); allowed: 2 axes"),
    ({"weights": [W2[0], W2[0]]}, r"weights\[1\] has shape \(3, 4\); allowed: \(4, n\)"),
    ({"weights": [W2[1]]}, r"weights\[0\] has shape \(4, 2\); allowed: \(3, n\), to chain"),
    ({"weights": [[[1.0], [1.0, 2.0]]]}, r"weights\[0\] = 'a ragged sequence'; allowed"),
    ({"weights": [np.ones((3, 0))]}, r"weights\[0\] has shape \(3, 0\); allowed"),
    ({"weights": [W2[0], W2[1] * np.nan]}, r"weights\[1\]\[0, 0\] = nan; allowed: finite"),
    ({"weights": [W2[0] * np.inf, W2[1]]}, r"weights\[0\]\[0, 0\] = inf; allowed: finite"),
    ({"weights": [W2[0] * 1j, W2[1]]}, r"weights\[0\] has dtype complex128; allowed: real"),
    ({"weights": [[[None]]]}, r"weights\[0\] has dtype object; allowed: real"),
    (
        {"weights": [np.full((3, 4), 1e300), W2[1]], "dtype": "float32"},
        r"weights\[0\]\[0, 0\] = inf; allowed: finite numbers of float32",
    ),
    ({"inputs": X * np.nan}, r"inputs\[0, 0\] = nan; allowed: finite"),
    ({"inputs": np.ones(3)}, r"inputs has shape \(3,\); allowed: 2 axes"),
    ({"inputs": np.ones((0, 3))}, r"inputs has shape \(0, 3\); allowed"),
    ({"activation": "swoosh"}, r"activation = 'swoosh'; allowed: relu, sigmoid"),
    ({"activation": ["relu", "no"]}, r"activation = 'no'; allowed: relu, sigmoid"),
    ({"activation": ["relu"]}, r"activation = '1 names'; allowed: one activation, or"),
    ({"activation": [3, 4]}, r"activation = 3; allowed: relu, sigmoid"),
    ({"biases": []}, r"biases = '0 vectors'; allowed: one a layer \(2\)"),
    ({"biases": [np.ones(4)]}, r"biases = '1 vectors'; allowed: one a layer \(2\)"),
    ({"biases": [np.ones(4), np.ones(3)]}, r"biases\[1\] = '3 units'; allowed: 2, as"),
    ({"biases": [np.ones(4), [1, np.nan]]}, r"biases\[1\]\[1\] = nan; allowed: finite"),
    ({"targets": np.ones((5, 3))}, r"targets has shape \(5, 3\); allowed: \(5, 2\)"),
    ({"targets": np.full((5, 2), np.inf)}, r"targets\[0, 0\] = inf; allowed: finite"),
    ({"cotangent": np.ones((5, 3))}, r"cotangent has shape \(5, 3\); allowed: \(5, 2\)"),
    (
        {"targets": np.ones((5, 2)), "cotangent": np.ones((5, 2))},
        r"cotangent = 'given together with targets'; allowed: one of the two",
    ),
    ({"kink": 2}, r"kink = 2; allowed: a finite number from 0 to 1"),
    ({"kink": math.nan}, r"kink = nan; allowed: a finite number from 0 to 1"),
    ({"kink": True}, r"kink = True; allowed: a finite number from 0 to 1"),
    ({"dtype": "float16"}, r"dtype = 'float16'; allowed: float32, float64"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD)
def test_bad_input_names_the_field_the_value_and_what_is_allowed(wrong, message):
    with pytest.raises(ValueError, match=message):
        study.backpropagate(**{"weights": W2, "inputs": X} | wrong)


def test_inputs_are_not_written_to():
    weights, x = [np.full((3, 3), 1e300), np.full((3, 3), 1e-300)], np.full((2, 3), 1e200)
    before = [W.copy() for W in (*weights, x)]
    study.backpropagate(weights, x, "linear")
    for now, then in zip((*weights, x), before, strict=True):
        assert np.array_equal(now, then)


def test_lists_integers_and_fortran_order_are_welcome():
    weights = [np.asfortranarray(np.random.default_rng(0).normal(size=(3, 2)))]
    a = study.backpropagate(weights, [[1, 2, 3]], "tanh", targets=[[0, 1]])
    b = study.backpropagate(
        [weights[0].copy("C")], np.array([[1.0, 2, 3]]), "tanh", targets=[[0, 1.0]]
    )
    assert a.equals(b)


def test_columns_are_those_of_the_schema():
    df = study.backpropagate(W2, X)
    assert list(df.columns) == list(LAYER)
    assert df.layer.tolist() == [0, 1]
