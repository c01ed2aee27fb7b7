"""First-order features of an image's values inside a mask, as the Image Biomarker Standardisation Initiative (IBSI) defines them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadParameter

Floats = NDArray[np.float64]


def first_order(values: Floats) -> dict[str, float]:
    """Statistics of values (n,) in their own unit (variance and energy in its square; skewness, kurtosis and ratios have none).

    ``kurtosis`` is the excess over a normal distribution's; variances divide by n. Of values that are all alike both are 0; a ratio to 0 is NaN.

    **Source**: IBSI reference manual 3.3 (Zwanenburg et al. 2020, Radiology 295:328).

    >>> found = first_order(np.array([1.0, 2.0, 3.0, 6.0]))
    >>> found["mean"], found["variance"], found["range"]
    (3.0, 3.5, 5.0)
    """
    x = _filled(values)
    mean, median = float(x.mean()), float(np.median(x))
    variance, spread = float(x.var()), float(x.std())
    p10, p25, p75, p90 = (float(v) for v in np.percentile(x, (10, 25, 75, 90)))
    middle = x[(x >= p10) & (x <= p90)]
    away = x - mean
    return {
        "mean": mean,
        "variance": variance,
        "skewness": float((away**3).mean() / spread**3) if spread > 0 else 0.0,
        "kurtosis": float((away**4).mean() / spread**4) - 3 if spread > 0 else 0.0,
        "median": median,
        "minimum": float(x.min()),
        "p10": p10,
        "p90": p90,
        "maximum": float(x.max()),
        "interquartile_range": p75 - p25,
        "range": float(np.ptp(x)),
        "mean_absolute_deviation": float(np.abs(away).mean()),
        "robust_mean_absolute_deviation": float(np.abs(middle - middle.mean()).mean()),
        "median_absolute_deviation": float(np.abs(x - median).mean()),
        "coefficient_of_variation": spread / mean if mean else math.nan,
        "quartile_coefficient_of_dispersion": (p75 - p25) / (p75 + p25) if p75 + p25 else math.nan,
        "energy": float((x**2).sum()),
        "root_mean_square": float(np.sqrt((x**2).mean())),
    }


def histogram(levels: NDArray[np.int64]) -> dict[str, float]:
    """Entropy (in bits) and uniformity of gray levels (n,), see ``discretized``. Source: IBSI 3.4, TLU2 and BJ5W.

    >>> histogram(np.array([1, 1, 2, 2]))
    {'entropy': 1.0, 'uniformity': 0.5}
    """
    share = np.bincount(levels)[1:] / len(levels)
    share = share[share > 0]
    return {"entropy": float(-(share * np.log2(share)).sum()) + 0.0, "uniformity": float((share**2).sum())}


def discretized(values: Floats, bins: int = 32, width: float | None = None, lowest: float | None = None) -> NDArray[np.int64]:
    """Gray levels 1, 2, ... of values (n,).

    Args:
        values: of the region alone.
        bins: as many levels between the lowest and the highest value (IBSI's fixed bin number): for values without a physical unit.
        width: instead, levels so wide in the image's unit, from ``lowest`` on (fixed bin size): for HU and SUV, where values compare.
        lowest: where level 1 begins; None: the lowest value.

    **Source**: IBSI 2.7.

    >>> discretized(np.array([0.0, 0.4, 0.6, 1.0]), bins=2).tolist(), discretized(np.array([0.0, 30.0]), width=25.0).tolist()
    ([1, 1, 2, 2], [1, 2])
    """
    x = _filled(values)
    if width is None:
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
            raise BadParameter("bins is a whole number of at least 2", repr(bins), "Write 32, or give width= for HU.")
        low, high = float(x.min()), float(x.max())
        if high == low:
            return np.ones(len(x), np.int64)
        return np.minimum(np.floor(bins * (x - low) / (high - low)) + 1, bins).astype(np.int64)
    if not width > 0:
        raise BadParameter("width of a gray level is above 0", repr(width), "Write 25 for HU.")
    low = float(x.min()) if lowest is None else float(lowest)
    return np.maximum(np.floor((x - low) / width) + 1, 1).astype(np.int64)


def _filled(values: Floats) -> Floats:
    x = np.asarray(values, np.float64).ravel()
    if not len(x):
        raise BadParameter("a region with samples", "an empty mask", "Leave that image out.")
    return x
