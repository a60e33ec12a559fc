"""Counter-based weights: the cipher, the bits, the laws.

A test of a law is a statistic in standard errors, applied to the generator (must be small) and to
a generator spoilt on purpose (must be large): the negative control shows that it could fail.
"""

import math
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
from numba import njit
from toyhouse import study

from study.sampling import gaussian, kernels
from study.sampling.gaussian import fill_normal, fill_uniform, haar, key, normal
from study.tools import compiling

KEY = key(20, "tests")
DTYPES = (np.float32, np.float64)
SMALL, LARGE = 4.5, 8.0  # standard errors: passes; certainly noticed


def uniform(key, layer, shape, dtype=np.float64):
    return fill_uniform(key, layer, np.empty(shape, dtype))


@njit
def encipher(counters, key, out):
    for i in range(out.shape[0]):
        a, b, c, d = counters[i]
        out[i] = kernels.threefry(a, b, c, d, key)


@njit
def transform32(a, b, out):
    for i in range(a.size):
        out[i] = kernels.box_muller32(a[i], b[i], kernels.HALF, kernels.HALF)


@njit
def transform64(a, b, c, d, out):
    for i in range(a.size):
        e, f = kernels.below_one(c[i]), kernels.below_one(d[i])
        out[i] = kernels.box_muller64(a[i], b[i], e, f)


def pairs32(a, b):
    out = np.empty((a.size, 2), np.float32)
    transform32(a, b, out)
    return out


def pairs64(a, b, c, d):
    out = np.empty((a.size, 2))
    transform64(a, b, c, d, out)
    return out


def cipher(counters, key):
    counters = np.array(counters, np.uint32)
    out = np.empty_like(counters)
    encipher(counters, tuple(np.array(key, np.uint32)), out)
    return out


def words(layer, blocks, key=KEY):
    counters = np.zeros((blocks, 4), np.uint32)
    counters[:, 0], counters[:, 2] = np.arange(blocks), layer
    return cipher(counters, key)


# --- The cipher ----------------------------------------------------------------------------------

PI = 0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0, 0x082EFA98, 0xEC4E6C89
ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "cipher_key", "expected"),
    [
        ((0,) * 4, (0,) * 4, (0x9C6CA96A, 0xE17EAE66, 0xFC10ECD4, 0x5256A7D8)),
        ((ONES,) * 4, (ONES,) * 4, (0x2A881696, 0x57012287, 0xF6C7446E, 0xA16A6732)),
        (PI[:4], PI[4:], (0x59CD1DBB, 0xB8879579, 0x86B5D00C, 0xAC8B6D84)),
    ],
)
def test_cipher_gives_the_known_answers_of_random123(counter, cipher_key, expected):
    """`threefry4x32 20` in kat_vectors of the Random123 distribution."""
    assert tuple(cipher([counter], cipher_key)[0]) == expected


def test_an_entry_is_the_cipher_of_its_own_counter():
    block, layer = 2**38 + 5, 2**31 + 3  # entry 2^40 + 20: both words of the block number in use
    w = cipher([(block % 2**32, block >> 32, layer, kernels.NORMAL)], KEY)
    drawn = np.empty(4, np.float32)
    kernels.normal32(tuple(KEY), layer, block, drawn)
    np.testing.assert_array_equal(drawn, pairs32(w[0, ::2].copy(), w[0, 1::2].copy()).ravel())


# --- Keys ----------------------------------------------------------------------------------------


def test_keys_tell_types_and_boundaries_apart():
    names = [(1,), ("1",), (1.0,), (-1,), (1, 2), (12,), ("12",), ("ab", "c"), ("a", "bc")]
    names += [(0.0,), (-0.0,), (float("inf"),), ("",), ("", ""), (2**200,), ("int1",), ("4:int1",)]
    names.append(("abc",))
    assert len({key(*words).tobytes() for words in names}) == len(names)


def test_key_is_a_fixed_function_of_python_values():
    assert key(7, "weights").tolist() == [3298393386, 3772859966, 3437034654, 1584915597]
    assert key(7, "weights").dtype == np.uint32
    same = key(np.int64(7), np.float64(0.5), np.str_("é"))
    np.testing.assert_array_equal(same, key(7, 0.5, "é"))


