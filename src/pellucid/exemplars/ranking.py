"""How good a ranking is: nDCG, precision, average precision, Kendall's tau against a reader's order; with intervals over patients."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadParameter

Numbers = Sequence[float] | NDArray[np.float64]
FEWEST = 3  # patients that an interval takes


@dataclass(frozen=True)
class Mean:
    """A mean over queries with its 95 % interval over patients (NaN where there are fewer than three), of how many of both."""

    value: float
    low: float
    high: float
    queries: int
    patients: int

    def __str__(self) -> str:
        return f"{self.value:.3f}" if math.isnan(self.low) else f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ndcg(relevance: Numbers, distances: Numbers, k: int | None = None) -> float:
    """Normalized discounted cumulative gain of the ``k`` nearest: how early what is relevant comes, 1 for the best order.

    ``relevance`` (n,) is each case's grade, 0 or more, as the gain itself; the discount is log2(rank + 1). Cases that are equally far share the
    mean of their gains. NaN where nothing is relevant.

    **Source**: Järvelin and Kekäläinen 2002; ties as McSherry and Najork 2008.

    >>> round(ndcg([3, 0, 1], [0.1, 0.2, 0.3]), 3), round(ndcg([0, 3, 1], [0.1, 0.2, 0.3]), 3)
    (0.964, 0.659)
    """
    gains, far = _columns(relevance, distances)
    if (gains < 0).any():
        raise BadParameter("grades of 0 or more", f"{gains.min():g}", "Add a constant, or grade from 0.")
    discount = 1 / np.log2(np.arange(len(gains)) + 2)
    discount[_top(k, len(gains)) :] = 0
    best = float(np.sort(gains)[::-1] @ discount)
    _, group, count = np.unique(far, return_inverse=True, return_counts=True)
    mean = np.bincount(group, gains) / count
    return float(mean @ np.add.reduceat(discount, np.cumsum(count) - count)) / best if best > 0 else math.nan


def precision_at(relevant: Numbers, distances: Numbers, k: int) -> float:
    """The share of relevant cases among the ``k`` nearest; equally far ones count in the order given.

    >>> precision_at([1, 0, 1, 1], [0.4, 0.1, 0.2, 0.3], 2)
    0.5
    """
    hits, far = _columns(relevant, distances)
    top = _top(k, len(hits))
    return float((hits[np.argsort(far, kind="stable")[:top]] > 0.5).mean())


def average_precision(relevant: Numbers, distances: Numbers) -> float:
    """The mean of the precision at each relevant case; equally far cases come in together. NaN where nothing is relevant.

    >>> average_precision([1, 0, 1], [0.1, 0.2, 0.3])
    0.8333333333333333
    """
    hits, far = _columns(relevant, distances)
    if not (hits > 0.5).any():
        return math.nan
    order = np.argsort(far, kind="stable")
    last = np.append(np.diff(far[order]) > 0, True)
    found = np.cumsum(hits[order] > 0.5)[last]
    seen = np.flatnonzero(last) + 1
    return float((np.diff(found, prepend=0) * found / seen).sum() / found[-1])


def kendall(distances: Numbers, reader: Numbers) -> float:
    """Kendall's tau-b of the distances with a reader's ranks (1 the most alike): 1 where they agree, -1 where they are reversed.

    NaN where one of them tells nothing apart. **Source**: Kendall 1945.

    >>> kendall([0.1, 0.2, 0.3], [1, 3, 2])
    0.3333333333333333
    """
    a, b = _columns(distances, reader)
    i, j = np.triu_indices(len(a), 1)
    u, v = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    norm = math.sqrt(float((u != 0).sum()) * float((v != 0).sum()))
    return float(u @ v) / norm if norm > 0 else math.nan


def over_patients(values: Numbers, patients: Sequence[Hashable] | None = None, *, within: tuple[float, float] = (0.0, 1.0)) -> Mean:
    """The mean of what each query gave, NaN left out, with its 95 % interval: Student's t over patients, each left out once with all its queries.

    Queries of one patient are not independent; the interval holds for the patients. It does not leave ``within``.

    **Source**: the jackknife of a ratio (Miller 1974); symmetric, so a little short where most values lie at one end.

    >>> print(over_patients([0.5, 0.7, 0.6, 0.8]))
    0.650 [0.445, 0.855]
    """
    from scipy.special import stdtrit

    known = np.asarray(values, np.float64)
    who = np.arange(len(known)) if patients is None else np.unique([str(p) for p in patients], return_inverse=True)[1]
    if len(who) != len(known):
        raise BadParameter("a patient for each query", f"{len(who)} for {len(known)}", "Give as many.")
    kept = ~np.isnan(known)
    if not kept.any():
        return Mean(math.nan, math.nan, math.nan, 0, 0)
    _, who = np.unique(who[kept], return_inverse=True)
    sums, counts = np.bincount(who, known[kept]), np.bincount(who)
    m, mean = len(sums), float(sums.sum() / counts.sum())
    if m < FEWEST:
        return Mean(mean, math.nan, math.nan, int(counts.sum()), m)
    without = (sums.sum() - sums) / (counts.sum() - counts)
    half = float(stdtrit(m - 1, 0.975)) * math.sqrt((m - 1) / m * float(((without - without.mean()) ** 2).sum()))
    return Mean(mean, max(within[0], mean - half), min(within[1], mean + half), int(counts.sum()), m)


def _columns(a: Numbers, b: Numbers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise BadParameter("two columns (n,) of one length", f"shapes {x.shape} and {y.shape}", "Give a value for each case.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise BadParameter("finite numbers", "NaN or infinity", "Leave those cases out.")
    return x, y


def _top(k: int | None, n: int) -> int:
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
        raise BadParameter("k is a whole number of at least 1", repr(k), "Say how many count.")
    return n if k is None else min(k, n)
