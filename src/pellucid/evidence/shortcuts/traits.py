"""What is compared between maps: a row of numbers for each map, from exact places to none at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.explanation import Map
from pellucid.ops.blur import gaussian

Rows = NDArray[np.float64]
Features = Literal["grid", "pooled", "aligned", "radial", "histogram", "channels"]
Part = Literal["signed", "positive", "absolute"]
FINE, COARSE = {2: 32, 3: 16}, {2: 8, 3: 6}  # cells along an axis
RINGS, LEVELS = 16, 32


def rows(maps: Sequence[Map | Tensor], features: Features | Callable[[Any], Any] = "grid", part: Part = "signed") -> Rows:
    """One row for each map, of length 1: (n, d). Rows of maps without anything in them are zero.

    ``grid``: relevance on the image, summed over channels, averaged in 32 cells along each axis (16 in volumes). ``pooled``: blurred first, in
    8 (6) cells: forgives small shifts. ``aligned``: the grid moved so that its (blurred) peak lies in the middle: the same mark anywhere is the
    same. ``radial``: mass for and against in rings around the center of mass, in the patient's lengths: places and turns do not matter.
    ``histogram``: sorted values; no place at all. ``channels``: relevance of each channel of a hidden site. A function of the map may give
    any row: bins of an atlas, sums by region.
    """
    found = [np.asarray(features(m), dtype=np.float64).ravel() if callable(features) else _row(m, features, part) for m in maps]
    if len({len(r) for r in found}) > 1:
        raise BadParameter("rows of one length for all maps", f"{sorted({len(r) for r in found})}", "Use one site and one function.")
    table = np.stack(found)
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    return np.divide(table, norms, out=np.zeros_like(table), where=norms > 0)


def relevance(given: Map | Tensor) -> tuple[Tensor, tuple[float, ...]]:
    """Relevance (*space) in float64 on the image's grid, of mass 1 in all, and the spacing.

    Raises:
        BadParameter: a map without spatial extent, or with values that are no numbers.
    """
    if isinstance(given, Map):
        grid = given.image.grid
        if given.values.ndim != 1 + grid.ndim:
            raise BadParameter("maps with spatial extent", f"{tuple(given.values.shape)}", "Use features='channels', or another site.")
        values, spacing = given.on(grid).relevance.double(), grid.spacing
    else:
        values, spacing = given.detach().cpu().double().sum(0), (1.0,) * (given.ndim - 1)
    if not bool(torch.isfinite(values).all()):
        raise BadParameter("maps of finite values", "NaN or infinity", "Leave that map out.")
    total = values.abs().sum()
    return (values / total if total > 0 else values), spacing


def taken(values: Tensor, part: Part) -> Tensor:
    """The part of a map that counts."""
    if part == "positive":
        return values.clamp_min(0)
    return values.abs() if part == "absolute" else values


def cells(values: Tensor, most: dict[int, int]) -> Tensor:
    """Means in at most so many cells along each axis: (*cells)."""
    space = tuple(min(n, most[values.ndim]) for n in values.shape)
    pool = F.adaptive_avg_pool2d if values.ndim == 2 else F.adaptive_avg_pool3d
    return pool(values[None], space)[0]  # type: ignore[arg-type]


def _row(given: Map | Tensor, features: Features, part: Part) -> Rows:
    if features == "channels":
        values = given.values if isinstance(given, Map) else given
        if len(values) < 2:
            raise BadParameter(
                "maps of a site with several channels", f"{tuple(values.shape)}", "Explain with site=, by a method that keeps channels."
            )
        return taken(values.detach().cpu().double().flatten(1).sum(1), part).numpy()
    values, spacing = relevance(given)
    if features == "radial":
        return _rings(taken(values, part), spacing)
    values = taken(values, part)
    if features == "histogram":
        return np.quantile(values.numpy().ravel(), np.linspace(0, 1, LEVELS))
    if features == "pooled":
        width = min(n * s for n, s in zip(values.shape, spacing, strict=True)) / (2 * COARSE[values.ndim])
        return cells(gaussian(values[None], [width / s for s in spacing])[0], COARSE).numpy().ravel()
    pooled = cells(values, FINE)
    return (_moved(pooled) if features == "aligned" else pooled).numpy().ravel()


def _moved(values: Tensor) -> Tensor:
    """The grid with its peak in the middle; what leaves it is lost, what comes in is 0."""
    peak = np.unravel_index(int(gaussian(values.abs()[None], [1.0] * values.ndim, "zero")[0].argmax()), tuple(values.shape))
    wide = F.pad(values, [n for n in reversed(values.shape) for _ in range(2)])
    cut = tuple(slice(n + int(p) - n // 2, n + int(p) - n // 2 + n) for n, p in zip(values.shape, peak, strict=True))
    return wide[cut]


def _rings(values: Tensor, spacing: Sequence[float]) -> Rows:
    """Positive and negative mass by distance from the center of |mass|, in rings as wide as a share of the image's diagonal."""
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) * s for n, s in zip(values.shape, spacing, strict=True)], indexing="ij")
    mass = values.abs() / values.abs().sum().clamp_min(1e-300)
    far = torch.stack([(a - (a * mass).sum()) ** 2 for a in axes]).sum(0).sqrt()
    reach = math.sqrt(sum((n * s) ** 2 for n, s in zip(values.shape, spacing, strict=True))) / 2
    ring = (far / reach * RINGS).long().clamp(max=RINGS - 1).flatten()
    sides = [values.clamp_min(0), values.clamp_max(0)]
    return torch.cat([torch.zeros(RINGS, dtype=torch.float64).index_add_(0, ring, v.flatten()) for v in sides]).numpy()