@pytest.mark.parametrize("words", [(), (None,), (True,), (math.nan,), (b"a",), ((1, 2),)])
def test_key_refuses_what_has_no_canonical_encoding(words):
    with pytest.raises(ValueError, match=r"words: .*need"):
        key(*words)


# --- The same bits -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["normal32", "normal64", "uniform32", "uniform64"])
def test_chunks_order_and_threads_do_not_matter(name):
    """Blocks of four entries, whose numbers take both words of the counter."""
    fill, dtype, first = getattr(kernels, name), f"f{int(name[-2:]) // 8}", 2**38
    whole = np.empty(100_000, dtype)
    fill(tuple(KEY), 5, first, whole)
    for size in (4, 28, 12_344):
        pieces = np.empty_like(whole)
        starts = np.random.default_rng(0).permutation(range(0, whole.size, size)).tolist()
        parts = [(first + start // 4, pieces[start : start + size]) for start in starts]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda part: fill(tuple(KEY), 5, *part), parts))
        np.testing.assert_array_equal(pieces, whole)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("draw", [normal, uniform])
def test_fewer_entries_are_the_first_of_more(draw, dtype):
    whole = draw(KEY, 5, 1000, dtype)
    for size in (1, 2, 3, 4, 5, 7, 333):
        np.testing.assert_array_equal(draw(KEY, 5, size, dtype), whole[:size])


def test_a_call_lets_other_threads_run():
    out, steps, seen = np.empty(10_000_000, np.float32), 0, []
    fill_normal(KEY, 0, out)  # loading the kernel lets them run too

    def call():
        seen.append(steps)
        fill_normal(KEY, 0, out)
        seen.append(steps)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.2)  # longer than the call: no switch in it that it did not allow
    try:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(call)
            while not running.done():
                steps += 1
    finally:
        sys.setswitchinterval(interval)
    assert seen[1] > seen[0]


def test_any_shape_is_filled_in_c_order_and_returned():
    out = np.empty((3, 5, 7), np.float32)
    assert fill_normal(KEY, 0, out) is out
    np.testing.assert_array_equal(out.ravel(), normal(KEY, 0, 105, np.float32))
    np.testing.assert_array_equal(uniform(KEY, 0, (15, 7)).ravel(), uniform(KEY, 0, 105))
    assert normal(KEY, 0, ()).shape == ()
    assert normal(KEY, 0, (0, 3)).shape == (0, 3)


def test_float32_is_the_float64_draw_rounded():
    for draw, bound in ((normal, 1e-4), (uniform, 2.5e-7)):
        error = draw(KEY, 0, 10**6, np.float32) - draw(KEY, 0, 10**6, np.float64)
        assert abs(error).max() < bound
        assert error.std() < 1e-7


def test_an_optimiser_let_loose_would_be_seen():
    """Negative control: the same source under fastmath gives other bits."""
    # What compiles, in place of its import.
    imported = "from study.tools.compiling import inlined, kernel, specialised\n"
    before, after = Path(kernels.__file__).read_text().split(imported)
    source = before + Path(compiling.__file__).read_text() + after
    source = source.replace(", cache=True", "")
    loose = {}
    exec(source.replace('error_model="numpy"', 'error_model="numpy", fastmath=True'), loose)
    out = np.empty(40_000, np.float32)
    loose["normal32"](tuple(KEY), 0, 0, out)
    strict = normal(KEY, 0, 40_000, np.float32)
    np.testing.assert_allclose(out, strict, rtol=1e-4, atol=1e-6)
    assert not np.array_equal(out, strict)


# --- Start-up ------------------------------------------------------------------------------------

FIRST = """
import sys
from study.sampling import gaussian
assert "numba" not in sys.modules
print(gaussian.normal(gaussian.key(1), 0, 1, "f4").item())
from study.sampling.kernels import FLOAT32, KERNELS
print(sum(KERNELS["normal", FLOAT32].stats.cache_hits.values()))
"""


def test_import_is_lazy_and_an_unwritable_package_falls_back(tmp_path):
    package = tmp_path / "study" / "sampling"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "__pycache__").touch()  # a file where the cache's folder would be
    for module in (gaussian, kernels):
        shutil.copy(module.__file__, package)
    tools = package.parent / "tools"
    tools.mkdir()
    (tools / "__init__.py").touch()
    shutil.copy(compiling.__file__, tools)
    places = (
        {"XDG_CACHE_HOME": "/dev/null", "HOME": "/dev/null"},
        *[{"XDG_CACHE_HOME": str(tmp_path)}] * 2,
    )
    runs = [
        study(tmp_path, program=("-c", FIRST), path=tmp_path, NUMBA_CACHE_DIR="", **place)
        for place in places
    ]
    homeless, cold, warm = (out.split() for _, out, _ in runs)
    value = str(normal(key(1), 0, 1, "f4").item())
    # Where numba keeps its cache then is the machine's affair; the numbers are not.
    assert [homeless[0], cold[0], warm] == [value, value, [value, "1"]]


