"""Intervals and tests over patients; images of one patient are never counted as independent."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadParameter

FEWEST = 3  # patients that an interval takes
PARTS = 500  # of the patients, each left out at once, where there are more
SLACK = 1e-6  # of float32 sums, by which a value may seem to leave its range
Floats = NDArray[np.float64]
Range = tuple[float, float]
Columns = Sequence[Sequence[float] | Floats]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval, of how many images and patients; both ends are NaN where the patients bear none."""

    value: float
    low: float
    high: float
    images: int
    patients: int

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """Low and high as a Measurement takes them: None where there is no interval."""
        return (None, None) if math.isnan(self.low) else (self.low, self.high)

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "none"
        return f"{self.value:.3f}" if math.isnan(self.low) else f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


NONE = Interval(math.nan, math.nan, math.nan, 0, 0)


def average(values: Sequence[float] | Floats, patients: Sequence[Hashable] | None = None, *, within: Range | None = None) -> Interval:
    """The mean of values, one an image, with its 95 % interval over patients: Student's t, moved by the skewness of the values (Hall 1992).

    Where they cannot leave ``within``, neither does the interval; and if all of them lie on its ends (hits), it is Wilson's (1927), with t and the
    patients' own spread. Other values that are all alike show no spread and have none, nor have fewer than three patients. NaN is left out. For
    unequal numbers of images see ``statistic``.

    It holds the truth in about 95 of 100 cases from three patients on, where a percentile bootstrap does in 76 (three patients), 86 (five) or 90
    (eight); in 88 to 93 where a few patients lie very far from the rest (lognormal values), and of shares that mostly lie near one end of their range
    (beta(0.3, 3)) in 85 (three patients), 91 (five) or 93 (eight), most misses on the side of the many.

    Raises:
        BadParameter: a value outside of ``within``, or not a patient for each.
    """
    known = _held(np.asarray(values, dtype=np.float64), within)
    hits = _at_end(known[~np.isnan(known)], within)
    found, each = _left_out((known,), lambda v: float(v.mean()), patients)
    return _scored(found, each, within) if within is not None and hits else _skewed(found, each, within)


def statistic(
    columns: Columns, of: Callable[..., float], patients: Sequence[Hashable] | None = None, *, within: Range, mean: bool = False
) -> Interval:
    """A statistic of several columns (scores and labels, say), an entry an image, with its 95 % interval over patients; it cannot leave ``within``.

    Each patient is left out once, with all images; what that changes are pseudo-values (Tukey's jackknife, Miller 1974). Their spread and Student's
    t give a score interval as Wilson's, or, of a sum over images (``mean``: an error, say), the interval of ``average``. Images with a NaN are left
    out.

    Raises:
        BadParameter: a statistic outside of ``within``, or not a patient for each image.
    """
    found, each = _left_out(columns, of, patients)
    found = replace(found, value=float(_held(np.array([found.value]), within)[0]))
    return _skewed(found, each, within) if mean else _scored(found, each, within)


def auc(scores: Sequence[float] | Floats, truth: Sequence[float] | Floats, patients: Sequence[Hashable] | None = None) -> Interval:
    """Area under the ROC curve, with its interval over patients; it takes two patients of either kind.

    Up to 0.92 it holds the truth in 93 to 95 of 100 cases; of areas of 0.96 to 0.98 with 20 patients of one kind in 88 to 91, most misses too high.
    """
    return statistic((scores, truth), area, patients, within=(0.0, 1.0))


def area(scores: Floats, truth: Floats) -> float:
    """The share of pairs in which the true one scores higher, ties half (Mann and Whitney 1947); NaN without one of each."""
    positive, negative = scores[truth > 0.5], np.sort(scores[truth <= 0.5])
    if not len(positive) or not len(negative):
        return math.nan
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.sum() / (2 * len(positive) * len(negative)))


