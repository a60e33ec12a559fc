"""The networks of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import study


def networks(width: int, depths: Sequence[int], scales: int) -> list[study.Network]:
    """Both activations, ``scales`` weight scales each, every depth, float32."""
    return [
        study.Network(activation=phi, depth=depth, width=width, sigma_w=float(s), dtype="float32")
        for phi in ("relu", "sigmoid")
        for s in np.linspace(0.5, 3, scales)
        for depth in depths
    ]