# --- The transform -------------------------------------------------------------------------------

EDGES = np.array([0, 1, 2, 3, 2**29, 2**30, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)


def edge_and_random_words(columns):
    edges = np.stack(np.meshgrid(*[EDGES] * columns), -1).reshape(-1, columns)
    drawn = words(layer=9, blocks=100_000)[:, :columns]
    near_one = drawn | np.array([0xFFFFF000] + [0] * (columns - 1), np.uint32)
    return np.ascontiguousarray(np.vstack([edges, drawn, near_one]).T)


def formula(a, b, d, e, real):
    """Box & Muller's formula, as the kernels lay out its words, by NumPy in a wider type."""
    b = b.view(np.int32)
    a, angle = a.astype(real), (b >> 2).astype(real)
    cell = real(2) ** -32
    log = np.where(
        a < 2**31, np.log((a + d) * cell), np.log1p(-((2**32 - 1 - a) + d) * cell)
    )  # the upper half counts d from its other end
    radius = np.where(b & 2, -1, 1) * np.sqrt(-2 * log)
    t = (angle + e) * cell * (4 * np.arctan2(real(1), real(1)) * 2)
    x, y = radius * np.cos(t), radius * np.sin(t)
    return np.stack([np.where(b & 1, y, x), np.where(b & 1, x, y)], -1)


def ulps(drawn, exact):
    return np.abs((drawn - exact) / np.spacing(np.abs(exact).astype(drawn.dtype)))


def test_float32_transform_is_the_formula_to_roundoff():
    a, b = edge_and_random_words(2)
    drawn = pairs32(a, b)
    assert np.isfinite(drawn).all()
    assert (drawn != 0).all()
    assert ulps(drawn, formula(a, b, 0.5, 0.5, np.float64)).max() < 5
    assert ulps(drawn, formula(a, b, 0.5, 0.501, np.float64)).max() > 100  # negative control


def test_float64_transform_is_the_formula_to_roundoff():
    a, b, c, d = edge_and_random_words(4)
    drawn = pairs64(a, b, c, d)
    assert np.isfinite(drawn).all()
    assert (drawn != 0).all()
    c, d = (0.5 + (w | np.uint32(1)).view(np.int32) * 2.0**-32 for w in (c, d))
    exact = formula(a, b, c, d, np.longdouble)
    assert ulps(drawn, exact).max() < 5
    assert abs(drawn).max() == pytest.approx(math.sqrt(2 * 64 * math.log(2)), rel=1e-12)


def tail_mass(radii, weight, sigma):
    """P(|x| > sigma) of radius x cos(uniform angle), each radius of probability `weight`."""
    radii = radii[radii > sigma].astype(float)
    return weight * (2 / math.pi * np.arccos(sigma / radii)).sum()


def test_tails_are_right_to_6_sigma_in_float32_and_8_in_float64():
    """From every radius out there, so exactly: no draw of any test would ever see 8 sigma."""

    def error(mass, sigma):
        return abs(mass / math.erfc(sigma / math.sqrt(2)) - 1)

    a = np.arange(2_000_000, dtype=np.uint32)
    radii = pairs32(a, np.zeros_like(a))[:, 0]
    assert error(tail_mass(radii, 2.0**-32, 4), 4) < 1e-5
    assert error(tail_mass(radii, 2.0**-32, 5), 5) < 1e-4
    assert error(tail_mass(radii, 2.0**-32, 6), 6) < 2e-3
    coarse = pairs32(a & np.uint32(0xFFFFFF00), np.zeros_like(a))[:, 0]
    assert error(tail_mass(coarse, 2.0**-32, 6), 6) > 0.1  # negative control: 24 bits of radius

    zero = np.zeros(200_000, np.uint32)
    trailing = (-(2**31) + 2 * np.arange(zero.size)).astype(np.int32).view(np.uint32)
    radii = pairs64(zero, zero, trailing, zero)[:, 0]
    assert error(tail_mass(radii, 2.0**-63, 8), 8) < 2e-3


# --- The laws ------------------------------------------------------------------------------------

MOMENTS = {
    normal: lambda p: scipy.special.factorial2(p - 1) if p % 2 == 0 else 0,
    uniform: lambda p: 3 ** (p / 2) / (p + 1) if p % 2 == 0 else 0,
}


def moment_scores(x, draw):
    exact = MOMENTS[draw]
    x = x.astype(float)
    power, scores = np.ones_like(x), []
    for p in range(1, 7):
        power *= x
        variance = (exact(2 * p) - exact(p) ** 2) / x.size
        scores.append((power.mean() - exact(p)) / math.sqrt(variance))
    return np.array(scores)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("draw", [normal, uniform])
def test_moments_to_the_sixth(draw, dtype):
    x = draw(KEY, 11, 500_000, dtype)
    assert abs(moment_scores(x, draw)).max() < SMALL
    for spoilt in (x * 1.01, x + dtype(0.02), np.clip(x, -1.6, 1.6)):
        assert abs(moment_scores(spoilt, draw)).max() > LARGE


@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_keeps_to_its_interval(dtype):
    u = uniform(KEY, 0, 1_000_000, dtype)
    assert 1.7320 < abs(u).max() <= dtype(math.sqrt(3))


def correlation_scores(x, y):
    """Of the draws and of their squares: a shared radius leaves the first at 0, not the second."""
    x, y = x.astype(float), y.astype(float)
    return np.array([x @ y, (x**2 - 1) @ (y**2 - 1) / (x**4).mean()]) / math.sqrt(x.size)


@pytest.mark.parametrize("draw", [normal, uniform])
def test_entries_layers_keys_and_laws_are_uncorrelated(draw):
    x = draw(KEY, 13, 400_000, np.float32)
    others = [np.roll(x, lag) for lag in (1, 2, 3, 4, 5, 8, 256, 1024)]
    others += [draw(KEY, layer, x.size, np.float32) for layer in (12, 14, 13 + 2**31)]
    neighbours = [KEY + np.eye(4, dtype=np.uint32)[i] for i in range(4)]
    others += [draw(k, 13, x.size, np.float32) for k in [*neighbours, key(21, "tests")]]
    others += [(uniform if draw is normal else normal)(KEY, 13, x.size, np.float32)]
    assert max(abs(correlation_scores(x, y)).max() for y in others) < SMALL

    y = draw(key("independent"), 0, x.size, np.float32)
    angle = 2 * math.pi * words(0, x.size // 4).ravel() / 2**32
    radius = np.hypot(x, y)
    assert abs(correlation_scores(x, 0.02 * x + y)[0]) > LARGE
    assert abs(correlation_scores(radius * np.cos(angle), radius * np.cos(2 * angle))[1]) > LARGE


# --- Haar ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (300, 200), (20, 50), (256, 256)])
def test_haar_is_orthonormal_and_the_q_of_its_normals(shape, dtype):
    q = haar(KEY, 4, *shape, dtype)
    assert (q.shape, q.dtype, q.flags.c_contiguous) == (shape, dtype, True)
    tall = q if shape[0] >= shape[1] else q.T
    n = tall.shape[1]
    tolerance = 20 * np.finfo(dtype).eps
    assert abs(tall.T @ tall - np.eye(n)).max() < tolerance

    q = q if shape[0] > shape[1] else q.T
    g = normal(KEY, 4, q.shape[::-1], dtype).T
    r = q.T @ g
    assert (r.diagonal() > 0).all()
    np.testing.assert_allclose(q @ np.triu(r), g, atol=50 * tolerance)


def haar_scores(matrices):
    """What Haar says of an entry, its square, the determinant and the trace's 2nd moment."""
    count, n, _ = matrices.shape
    trace = np.trace(matrices, axis1=1, axis2=2)
    root = math.sqrt(count)
    return {
        "entry": root * matrices[:, 0, 0].mean() * math.sqrt(n),
        "entry^2": [
            scipy.stats.ks_1samp(matrices[:, i, j] ** 2, scipy.stats.beta(0.5, (n - 1) / 2).cdf)[1]
            for i, j in ((0, 0), (n - 1, n - 1), (1, n - 2))
        ],
        "determinant": root * np.linalg.det(matrices).mean(),
        "trace": root * trace.mean(),
        "trace^2": root * (trace**2 - 1).mean() / math.sqrt(2),  # 1 and 3: a Gaussian's moments
    }


def test_haar_is_haar():
    """On O(6); LAPACK's own Q, without the fixed signs, is the negative control."""
    scores = haar_scores(np.stack([haar(KEY, layer, 6, 6) for layer in range(4000)]))
    assert min(scores.pop("entry^2")) > 1e-4
    assert max(map(abs, scores.values())) < SMALL

    unfixed = [scipy.linalg.qr(normal(KEY, layer, (6, 6)).T)[0] for layer in range(4000)]
    scores = haar_scores(np.stack(unfixed))
    assert all(abs(scores[name]) > LARGE for name in ("entry", "determinant", "trace"))


def test_tall_haar_has_the_law_of_a_column_on_the_sphere():
    """A squared entry of a unit vector in R^n is Beta(1/2, (n - 1)/2)."""
    squares = np.array([haar(KEY, layer, 9, 2)[:, 0] for layer in range(3000)]) ** 2
    for entry in squares[:, 0], squares[:, 8]:
        assert scipy.stats.ks_1samp(entry, scipy.stats.beta(0.5, 4).cdf).pvalue > 1e-4
        assert scipy.stats.ks_1samp(entry, scipy.stats.beta(0.5, 2.5).cdf).pvalue < 1e-8


# --- The boundary --------------------------------------------------------------------------------

OUT = np.empty(8, np.float32)
FROZEN = np.zeros(8)
FROZEN.flags.writeable = False


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("layer = -1 .* integer in", lambda: fill_normal(KEY, -1, OUT)),
        ("layer = 4294967296", lambda: fill_uniform(KEY, 2**32, OUT)),
        ("layer = 1.0", lambda: normal(KEY, 1.0, 3)),
        ("key = 7 .* shape", lambda: normal(7, 0, 3)),
        ("key = array.*uint32", lambda: normal(KEY.astype(np.int64), 0, 3)),
        ("key = array.*uint32", lambda: normal(KEY[:3], 0, 3)),
        ("out: int64 .* float32", lambda: fill_normal(KEY, 0, np.arange(4))),
        ("out: >f4 .* float32", lambda: fill_normal(KEY, 0, OUT.astype(">f4"))),
        ("out: list .* float32", lambda: fill_normal(KEY, 0, [0.0])),
        (r"out: strides \(8,\) .* C-contig", lambda: fill_normal(KEY, 0, OUT[::2])),
        ("out: .* writeable False", lambda: fill_uniform(KEY, 0, FROZEN)),
        ("dtype = 'nonsense' .* float32", lambda: haar(KEY, 0, 3, 3, "nonsense")),
        ("dtype = .*float16.* float32", lambda: normal(KEY, 0, 3, np.float16)),
        ("dtype = None", lambda: normal(KEY, 0, 3, None)),
        ("rows = 0", lambda: haar(KEY, 0, 0, 3)),
        ("cols = '3'", lambda: haar(KEY, 0, 3, "3")),
    ],
)
def test_bad_input_is_refused_by_name(message, call):
    with pytest.raises(ValueError, match=message):
        call()
