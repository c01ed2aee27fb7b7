"""Is a concept more than a random set of images? Every set takes the concept's role once, and the concept's place among them is its p."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pellucid.concepts.directions import Direction, Floats, cav

SETS = 19  # random sets that p = 0.05 takes


@dataclass(frozen=True, eq=False)
class Cavs:
    """Directions of every set against every other one. ``vectors`` (pairs, r) for i < j in order; ``apart``: how far their means lie from each
    other along it."""

    vectors: Floats
    apart: Floats
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    sets: int

    def mean(self, i: int) -> Floats:
        """The direction of set ``i``: the mean over those against all others, of length 1."""
        sign = (self.first == i) * 1.0 - (self.second == i)
        v = sign @ self.vectors
        length = float(np.linalg.norm(v))
        return v / length if length > 0 else v


def cavs(rows: Floats, sets: Sequence[NDArray[np.int64]], direction: Direction, seed: int, heard: Callable[[], None] | None = None) -> Cavs:
    """Directions between all pairs of sets (indices into ``rows`` (n, r)); ``heard`` is called between fits, to cancel."""
    k = len(sets)
    first, second = np.triu_indices(k, 1)
    means = np.stack([rows[s].mean(0) for s in sets])
    gap = means[first] - means[second]
    if direction == "pattern":
        apart = np.linalg.norm(gap, axis=1)
        return Cavs(gap / np.where(apart > 0, apart, 1.0)[:, None], apart, first, second, k)
    vectors = np.empty_like(gap)
    for n, (i, j) in enumerate(zip(first, second, strict=True)):
        vectors[n] = cav(rows[sets[int(i)]], rows[sets[int(j)]], direction, seed)
        if heard is not None and n % 16 == 0:
            heard()
    return Cavs(vectors, (gap * vectors).sum(1), first, second, k)


@dataclass(frozen=True, eq=False)
class Weighed:
    """What the sets do in the concept's role, the concept first: (k,) each.

    ``score``: share of images whose score rises along the direction, mean over counterparts; ``sensitivity``: mean directional derivative;
    ``effect``: mean derivative times the distance of the sets. ``pairs`` (k, k): score of i against j. ``each`` (images, k - 1): the
    concept's sensitivities, one column a counterpart.
    """

    score: Floats
    sensitivity: Floats
    effect: Floats
    pairs: Floats
    each: Floats

    @property
    def p(self) -> float:
        return rank(self.score, self.effect)


def weigh(found: Cavs, slopes: Floats) -> Weighed:
    """Scores of all sets from the gradients (images, r) of the class's images: one matrix product."""
    s = slopes @ found.vectors.T
    k, n = found.sets, max(1, found.sets - 1)
    tables = []
    for up, down in (((s > 0).mean(0), (s < 0).mean(0)), (s.mean(0), -s.mean(0)), (s.mean(0) * found.apart, -s.mean(0) * found.apart)):
        table = np.zeros((k, k))
        table[found.first, found.second], table[found.second, found.first] = up, down
        tables.append(table)
    own = s[:, found.first == 0]
    return Weighed(tables[0].sum(1) / n, tables[1].sum(1) / n, tables[2].sum(1) / n, tables[0], own)


def rank(scores: Floats, effects: Floats | None = None) -> float:
    """Exact two-sided p of the first among all, each as far from the middle as it is; sets that are equally far are told apart by ``effects``.

    (1 + sets at least as extreme) / (1 + sets). If the concept is drawn like the random sets, all orders are equally likely, whatever the network:
    each set is held against all others, the concept among them.
    """
    far = np.abs(scores - scores.mean())
    size = np.abs(effects) if effects is not None else np.zeros_like(far)
    tie = np.abs(far - far[0]) <= 1e-12
    beyond = (far > far[0] + 1e-12) | (tie & (size >= size[0] * (1 - 1e-12)))
    beyond[0] = True
    return float(beyond.sum() / len(scores))


def classical(pairs: Floats) -> float:
    """p of TCAV's own t-test: scores of the concept against each random set, and of each random set against each other one.

    It takes runs that share their images for independent ones, and rejects far too often; shown for comparison alone.
    """
    from scipy.stats import ttest_ind

    k = len(pairs)
    concept = pairs[0, 1:]
    null = pairs[1:, 1:][~np.eye(k - 1, dtype=bool)]
    if len(null) < 2 or len(concept) < 2:
        return math.nan
    if float(np.ptp(concept)) == 0 and float(np.ptp(null)) == 0:
        return 1.0 if concept[0] == null[0] else 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scores that are almost all alike
        return float(ttest_ind(null, concept).pvalue)


def bonferroni(p: Sequence[float]) -> list[float]:
    """p values times their number."""
    n = sum(not math.isnan(v) for v in p)
    return [v if math.isnan(v) else min(1.0, v * n) for v in p]


def share_interval(shares: Floats, patients: Sequence[object] | None) -> tuple[float, float]:
    """95 % interval of a mean share over images, a patient counting once (Wilson 1927); NaN where there is none."""
    who = list(range(len(shares))) if patients is None else list(patients)
    n = len(set(who))
    if n < 3:
        return math.nan, math.nan
    z, p = 1.959964, float(np.mean(shares))
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)
