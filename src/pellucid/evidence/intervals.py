"""Intervals: bootstrap over patients, and paired tests; images of one patient are never counted as independent."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadParameter

DRAWS = 1000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval, of how many images and patients."""

    value: float
    low: float
    high: float
    images: int
    patients: int

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "none"
        return f"{self.value:.3f}" if math.isnan(self.low) else f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    values: Sequence[float],
    patients: Sequence[Hashable] | None = None,
    *,
    of: Callable[[Floats], float] = lambda v: float(v.mean()),
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """The mean (or ``of``) of values, one an image, with the interval from the 2.5 % and 97.5 % points over patients drawn with replacement.

    All images of a drawn patient come along (cluster bootstrap; Field and Welsh 2007). NaN values are left out. With fewer than two patients there
    is no interval.
    """
    return resampled((values,), lambda v: of(v), patients, draws=draws, seed=seed)


def resampled(
    columns: Sequence[Sequence[float]],
    of: Callable[..., float],
    patients: Sequence[Hashable] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """A statistic of several columns (scores and labels, say), drawn together, with its interval over patients."""
    table = np.stack([np.asarray(c, dtype=np.float64) for c in columns])
    who = list(range(table.shape[1])) if patients is None else list(patients)
    if len(who) != table.shape[1]:
        raise BadParameter("a patient for each image", f"{len(who)} for {table.shape[1]} images", "Give as many.")
    kept = [i for i in range(len(who)) if not np.isnan(table[:, i]).any()]
    groups: dict[Hashable, list[int]] = {}
    for i in kept:
        groups.setdefault(who[i], []).append(i)
    members = [np.asarray(g) for g in groups.values()]
    if not members:
        return Interval(math.nan, math.nan, math.nan, 0, 0)
    value = of(*table[:, kept])
    if len(members) < 2:
        return Interval(value, math.nan, math.nan, len(kept), 1)
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        at = np.concatenate([members[k] for k in chance.integers(0, len(members), len(members))])
        found.append(of(*table[:, at]))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(float(value), float(low), float(high), len(kept), len(members))


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
