"""Spectral clustering as SpRAy does it: distances, sparse neighbors, the normalized Laplacian, its gap, groups, and how stable they are."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]
Distance = Literal["euclidean", "correlation"]
By = Literal["k-means", "agglomerative"]
MOST = 10  # clusters that the gap may ask for


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The lowest eigenvalues of the Laplacian, ascending, and their eigenvectors (n, m)."""

    values: Rows
    vectors: Rows

    @property
    def gap(self) -> int:
        """How many clusters the widest step between neighboring eigenvalues asks for."""
        return int(np.diff(self.values).argmax()) + 1

    def groups(self, k: int, by: By, seed: int) -> Labels:
        """Labels 0..k-1 from the first k eigenvectors, each row scaled to length 1 (Ng, Jordan and Weiss 2002), largest group first."""
        if k == 1:
            return np.zeros(len(self.vectors), dtype=np.int64)
        from sklearn.cluster import AgglomerativeClustering, KMeans

        at = self.vectors[:, :k]
        at = at / np.linalg.norm(at, axis=1, keepdims=True).clip(1e-12)
        maker = KMeans(k, n_init=8, random_state=seed) if by == "k-means" else AgglomerativeClustering(k)
        found = maker.fit_predict(at)
        order = np.argsort(-np.bincount(found, minlength=k), kind="stable")
        return np.argsort(order)[found].astype(np.int64)


def distances(rows: Rows, how: Distance = "euclidean") -> Rows:
    """(n, n): Euclidean, or 1 - r (a correlation is no distance: Lapuschkin's script passes r itself, by which the least alike are neighbors)."""
    if how == "correlation":
        rows = rows - rows.mean(1, keepdims=True)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-300)
        return np.clip(1 - rows @ rows.T, 0, 2)
    square = (rows**2).sum(1)
    return np.sqrt(np.clip(square[:, None] + square[None] - 2 * rows @ rows.T, 0, None))


def affinity(apart: Rows, neighbors: int) -> Rows:
    """(n, n) of 0 and 1: 1 where either is among the other's nearest; none is a neighbor of itself."""
    n = len(apart)
    k = min(neighbors, n - 1)
    away = apart.copy()
    np.fill_diagonal(away, np.inf)
    near = np.argsort(away, axis=1, kind="stable")[:, :k]
    found = np.zeros((n, n))
    found[np.arange(n)[:, None], near] = 1
    return np.maximum(found, found.T)


def spectrum(near: Rows, most: int = MOST) -> Spectrum:
    """Of the symmetric normalized Laplacian I - D^-1/2 A D^-1/2, its lowest ``most`` + 1 eigenvalues."""
    from scipy.linalg import eigh

    root = 1 / np.sqrt(near.sum(1).clip(1e-12))
    laplacian = np.eye(len(near)) - root[:, None] * near * root[None]
    values, vectors = eigh(laplacian, subset_by_index=[0, min(most, len(near) - 1)])
    return Spectrum(values.clip(0), vectors)


def stability(
    rows: Rows, labels: Labels, patients: Sequence[Hashable], how: Distance, by: By, neighbors: int, draws: int, seed: int
) -> tuple[float, list[float]]:
    """Adjusted Rand index of the clustering with those of bootstrap samples, and each cluster's Jaccard index with the group that is most like it.

    Patients are drawn with replacement, their maps clustered anew into as many groups; a map drawn twice counts once, or it would be its own
    neighbor (Hennig 2007, Computational Statistics and Data Analysis 52:258).
    """
    from sklearn.metrics import adjusted_rand_score

    k = int(labels.max()) + 1
    chance = np.random.default_rng(seed)
    who: dict[Hashable, list[int]] = {}
    for i, p in enumerate(patients):
        who.setdefault(p, []).append(i)
    groups = list(who.values())
    rand, jaccard = [], np.full((draws, k), np.nan)
    for d in range(draws):
        drawn = np.unique(chance.integers(0, len(groups), len(groups)))
        at = np.asarray(sorted(i for g in drawn for i in groups[g]))
        if len(at) <= k + 1:
            continue
        near = affinity(distances(rows[at], how), max(1, round(neighbors * len(at) / len(rows))))
        new = spectrum(near, max(k, 2)).groups(k, by, seed + d)
        rand.append(adjusted_rand_score(labels[at], new))
        for c in range(k):
            own = labels[at] == c
            if own.any():
                jaccard[d, c] = max((own & (new == g)).sum() / (own | (new == g)).sum() for g in range(k))
    means = [float(np.nanmean(j)) if not np.isnan(j).all() else float("nan") for j in jaccard.T]
    return (float(np.mean(rand)) if rand else float("nan")), means
