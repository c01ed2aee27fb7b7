"""Earth mover's distance between relevance and mask."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.evidence.localization.placing import Found, Mass, judged, mask_of, say
from pellucid.evidence.metric import MASK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.grid import Grid
from pellucid.method import Cite
from pellucid.params import Count

Floats = NDArray[np.float64]


@metric(
    cite=Cite("Clark, Wilming, Haufe", 2024, "XAI-TRIS: non-linear image benchmarks to test false positive attribution of feature importance", "Machine Learning", "2306.12816"),
    unit="0 to 1",
    better="up",
    reference="relevance spread evenly",
    needs=MASK,
)  # fmt: skip
def emd(panel: Panel, *, of: Mass = "positive", cells: Count = 256) -> dict[str, Measurement]:
    """How near the relevance lies to the mask: 1 less the mean way that it must travel to become the mask, over the longest way in the image.

    ``1 - EMD(a / sum a, M / |M|) / D``: EMD the least mean distance over all ways of moving the one into the other, D the distance of the
    farthest samples. Unlike an overlap it tells a near miss from a far one. ``detail["distance"]`` is the EMD itself, in mm where spacing is known.

    Args:
        of: ``positive`` relevance or ``absolute`` values.
        cells: both are summed in about so many equal cells (square in the patient), between whose centers the optimum is exact; what moves
            within a cell is not seen.

    **Misleads when**: the mask lies in the middle: an even map is then near as well (the reference). It says nothing of signs.
    **Source**: Clark et al. 2024, section 3.4 (theirs: absolute values, samples instead of cells). The optimum is a linear program (HiGHS); relevance that
    lies right already stays, which changes no optimum under a metric.
    """
    number = partial(_found, grid=panel.grid, cells=cells, goal=cache(partial(_goal, mask_of(panel), panel.grid, cells)))
    return judged(panel, of, number, unit="0 to 1", better="up", against="relevance spread evenly")


def _goal(mask: Tensor, grid: Grid, cells: int) -> tuple[Floats, Floats, float]:
    """The mask's shares in cells, the cells' centers, and the way to it from relevance spread evenly: the same for all maps."""
    there, centers = _sums(mask.double(), grid, cells)
    return there, centers, moved(_sums(torch.ones_like(mask, dtype=torch.float64), grid, cells)[0], there, centers)


def _found(a: Tensor, mask: Tensor, grid: Grid, cells: int, goal: Callable[[], tuple[Floats, Floats, float]]) -> Found:
    there, centers, even = goal()
    value = moved(_sums(a, grid, cells)[0], there, centers)
    longest = math.dist([0.0] * grid.ndim, [(n - 1) * s for n, s in zip(grid.shape, grid.spacing, strict=True)])
    text = f"Relevance lies {say(grid, value)} from the mask on average; spread evenly it would lie {say(grid, even)} from it."
    return Found(1 - value / longest, 1 - even / longest, text, a, {"distance": value, "longest": longest, "cells": len(centers)})


def _sums(values: Tensor, grid: Grid, cells: int) -> tuple[Floats, Floats]:
    """Shares of the values (*space) in equal cells, (k,), and where the cells have their centers, (k, d), in the grid's unit."""
    extent = [n * s for n, s in zip(grid.shape, grid.spacing, strict=True)]
    edge = (math.prod(extent) / cells) ** (1 / grid.ndim)
    out, places = values.numpy(), []
    for axis, (n, s, e) in enumerate(zip(grid.shape, grid.spacing, extent, strict=True)):
        k = max(1, min(n, round(e / edge)))
        starts = (np.arange(k) * n) // k
        out = np.add.reduceat(out, starts, axis=axis)
        places.append(s * (starts + np.append(starts[1:], n) - 1) / 2)
    flat = out.ravel()
    return flat / flat.sum(), np.stack([p.ravel() for p in np.meshgrid(*places, indexing="ij")], 1)


def moved(a: Floats, b: Floats, places: Floats) -> float:
    """The least mean distance by which shares (k,) at places (k, d) become other shares, both of sum 1."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_matrix
    from scipy.spatial.distance import cdist

    excess = a - b
    source, sink = np.flatnonzero(excess > 1e-12), np.flatnonzero(excess < -1e-12)
    if not len(source) or not len(sink):
        return 0.0
    give, take = excess[source], -excess[sink]
    take = take * (give.sum() / take.sum())
    n, m = len(source), len(sink)
    at = np.arange(n * m)
    rows = np.concatenate([at // m, n + at % m])
    ways = coo_matrix((np.ones(2 * n * m), (rows, np.concatenate([at, at])))).tocsr()
    found = linprog(cdist(places[source], places[sink]).ravel(), A_eq=ways, b_eq=np.concatenate([give, take]), method="highs")
    return float(found.fun) if found.success else math.nan
