"""Intervals by bootstrap over cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def bootstrap_mean(values: Sequence[float], *, draws: int = 2000, seed: int = 0, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and its percentile interval over cases (one value a patient); NaN where there are no finite values."""
    v = np.asarray([x for x in values if np.isfinite(x)], dtype=np.float64)
    if not len(v):
        return float("nan"), float("nan"), float("nan")
    random = np.random.default_rng(seed)
    means = v[random.integers(0, len(v), (draws, len(v)))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(v.mean()), float(low), float(high)
