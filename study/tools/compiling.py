"""Compiling with numba: what is inlined, what is handed over, what the cache keeps between runs."""

import types

from numba import cfunc, njit

# Ten times faster: the vectoriser takes no loop with calls in it (LLVM finds a cipher too long to
# inline unasked), nor one that may leave by an exception (Python's check of every divisor for 0).
inlined = njit(error_model="numpy", forceinline=True)


def kernel(function):
    """Compile without the GIL, and cached wherever numba finds a folder that it can write."""
    return _cached(njit, function, nogil=True)


def called(function, signature):
    """Compile what a kernel is handed and calls, by a signature of numbers and pointers.

    One that is handed functions is compiled once for all of them.
    """
    return _cached(cfunc, function, signature)


def specialised(function, name, **names):
    """A function with globals of its own, and a name by which the cache knows it."""
    copy = types.FunctionType(function.__code__, function.__globals__ | names, function.__name__)
    copy.__qualname__ = f"{function.__name__}_{name}"
    return copy


def _cached(compiler, function, *signature, **options):
    try:
        return compiler(*signature, error_model="numpy", cache=True, **options)(function)
    except RuntimeError:  # neither NUMBA_CACHE_DIR, the package nor the user's cache is writable
        return compiler(*signature, error_model="numpy", **options)(function)
