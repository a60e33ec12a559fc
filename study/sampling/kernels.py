"""The compiled half of `gaussian`: a counter cipher and its transforms, in loops of blocks.

Apart from `gaussian` because numba takes half a second to import and its cache wants decorated
module-level functions; `gaussian` imports this on first use.

**Same bits everywhere.** A draw uses 32-bit integer arithmetic and float +, -, x, /, sqrt and
int-to-float conversion, each of which IEEE 754 rounds correctly and so defines to the last bit.
log, sin and cos are polynomials written out here, not a libm's. The order of operations is the
source's: without `fastmath` LLVM may neither reassociate nor contract a multiply and an add into
an FMA, and vectorising a loop without a reduction changes no lane's arithmetic. Hence SSE2, AVX2
and AVX-512 code, the vector body of a loop and its scalar remainder all agree; the tests compile
for several processors and compare. Keep it so: no fastmath, no math.log, no sums over the loop.
"""

import math

import numpy as np

from study.tools.compiling import inlined, kernel, specialised

u32, i32 = np.uint32, np.int32

# --- Threefry-4x32-20 (Salmon et al. 2011): (128-bit counter, 128-bit key) -> 4 random words -----
# 12 rounds already pass BigCrush; 20 is Random123's default, kept as the margin costs little here.

PARITY = u32(0x1BD11BDA)
EVEN_ROTATIONS = (10, 26, 11, 21, 13, 27, 23, 5)
ODD_ROTATIONS = (6, 20, 17, 11, 25, 10, 18, 20)


@inlined
def _rotate(x, r):
    return u32((x << u32(r)) | (x >> u32(32 - r)))


@inlined
def _four_rounds(x0, x1, x2, x3, r, k0, k1, k2, k3):
    # numba widens uint32 sums to 64 bits; each u32() wraps one back.
    x0, x2 = u32(x0 + x1), u32(x2 + x3)
    x1, x3 = _rotate(x1, r[0]) ^ x0, _rotate(x3, r[1]) ^ x2
    x0, x2 = u32(x0 + x3), u32(x2 + x1)
    x3, x1 = _rotate(x3, r[2]) ^ x0, _rotate(x1, r[3]) ^ x2
    x0, x2 = u32(x0 + x1), u32(x2 + x3)
    x1, x3 = _rotate(x1, r[4]) ^ x0, _rotate(x3, r[5]) ^ x2
    x0, x2 = u32(x0 + x3), u32(x2 + x1)
    x3, x1 = _rotate(x3, r[6]) ^ x0, _rotate(x1, r[7]) ^ x2
    return u32(x0 + k0), u32(x1 + k1), u32(x2 + k2), u32(x3 + k3)


@inlined
def threefry(c0, c1, c2, c3, key):
    k0, k1, k2, k3 = key
    k4 = PARITY ^ k0 ^ k1 ^ k2 ^ k3
    x = u32(c0 + k0), u32(c1 + k1), u32(c2 + k2), u32(c3 + k3)
    x = _four_rounds(*x, EVEN_ROTATIONS, k1, k2, k3, u32(k4 + u32(1)))
    x = _four_rounds(*x, ODD_ROTATIONS, k2, k3, k4, u32(k0 + u32(2)))
    x = _four_rounds(*x, EVEN_ROTATIONS, k3, k4, k0, u32(k1 + u32(3)))
    x = _four_rounds(*x, ODD_ROTATIONS, k4, k0, k1, u32(k2 + u32(4)))
    return _four_rounds(*x, EVEN_ROTATIONS, k0, k1, k2, u32(k3 + u32(5)))


# The last word of the counter keeps the laws apart, and float64's trailing words from its leading.
NORMAL, NORMAL_TRAILING, UNIFORM, UNIFORM_TRAILING = u32(0), u32(1), u32(2), u32(3)


@inlined
def _words(key, layer, block, stream):
    return threefry(u32(block), u32(block >> 32), u32(layer), stream, key)


