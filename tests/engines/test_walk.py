"""The compiled walk against the generic one, which it must equal to rounding, and its functions."""

import numpy as np
import pytest
from numba import njit
from toyhouse import study

from study import Network, profile
from study.arithmetic import compiled
from study.core.activations import TABLE, activation
from study.engines import walk
from study.engines.march import Data

NAMES = [*TABLE, "gelu(tanh)"]
# The others at night: each function and format takes seconds to compile.
DAILY = ["relu", "sigmoid", "tanh", "hard_tanh", "gelu"]
DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 2e-4, "float64": 1e-12}
both_formats = pytest.mark.parametrize("dtype", DTYPES)


def generic(monkeypatch, nets, **how):
    """The frame of the generic walk."""
    with monkeypatch.context() as patch:
        patch.setattr(walk, "compiled_functions", lambda row, kink, dtype: None)
        return profile(nets, engine="matrix_free", **how)


def alike(df, told, tolerance):
    """Norms agree relative to the size of their logarithm; beyond 10^(10^9) they are bounds."""
    assert (df.status == told.status).all()
    columns = list(told.filter(like="log10").drop(columns="log10_weight_norm"))
    near = ~(told[columns].replace([np.inf, -np.inf], 0).abs() > 1e9).any(axis=1)
    for column in columns:
        x, y = df[column][near], told[column][near]
        size = np.maximum(np.abs(y), 1)
        np.testing.assert_allclose(x / size, y / size, rtol=0, atol=tolerance, err_msg=column)
    np.testing.assert_allclose(df.active_fraction, told.active_fraction, atol=0.02)


@both_formats
@pytest.mark.parametrize(
    "name",
    [name if name in DAILY else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_frames_are_those_of_the_generic_walk(monkeypatch, name, dtype):
    """Also where signals die, leave the range, and where depths share a forward pass."""
    for width in (1, 3, 64):
        nets = [
            Network(name, depth, width, sigma_w, sigma_b, dtype=dtype, kink=0.5)
            for depth in (1, 2, 300)
            for sigma_w, sigma_b in ((0, 0), (1e-3, 0), (0.8, 0.3), (0.9, 0), (1.3, 0), (1e3, 0))
        ]
        how = {"seeds": [0, 7], "layers": 25}
        df = profile(nets, engine="matrix_free", **how)
        alike(df, generic(monkeypatch, nets, **how), TOLERANCE[dtype])


@both_formats
def test_orthogonal_weights_are_those_of_the_generic_walk(monkeypatch, dtype):
    rng = np.random.default_rng(0)
    for width in (1, 3, 64):
        nets = [
            Network(name, 100, width, sigma_w, sigma_b, "orthogonal", dtype=dtype, kink=0.5)
            for name in ("relu", "tanh")
            for sigma_w, sigma_b in ((0, 0.1), (0.9, 0), (1.2, 0.3), (1e3, 0))
        ]
        for inputs in (None, rng.normal(size=(1, width)), rng.normal(size=(1, 2))):
            how = {"seeds": [0, 7], "layers": 25, "inputs": inputs}
            df = profile(nets, engine="matrix_free", **how)
            alike(df, generic(monkeypatch, nets, **how), TOLERANCE[dtype])
    served = {part.net for part in walk.walked(dict(enumerate(nets)), [0], Data(1), np.arange)}
    assert served


@both_formats
def test_wide_networks_and_one_not_served(monkeypatch, dtype):
    wave = activation(lambda z: np.sin(z), name="wave")
    nets = [Network(name, 30, 1000, 1.2, dtype=dtype, kink=0.5) for name in ("relu", wave, "tanh")]
    df = profile(nets, engine="matrix_free")
    alike(df, generic(monkeypatch, nets), TOLERANCE[dtype])
    assert walk.compiled_functions(wave, 1.0, np.dtype(dtype)) is None


@both_formats
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e30])
def test_inputs_of_any_size_and_a_smaller_output(monkeypatch, dtype, size):
    rng = np.random.default_rng(0)
    nets = [Network(name, n, 9, 1.2, dtype=dtype, kink=0.5) for name in DAILY for n in (1, 5)]
    for n_in in (4, 20):
        data = {"inputs": size * rng.standard_normal((1, n_in))}
        for targets in ({}, {"targets": rng.standard_normal((1, 4))}):
            df = profile(nets, engine="matrix_free", **data, **targets)
            alike(df, generic(monkeypatch, nets, **data, **targets), TOLERANCE[dtype])


@both_formats
def test_a_layer_of_zeros_is_dead_and_a_kink_is_met(monkeypatch, dtype):
    for kink in (0.0, 0.5, 1.0):
        nets = [Network("relu", 60, 3, dtype=dtype, kink=kink), Network("relu", 3, 4, 0.0)]
        df = profile(nets, seeds=range(4), engine="matrix_free")
        assert (df.status == "dead").any()
        alike(df, generic(monkeypatch, nets, seeds=range(4)), TOLERANCE[dtype])