def wilson(share: float, n: float, reach: float = 1.959964) -> Range:
    """Interval of a share of n (Wilson 1927)."""
    middle = (share + reach**2 / (2 * n)) / (1 + reach**2 / n)
    half = reach * math.sqrt(share * (1 - share) / n + reach**2 / (4 * n * n)) / (1 + reach**2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _held(values: Floats, within: Range | None) -> Floats:
    """Values that lie within their range, but for rounding: an interval that is cut off there must not leave out its own value."""
    if within is None:
        return values
    slack = SLACK * max(1.0, *(abs(end) for end in within if math.isfinite(end)))
    outside = values[(values < within[0] - slack) | (values > within[1] + slack)]
    if len(outside):
        raise BadParameter(
            f"values from {within[0]:g} to {within[1]:g}", f"{outside[0]:g}", "Give the range that they cannot leave, or none."
        )
    return np.clip(values, *within)


def _at_end(values: Floats, within: Range | None) -> bool:
    """Whether all values lie on an end of their range, as those of hits do."""
    return within is not None and bool(np.isfinite(within).all() and np.isclose(values[:, None], within, rtol=0, atol=1e-9).any(1).all())


def _left_out(columns: Columns, of: Callable[..., float], patients: Sequence[Hashable] | None) -> tuple[Interval, Floats]:
    """A statistic without its interval, and its pseudo-values; none of these where patients are too few or one of them decides whether it exists."""
    table = np.stack([np.asarray(c, dtype=np.float64) for c in columns])
    who = list(range(table.shape[1])) if patients is None else list(patients)
    if len(who) != table.shape[1]:
        raise BadParameter("a patient for each image", f"{len(who)} for {table.shape[1]} images", "Give as many.")
    kept = np.flatnonzero(~np.isnan(table).any(0))
    if not len(kept):
        return NONE, np.empty(0)
    code = {p: i for i, p in enumerate(dict.fromkeys(who[i] for i in kept))}
    found = Interval(float(of(*table[:, kept])), math.nan, math.nan, len(kept), len(code))
    if len(code) < FEWEST or not math.isfinite(found.value):
        return found, np.empty(0)
    whose = np.array([code[who[i]] for i in kept])
    if len(code) > PARTS:
        whose = np.random.default_rng(0).permutation(np.arange(len(code)) % PARTS)[whose]
    m = int(whose.max()) + 1
    without = np.array([of(*table[:, kept[whose != k]]) for k in range(m)])
    return found, m * found.value - (m - 1) * without if np.isfinite(without).all() else np.empty(0)


def _still(each: Floats) -> bool:
    """Whether pseudo-values differ by no more than rounding."""
    return float(np.ptp(each)) <= 1e-9 * float(np.abs(each).max())


def _reach(m: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(m - 1, 0.975))


def _scored(found: Interval, each: Floats, within: Range) -> Interval:
    """The values that are no further from the one found than t allows, if their spread goes with p (1 - p) as that of a share."""
    if not len(each):
        return found
    m, (a, b) = len(each), within
    share = min(1.0, max(0.0, (found.value - a) / (b - a)))
    error = 0.0 if _still(each) else float(each.var()) / (b - a) ** 2 / m
    n = share * (1 - share) / error if error > 0 and 0 < share < 1 else float(found.patients)
    low, high = wilson(share, n, _reach(m))
    return Interval(found.value, a + (b - a) * low, a + (b - a) * high, found.images, found.patients)


def _skewed(found: Interval, each: Floats, within: Range | None) -> Interval:
    if not len(each) or _still(each):
        return _scored(found, each, within) if within is not None and _at_end(np.array([found.value]), within) else found
    m, away = len(each), each - each.mean()
    spread, skew = float(each.std(ddof=1)), float((away**3).mean() / (away**2).mean() ** 1.5)
    low, high = (found.value - spread * _at(sign * _reach(m) / math.sqrt(m), skew, m) for sign in (1, -1))
    least, most = within or (-math.inf, math.inf)
    return Interval(found.value, max(least, low), min(most, high), found.images, found.patients)


def _at(t: float, skew: float, m: int) -> float:
    """Where Hall's cubic transformation, which takes the skewness from a t value, reaches ``t`` (both over the root of m; Hall 1992, JRSS B 54:221)."""
    return t if abs(skew) < 1e-9 else 3 / skew * float(np.cbrt(1 + skew * (t - skew / (6 * m))) - 1)


def paired(
    a: Sequence[float], b: Sequence[float], patients: Sequence[Hashable] | None = None, *, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Mean difference a - b and its two-sided p by flipping the sign of each patient's differences (exact in the limit of many draws).

    Pairs with a NaN are left out; without pairs both are NaN. Source: Fisher 1935; one draw is added to numerator and denominator (Phipson and Smyth 2010).
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    who = list(range(len(difference))) if patients is None else list(patients)
    sums: dict[Hashable, float] = {}
    for k, d in zip(who, difference, strict=True):
        if not np.isnan(d):
            sums[k] = sums.get(k, 0.0) + float(d)
    each = np.asarray(list(sums.values()))
    if not len(each):
        return math.nan, math.nan
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (draws, len(each)))
    far = np.abs(signs @ each) >= abs(each.sum()) * (1 - 1e-12)
    return float(np.nanmean(difference)), float((1 + far.sum()) / (1 + draws))


def adjusted(p: Sequence[float]) -> list[float]:
    """p values of several tests, held to the same error over all of them (Holm 1979); NaN stays."""
    known = sorted((v, i) for i, v in enumerate(p) if not math.isnan(v))
    found, most = [math.nan] * len(p), 0.0
    for rank, (v, i) in enumerate(known):
        most = max(most, min(1.0, v * (len(known) - rank)))
        found[i] = most
    return found