# --- Words to draws ------------------------------------------------------------------------------
# A leading word w stands for the real number w + d. In float32 d = 1/2, the middle of the cell; in
# float64 a trailing word resolves d to 32 more bits. One draw in two precisions, never exactly 0.

HALF = np.float32(0.5)


@inlined
def below_one(trailing):
    """An odd multiple of 2^-32 in (0, 1)."""
    return 0.5 + np.float64(i32(trailing | u32(1))) * 2.0**-32


@inlined
def _horner(x, coefficients):
    p = coefficients[0]
    for c in coefficients[1:]:
        p = p * x + c
    return p


def _log_of_uniform(real, integer, coefficients):
    """ln u of a uniform u, compiled.

    ln(1 + f) = f - f^2/2 + s (f^2/2 + z log(z)) with s = f / (2 + f), z = s^2, |s| < 0.172.
    """
    half, one, two, ln2, unit = map(real, (0.5, 1, 2, math.log(2), 2**-32))
    fraction_bits = integer(np.finfo(real).nmant)
    root_half = np.sqrt(half).view(integer)

    @inlined
    def log_of_uniform(a, d):
        # u = (a + d) / 2^32, but a float holds u finely only near 0. So x = min(u, 1 - u), right to
        # roundoff from the integer (with 1 - d for d in the upper half, alike in law), and there,
        # where the sign bit is set, ln u = ln(1 - x).
        a = i32(a)
        x = (real(i32(a ^ i32(a >> 31))) + d) * unit
        y = one - x if a < 0 else x
        n = real(y).view(integer)
        exponent = integer(integer(n - root_half) >> fraction_bits)
        significand = integer(n - integer(exponent << fraction_bits)).view(real)  # sqrt 1/2, sqrt 2
        f = -x if exponent == 0 else significand - one
        s = f / (two + f)
        z = s * s
        square = half * f * f
        return real(exponent) * ln2 + (f - (square - s * (square + z * _horner(z, coefficients))))

    return log_of_uniform


def _box_muller(real, integer, log, sin, cos):
    """Compile Box & Muller's (1958) transform of two words, given minimax coefficients.

    sin t = t + t^3 sin(t^2), cos t = 1 - t^2/2 + t^4 cos(t^2) on |t| < pi/4 as in fdlibm.
    """
    log, sin, cos = (tuple(real(c) for c in reversed(p)) for p in (log, sin, cos))
    half, one, two, angle_unit = map(real, (0.5, 1, 2, 2 * math.pi * 2**-32))
    log_of_uniform = _log_of_uniform(real, integer, log)

    @inlined
    def transform(a, b, d, e):
        # Radius from a. Thirty bits of b are an angle t within pi/4 of an axis, the other two say
        # which: a reflection and a sign, cheaper than quadrants and as uniform on the circle.
        radius = math.sqrt(-two * log_of_uniform(a, d))
        t = (real(i32(b) >> 2) + e) * angle_unit
        q = t * t
        x = one - (half * q - q * q * _horner(q, cos))
        y = t + t * q * _horner(q, sin)
        if b & 1:
            x, y = y, x
        if b & 2:
            radius = -radius
        return radius * x, radius * y

    return transform