@both_formats
def test_what_is_lost_takes_the_generic_walk(monkeypatch, dtype):
    nets = [Network(name, 20, 1, 1e3, dtype=dtype, kink=0.5) for name in ("relu", "tanh", "gelu")]
    parts = walk.Walk(dict(enumerate(nets)), [0, 1], Data(1)).columns(np.arange)
    served = {part.net for part in parts}
    assert 0 in served
    assert 1 not in served
    df = profile(nets, seeds=[0, 1], engine="matrix_free")
    alike(df, generic(monkeypatch, nets, seeds=[0, 1]), TOLERANCE[dtype])


def test_another_activation_would_be_seen(monkeypatch):
    """The negative control: a derivative that is off by 1e-9."""
    program = compiled.program

    def spoilt(*row):
        return program(*row).replace("return v0, v2", "return v0, v2 * real(1 + 1e-9)")

    nets = Network("relu", 5, 64)
    told = generic(monkeypatch, nets)
    alike(profile(nets, engine="matrix_free"), told, 1e-12)
    monkeypatch.setattr(walk, "program", spoilt)
    walk.compiled_functions.cache_clear()
    with pytest.raises(AssertionError, match="log10"):
        alike(profile(nets, engine="matrix_free"), told, 1e-12)
    walk.compiled_functions.cache_clear()


# --- Functions of one number ---------------------------------------------------------------------


@both_formats
@np.errstate(all="ignore")
@pytest.mark.parametrize(("name", "units"), [("exp", 1), ("expm1", 2), ("tanh", 3)])
def test_exponentials_are_right_to_units_in_the_last_place(name, units, dtype):
    function = compiled.EXPONENTIALS[np.dtype(dtype)][name]

    @njit(error_model="numpy")
    def each(z, out):
        for i in range(z.size):
            out[i] = function(z[i])

    small = np.geomspace(1e-10, 1, 5001)
    z = np.concatenate([np.linspace(-80, 80, 40001), small, -small]).astype(dtype)
    out = np.empty_like(z)
    each(z, out)
    exact = getattr(np, name)(z.astype(np.longdouble))
    error = np.abs(out - exact) / np.spacing(np.abs(exact).astype(dtype))
    assert error.max() < units + 0.5
    ends = np.array([-1e5, -800, 0, 1e5], dtype)
    told = np.empty_like(ends)
    each(ends, told)
    np.testing.assert_array_equal(told[:3], getattr(np, name)(ends)[:3])


@both_formats
@pytest.mark.parametrize("name", NAMES)
def test_the_program_of_a_row_is_phi_and_its_derivative(name, dtype):
    row, dtype = activation(name), np.dtype(dtype)
    function, _ = compiled.compiled(compiled.program(row, 0.5, dtype), dtype)
    z = np.array([-30, -3.1, -3, -1, -0.5, 0, 0.5, 1, 3, 3.1, 6, 30], dtype)
    with np.errstate(all="ignore"):
        pairs = np.array([function.py_func(x) for x in z])
        expected = np.stack([row.phi(z), row.derivative(z, 0.5)], axis=1)
        np.testing.assert_allclose(pairs, expected, rtol=2e4 * np.finfo(dtype).eps, atol=1e-30)


def test_no_program_is_written_for_another_function():
    for function in (
        np.sin,
        lambda z: np.where(z.sum() > 0, z, z),
        lambda z: z * (1 if z.any() else 0),
    ):
        with np.errstate(all="ignore"):
            row = activation(function, name="a user's")
        assert compiled.program(row, 1.0, np.dtype(float)) is None


DIGEST = """
import hashlib

import numpy as np
from study import Network, profile
from study.sampling import gaussian as g
fills = g.fill_normal, g.fill_uniform
bits = [fill(g.key(1), 2, np.empty(40_003, t)) for fill in fills for t in ("f4", "f8")]
nets = [Network(name, 9, 70, 1.5, 0.1, dtype="float32") for name in ("relu", "tanh")]
bits.append(profile(nets, range(3), engine="matrix_free").grad_norm_mantissa.to_numpy())
print(hashlib.sha256(b"".join(x.tobytes() for x in bits)).hexdigest())
"""
TARGETS = [
    {},
    {"NUMBA_CPU_NAME": "generic", "NUMBA_LOOP_VECTORIZE": "0"},
    {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""},
]


@pytest.mark.slow
def test_processors_do_not_matter(tmp_path):
    """Scalar code, and vectors of AVX2 beside FMA, give what this processor gives."""
    made = set()
    for i, target in enumerate(TARGETS):
        cache = {"NUMBA_CACHE_DIR": str(tmp_path / str(i))}
        code, out, err = study(tmp_path, program=("-c", DIGEST), **cache, **target)
        assert code == 0, err
        made.add(out)
    assert len(made) == 1
    assert len(made.pop().strip()) == 64
