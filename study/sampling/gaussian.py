"""Random weights by counter: (key, layer, entry) -> one draw, in any order, on any thread.

A network of 10,000 layers is walked forwards and then backwards, and its weights do not fit in
memory; so they are a function, not a sequence. Entry e of a layer is word ``e % 4`` of

    Threefry-4x32-20 (key, counter = (e // 4, layer, law))        Salmon et al. 2011

transformed to the law asked for. The cipher is a permutation of its 128-bit counter under a 128-bit
key, so different (key, layer, block) never meet by construction; two *keys* are unrelated but for
a collision of 128-bit hashes. Normal and uniform draws of the same entry use different blocks.

- The bits do not depend on the order, the chunks, the threads or the processor (why:
  `study.sampling.kernels`). `haar` is the exception: it goes through LAPACK.
- float32 and float64 are the *same* draw, resolved to 32 or 64 bits of radius: 6e-8 rms apart, and
  more only in the far tail (1e-4 once in 10^7), so number formats are compared on one network.
- Normals reach 6.76 sigma in float32 (the true law goes further once in 7e10 draws) and 9.42 in
  float64. The mass beyond 6 and 8 sigma is right to 0.2 %. No draw is 0, infinite or NaN.
- Each call runs on one thread without the GIL: spread layers, seeds or chunks over threads.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as 1, 2,
3", SC'11. G. E. P. Box and M. E. Muller, Ann. Math. Statist. 29 (1958) 610. F. Mezzadri, "How to
generate random matrices from the classical compact groups", Notices of the AMS 54 (2007) 592.
"""

import hashlib

import numpy as np

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def key(*words):
    """Hash what names a stream of weights, such as a seed and a purpose, to a cipher key.

    The key is 128 bits, (4,) uint32, of BLAKE2b of the words' canonical encoding. Types and
    boundaries count: 1, 1.0 and "1" differ, as do ("ab", "c") and ("a", "bc"). NumPy scalars count
    as Python's.

    >>> key(7, "weights")
    array([3298393386, 3772859966, 3437034654, 1584915597], dtype=uint32)
    >>> bool((key(7, "weights") == key("7", "weights")).any())
    False
    """
    if not words:
        raise ValueError("words: got none, need at least one int, float or str")
    return keys(words[:1], *words[1:])[0]


def keys(seeds, *words):
    """Stack ``key(seed, *words)`` of each seed, (seeds, 4).

    >>> bool((keys([7, 8], "weights")[1] == key(8, "weights")).all())
    True
    """
    rest = b"".join(map(_encode, words))
    start = hashlib.blake2b(digest_size=16, person=b"study.gaussian 1")
    digests = []
    for seed in seeds:
        state = start.copy()
        state.update(_encode(seed) + rest)
        digests.append(state.digest())
    return np.frombuffer(b"".join(digests), dtype="<u4").astype(np.uint32).reshape(-1, 4)


def fill_normal(key, layer, out):
    """Fill an array of float32 or float64 with independent standard normal draws, and return it.

    ``out`` is C-contiguous, of any shape; ``out.ravel()[i]`` becomes entry i of the layer, which is
    from 0 to 2^32 - 1.

    >>> few, more = (fill_normal(key(7), 3, np.empty(count)) for count in (5, 10))
    >>> bool((few == more[:5]).all())
    True
    """
    return _fill_one("normal", key, layer, out)


def fill_normals(keys, layers, out):
    """Fill ``out[i]`` as ``fill_normal(keys[i], layers[i], out[i])`` would, in one call for all i.

    The keys are (n, 4); there are n layers, or one for all.

    >>> both = fill_normals(np.stack([key(7), key(8)]), 3, np.empty((2, 5)))
    >>> bool((both[1] == fill_normal(key(8), 3, np.empty(5))).all())
    True
    """
    return _fill("normal", keys, layers, out)


def fill_layers(keys, layers, out):
    """Fill ``out[i, j]`` as ``fill_normal(keys[j], layers[i], out[i, j])`` would, in one call.

    >>> out = fill_layers(key(7)[None], [3, 4], np.empty((2, 1, 5)))
    >>> bool((out[1, 0] == normal(key(7), 4, 5)).all())
    True
    """
    rows = out.reshape(len(layers) * len(keys), *out.shape[2:])
    fill_normals(np.tile(keys, (len(layers), 1)), np.repeat(layers, len(keys)), rows)
    return out


def fill_uniform(key, layer, out):
    """Fill an array with independent draws of unit variance, uniform on [-sqrt 3, sqrt 3].

    >>> out = fill_uniform(key(7), 3, np.empty(100_000, dtype=np.float32))
    >>> bool(abs(out).max() <= np.float32(3**0.5)), round(float(out.var()), 1)
    (True, 1.0)
    """
    return _fill_one("uniform", key, layer, out)


