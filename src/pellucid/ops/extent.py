"""Where a region lies and how far it reaches, measured on its mass."""

from __future__ import annotations

import torch
from torch import Tensor


def center_and_extent(mass: Tensor, share: float = 0.95) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Center of |mass| (*space) as an index, and per axis the length in samples that holds ``share`` of it, equal tails left out.

    Each sample's mass is spread over its own width, so that a single sample has an extent of ``share`` samples. A region without mass
    has its center in the middle and no extent.
    """
    weight = mass.detach().cpu().double().abs()
    total = float(weight.sum())
    if total == 0:
        return tuple((n - 1) / 2 for n in mass.shape), (0.0,) * mass.ndim
    center, extent = [], []
    for axis, n in enumerate(mass.shape):
        along = weight.movedim(axis, 0).flatten(1).sum(1) / total
        center.append(float((along * torch.arange(n)).sum()))
        edges = torch.cat([torch.zeros(1, dtype=torch.float64), along.cumsum(0)])
        extent.append(_reach(edges, (1 + share) / 2) - _reach(edges, (1 - share) / 2))
    return tuple(center), tuple(extent)


def _reach(edges: Tensor, level: float) -> float:
    """Where a rising line through ``edges`` (at 0, 1, 2, ...) comes to ``level``."""
    after = int(torch.searchsorted(edges, level).clamp(1, len(edges) - 1))
    low, high = float(edges[after - 1]), float(edges[after])
    return after - 1 + (level - low) / (high - low)