# fdlibm's and FreeBSD msun's coefficients (log, sin, cos), Cephes' for sin and cos in float32:
# truncation error below 2^-58 in float64 and 2^-26 in float32.
box_muller32 = _box_muller(
    np.float32,
    np.int32,
    log=(0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
    sin=(-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4),
    cos=(4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5),
)
box_muller64 = _box_muller(
    np.float64,
    np.int64,
    log=(
        *(6.666666666666735130e-1, 3.999999999940941908e-1, 2.857142874366239149e-1),
        *(2.222219843214978396e-1, 1.818357216161805012e-1, 1.531383769920937332e-1),
        1.479819860511658591e-1,
    ),
    sin=(
        *(-1.66666666666666324348e-1, 8.33333333332248946124e-3, -1.98412698298579493134e-4),
        *(2.75573137070700676789e-6, -2.50507602534068634195e-8, 1.58969099521155010221e-10),
    ),
    cos=(
        *(4.16666666666666019037e-2, -1.38888888888741095749e-3, 2.48015872894767294178e-5),
        *(-2.75573143513906633035e-7, 2.08757232129817482790e-9, -1.13596475577881948265e-11),
    ),
)

UNIFORM32 = np.float32(math.sqrt(3) * 2**-31)
UNIFORM64 = math.sqrt(3) * 2.0**-31


# --- Kernels: out[4 i : 4 i + 4] from block first + i; out.size a multiple of 4 ------------------
# `out` is flat: with a second axis LLVM cannot prove that the rows are apart, and gives up.


@kernel
def normal32(key, layer, first, out):
    for i in range(out.size >> 2):
        a, b, c, d = _words(key, layer, first + i, NORMAL)
        out[4 * i], out[4 * i + 1] = box_muller32(a, b, HALF, HALF)
        out[4 * i + 2], out[4 * i + 3] = box_muller32(c, d, HALF, HALF)


@kernel
def normal64(key, layer, first, out):
    for i in range(out.size >> 2):
        a, b, c, d = _words(key, layer, first + i, NORMAL)
        e, f, g, h = _words(key, layer, first + i, NORMAL_TRAILING)
        out[4 * i], out[4 * i + 1] = box_muller64(a, b, below_one(e), below_one(f))
        out[4 * i + 2], out[4 * i + 3] = box_muller64(c, d, below_one(g), below_one(h))


@kernel
def uniform32(key, layer, first, out):
    for i in range(out.size >> 2):
        a, b, c, d = _words(key, layer, first + i, UNIFORM)
        out[4 * i] = (np.float32(i32(a)) + HALF) * UNIFORM32
        out[4 * i + 1] = (np.float32(i32(b)) + HALF) * UNIFORM32
        out[4 * i + 2] = (np.float32(i32(c)) + HALF) * UNIFORM32
        out[4 * i + 3] = (np.float32(i32(d)) + HALF) * UNIFORM32


@kernel
def uniform64(key, layer, first, out):
    for i in range(out.size >> 2):
        a, b, c, d = _words(key, layer, first + i, UNIFORM)
        e, f, g, h = _words(key, layer, first + i, UNIFORM_TRAILING)
        out[4 * i] = (i32(a) + below_one(e)) * UNIFORM64
        out[4 * i + 1] = (i32(b) + below_one(f)) * UNIFORM64
        out[4 * i + 2] = (i32(c) + below_one(g)) * UNIFORM64
        out[4 * i + 3] = (i32(d) + below_one(h)) * UNIFORM64


# --- Kernels: out[i, :] from block 0 on, under keys[i] in layers[i]; rows of any length ----------


fill = normal32  # or another of these kernels


def rows(keys, layers, out):
    whole = out.shape[1] & ~3
    block = np.empty(4, out.dtype)
    for i in range(len(keys)):
        key = (keys[i, 0], keys[i, 1], keys[i, 2], keys[i, 3])
        fill(key, layers[i], 0, out[i, :whole])
        if whole < out.shape[1]:
            fill(key, layers[i], whole >> 2, block)
            for j in range(whole, out.shape[1]):  # a slice would compile errors of shapes, too
                out[i, j] = block[j - whole]


FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
KERNELS = {
    ("normal", FLOAT32): kernel(specialised(rows, "normal32", fill=normal32)),
    ("normal", FLOAT64): kernel(specialised(rows, "normal64", fill=normal64)),
    ("uniform", FLOAT32): kernel(specialised(rows, "uniform32", fill=uniform32)),
    ("uniform", FLOAT64): kernel(specialised(rows, "uniform64", fill=uniform64)),
}