def normal(key, layer, shape, dtype=np.float64):
    """Allocate an array of `shape` and `dtype` and fill it by `fill_normal`.

    >>> normal(key(7), 0, (2, 2), np.float32)
    array([[ 1.2720091,  1.3558961],
           [ 0.5090737, -1.829887 ]], dtype=float32)
    """
    return fill_normal(key, layer, np.empty(shape, _checked_dtype(dtype)))


def haar(key, layer, rows, cols, dtype=np.float64):
    """Draw a matrix with orthonormal columns (rows >= cols) or rows (rows <= cols), Haar.

    Let m >= n be the two sizes. G is m x n, its column j entries j m ... j m + m - 1 of `normal`,
    and G = Q R with R_ii > 0. That Q is a function of G with Q(U G) = U Q(G) for every orthogonal
    U, so like G its law does not change under U: it is *the* uniform law on the m x n matrices with
    orthonormal columns (on the orthogonal group O(n) if m = n, both determinants alike). LAPACK
    alone leaves the signs of R_ii to its reflections, which is not Haar (Mezzadri 2007). Returned
    is Q (rows > cols) or its transpose: an entry has variance 1 / max(rows, cols).

    The bits depend on the LAPACK that SciPy uses, and may on its number of threads. The entries are
    those of `fill_normal`: the two are not independent draws.

    >>> q = haar(key(7), 0, 5, 3)
    >>> bool(np.allclose(q.T @ q, np.eye(3)))
    True
    """
    import scipy.linalg  # not at the top: it takes longer to import than the rest of the module

    rows, cols = _integer("rows", rows, 1, 2**31), _integer("cols", cols, 1, 2**31)
    short, long = sorted((rows, cols))
    g = normal(key, layer, (short, long), dtype).T  # the column order that LAPACK works in
    q, r = scipy.linalg.qr(g, mode="economic", overwrite_a=True, check_finite=False)
    q *= np.copysign(1, r.diagonal())
    return np.ascontiguousarray(q) if rows > cols else np.ascontiguousarray(q.T)  # either way Haar


def _fill_one(law, key, layer, out):
    if getattr(key, "dtype", None) != np.uint32 or key.shape != (4,):
        raise ValueError(f"key = {key!r} is not allowed, need a uint32 array of shape (4,)")
    _check_out(out)
    _fill(law, key[None], layer, out[None])
    return out


def _fill(law, keys, layers, out):
    from study.sampling.kernels import KERNELS

    _check_out(out)
    shape = (*out.shape[:1], 4)
    if getattr(keys, "dtype", None) != np.uint32 or keys.shape != shape:
        raise ValueError(f"keys = {keys!r} is not allowed, need a uint32 array of shape {shape}")
    layers = np.asarray(layers)
    if layers.dtype.kind not in "iu" or ((layers < 0) | (layers >= 2**32)).any():
        raise ValueError(f"layer = {layers} is not allowed, need an integer in [0, 2^32)")
    if layers.ndim and layers.shape != out.shape[:1]:
        raise ValueError(f"layers: {len(layers)} of them are not allowed, need {len(out)}")
    layers = np.ascontiguousarray(np.broadcast_to(layers, len(out)), np.uint32)
    if out.size:
        KERNELS[law, out.dtype](keys, layers, out.reshape(len(out), -1))
    return out


def _encode(word):
    # The usual word first: laws name millions of seeds.
    if isinstance(word, (int, np.integer)) and not isinstance(word, bool):
        text = b"int%d" % word
    elif isinstance(word, str):
        text = b"str" + word.encode()
    elif isinstance(word, (float, np.float32)) and not np.isnan(word):
        text = b"float" + float(word).hex().encode()
    else:
        raise ValueError(f"words: {word!r} is not allowed, need an int, a float (not NaN) or a str")
    return b"%d:%b" % (len(text), text)  # lengths keep boundaries


def _integer(name, value, low, high):
    if not isinstance(value, int | np.integer) or not low <= value < high:
        raise ValueError(f"{name} = {value!r} is not allowed, need an integer in [{low}, {high})")
    return int(value)


def _checked_dtype(dtype):
    if dtype is None or dtype not in _FLOATS:
        raise ValueError(f"dtype = {dtype!r} is not allowed, need float32 or float64")
    return np.dtype(dtype)


def _check_out(out):
    if not isinstance(out, np.ndarray) or out.dtype not in _FLOATS:
        given = getattr(out, "dtype", type(out).__name__)
        raise ValueError(f"out: {given} is not allowed, need an array of float32 or float64")
    if not (out.flags.c_contiguous and out.flags.writeable):
        given = f"strides {out.strides} for shape {out.shape}, writeable {out.flags.writeable}"
        raise ValueError(f"out: {given} is not allowed, need a C-contiguous writeable array")
