"""Gray-level co-occurrence (GLCM) in any number of dimensions: which levels lie side by side, in all directions, and what IBSI reads from it."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadParameter

Floats = NDArray[np.float64]
Over = Literal["average", "merged"]


def directions(ndim: int) -> list[tuple[int, ...]]:
    """One of each pair of opposite neighbors: 4 directions in 2D, 13 in 3D.

    >>> len(directions(2)), len(directions(3))
    (4, 13)
    """
    return [d for d in itertools.product((-1, 0, 1), repeat=ndim) if d > (0,) * ndim]


def glcm(levels: NDArray[np.int64], distance: int = 1, most: int | None = None) -> Floats:
    """How often two gray levels lie ``distance`` samples apart: counts (directions, g, g), symmetric.

    Args:
        levels: gray levels 1..g (*space); 0 is outside of the region, and pairs with it do not count.
        distance: in samples, along each direction (a diagonal's is longer).
        most: g; None: the highest level there is.

    **Source**: IBSI 3.6; Haralick et al. 1973. Equal to ``skimage.feature.graycomatrix(symmetric=True)`` in 2D.

    >>> glcm(np.array([[1, 1], [2, 2]]))[directions(2).index((0, 1))]
    array([[2., 0.],
           [0., 2.]])
    """
    g = int(levels.max()) if most is None else most
    if g < 1 or int(levels.min()) < 0 or int(levels.max()) > g:
        raise BadParameter("gray levels from 1, 0 outside", f"{levels.min()} to {levels.max()}", "Make them with discretized(...).")
    if isinstance(distance, bool) or not isinstance(distance, int) or distance < 1:
        raise BadParameter("distance is a whole number of samples from 1", repr(distance), "Write 1.")
    steps = directions(levels.ndim)
    found = np.zeros((len(steps), g, g))
    for k, step in enumerate(steps):
        one, other = (levels[tuple(_part(n, s * d * distance) for n, d in zip(levels.shape, step, strict=True))] for s in (1, -1))
        both = (one > 0) & (other > 0)
        counts = np.bincount((one[both] - 1) * g + other[both] - 1, minlength=g * g).reshape(g, g)
        found[k] = counts + counts.T
    return found


def _part(n: int, step: int) -> slice:
    """The samples that have a neighbor so far behind (or, of a negative step, ahead)."""
    return slice(max(step, 0), max(0, n + min(step, 0)))


def texture(counts: Floats, over: Over = "average") -> dict[str, float]:
    """What a co-occurrence says: contrast, entropy, correlation and the others of IBSI 3.6.

    Args:
        counts: (directions, g, g), from ``glcm``.
        over: ``average``: of each direction's features; ``merged``: of the sum over directions. Directions without a pair count for nothing.

    ``inverse_difference_moment`` is scikit-image's homogeneity, the root of ``angular_second_moment`` its energy.

    Raises:
        BadParameter: no two samples of the region are neighbors.
    """
    known = counts[counts.sum((1, 2)) > 0]
    if not len(known):
        raise BadParameter("a region with neighbors", "none side by side", "Leave that image out, or take a smaller distance.")
    if over == "merged":
        return _read(known.sum(0))
    each = [_read(c) for c in known]
    return {name: float(np.mean([e[name] for e in each])) for name in each[0]}


def _read(counts: Floats) -> dict[str, float]:
    p = counts / counts.sum()
    g = len(p)
    level = np.arange(1.0, g + 1)
    i, j = level[:, None], level[None]
    apart, together = np.abs(i - j), i + j
    mean = float((i * p).sum())
    variance = float(((i - mean) ** 2 * p).sum())
    difference = np.bincount(apart.astype(int).ravel(), p.ravel(), g).astype(np.float64)
    total = np.bincount(together.astype(int).ravel() - 2, p.ravel(), 2 * g - 1).astype(np.float64)
    d, s = np.arange(g), np.arange(2, 2 * g + 1)
    d_mean, s_mean = float((d * difference).sum()), float((s * total).sum())
    side = p.sum(0)
    joint, alone = _bits(p), _bits(side)
    return {
        "joint_maximum": float(p.max()),
        "joint_average": mean,
        "joint_variance": variance,
        "joint_entropy": joint,
        "difference_average": d_mean,
        "difference_variance": float(((d - d_mean) ** 2 * difference).sum()),
        "difference_entropy": _bits(difference),
        "sum_average": s_mean,
        "sum_variance": float(((s - s_mean) ** 2 * total).sum()),
        "sum_entropy": _bits(total),
        "angular_second_moment": float((p**2).sum()),
        "contrast": float((apart**2 * p).sum()),
        "dissimilarity": float((apart * p).sum()),
        "inverse_difference": float((p / (1 + apart)).sum()),
        "inverse_difference_moment": float((p / (1 + apart**2)).sum()),
        "correlation": (float((i * j * p).sum()) - mean**2) / variance if variance > 0 else 1.0,
        "autocorrelation": float((i * j * p).sum()),
        "cluster_tendency": float(((together - 2 * mean) ** 2 * p).sum()),
        "cluster_shade": float(((together - 2 * mean) ** 3 * p).sum()),
        "cluster_prominence": float(((together - 2 * mean) ** 4 * p).sum()),
        **_information(p, side, joint, alone),
    }


def _information(p: Floats, side: Floats, joint: float, alone: float) -> dict[str, float]:
    """IBSI R8DG and JN9H; one level all over has neither order nor doubt: 0 and 0."""
    product = side[:, None] * side[None]
    seen = product > 0
    first = float(-(p[seen] * np.log2(product[seen])).sum())
    second = float(-(product[seen] * np.log2(product[seen])).sum())
    return {
        "information_correlation_1": (joint - first) / alone if alone > 0 else 0.0,
        "information_correlation_2": float(np.sqrt(max(0.0, 1 - np.exp(-2 * (second - joint))))),
    }


def _bits(share: Floats) -> float:
    kept = share[share > 0]
    return float(-(kept * np.log2(kept)).sum()) + 0.0
