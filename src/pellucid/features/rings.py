"""Rings around a center, in the grid's unit: mean values from the middle outwards, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from pellucid.errors import BadParameter


class Lies(Protocol):
    """Where an image lies: what is needed of a Grid."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def world(self, index: Sequence[float]) -> tuple[float, ...]: ...
    def index(self, world: Sequence[float]) -> tuple[float, ...]: ...
    @property
    def matrix(self) -> object: ...


def distances(grid: Lies, center: Sequence[float]) -> Tensor:
    """Distance of each sample from a place of the world, (*space) float64, in the grid's unit."""
    ndim = len(grid.shape)
    matrix = torch.as_tensor(grid.matrix, dtype=torch.float64)
    away = matrix[:3, 3] - torch.tensor([*center, 0.0, 0.0][:3], dtype=torch.float64)
    away = away.expand(*grid.shape, 3).clone()
    for a, n in enumerate(grid.shape):
        steps = torch.arange(n, dtype=torch.float64).view([-1 if b == a else 1 for b in range(ndim)] + [1])
        away += steps * matrix[:3, a]
    return away.norm(dim=-1)


def middle(mask: Tensor, grid: Lies) -> tuple[float, ...]:
    """Center of mass of a mask (*space), a place of the world.

    Raises:
        BadParameter: an empty mask.
    """
    at = mask.nonzero().double()
    if not len(at):
        raise BadParameter("a mask that marks a center", "an empty one", "Leave that image out, or give center=.")
    return grid.world(at.mean(0).tolist())


def rings(values: Tensor, grid: Lies, center: Sequence[float], edges: Sequence[float], mask: Tensor | None = None) -> Tensor:
    """Mean of each channel in each ring, (c, rings) float64; NaN for a ring without a sample.

    Args:
        values: (c, *space).
        grid: where they lie.
        center: a place of the world (mm, or index on a plain raster).
        edges: rising radii; ring k holds the distances from ``edges[k]`` (with) to ``edges[k + 1]`` (without).
        mask: (*space), only where it is True.

    **Source**: the hand-made features of fundus photographs (mean intensity in concentric rings around the fovea) beside
    Narayanaswamy et al. 2020, MICCAI; here with lengths in mm and in 3D.

    Raises:
        BadParameter: radii that do not rise.
    """
    rising = [float(e) for e in edges]
    if len(rising) < 2 or rising[0] < 0 or any(b <= a for a, b in pairwise(rising)):
        raise BadParameter("radii that rise from 0 or more", repr(rising), "Write (0, 1, 2, 3).")
    ring = torch.bucketize(distances(grid, center), torch.tensor(rising, dtype=torch.float64), right=True) - 1
    count = len(rising) - 1
    kept = (ring >= 0) & (ring < count)
    kept = kept if mask is None else kept & mask.bool()
    which = ring[kept]
    sizes = torch.bincount(which, minlength=count).double()
    sums = torch.stack([torch.bincount(which, c[kept].double(), count) for c in values])
    return torch.where(sizes > 0, sums / sizes.clamp_min(1), torch.nan)
