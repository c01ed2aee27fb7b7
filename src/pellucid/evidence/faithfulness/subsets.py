"""Random subsets of an image's parts: taken away once for all maps, and what each map says that they are worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.baseline import Starts
from pellucid.evidence.panel import Panel
from pellucid.evidence.patches import Patches
from pellucid.intervals import Floats, Interval, statistic

Parts = Literal["patches", "samples"]
STILL = 1e-6  # of the scores: a smaller spread is rounding
FLAT = 1e-9  # of a map's largest sum: a smaller spread is rounding


def neutral(panel: Panel, fill: Starts | None) -> Tensor:
    """What stands for absence, (c, *space): a baseline's first image, or the blurred copy."""
    return panel.blurred if fill is None else panel.fill(fill)


def parts_of(panel: Panel, parts: Parts) -> Patches:
    """The image's parts: about 256 (2D) or 512 (3D) equal patches, or its samples; all channels of a part go together."""
    if parts == "patches":
        return Patches.of(panel.grid, panel.x.cpu(), panel.blurred.cpu(), panel.setting.unit)
    every = torch.arange(math.prod(panel.grid.shape))
    return Patches(every.view(panel.grid.shape), panel.grid.shape, every)


def drawn(panel: Panel, parts: Parts, count: int, size: int, subsets: int) -> Iterator[Tensor]:
    """Subsets of ``size`` among ``count`` parts, as indices; the same ones each time they are asked for."""
    chance = panel.chance(f"subsets of {size} {parts}")
    for _ in range(subsets):
        yield torch.randperm(count, generator=chance)[:size]


def without(panel: Panel, parts: Parts, patches: Patches, size: int, subsets: int, fill: Starts | None) -> Floats:
    """The score without each subset, (subsets,): asked once for all maps, and for all metrics that draw such subsets."""

    def states() -> Iterator[Tensor]:
        absent = neutral(panel, fill)
        for gone in drawn(panel, parts, math.prod(patches.shape), size, subsets):
            yield patches.without(panel.x, absent, gone)

    return np.asarray(panel.known(f"without {subsets} subsets of {size} {parts}, fill {fill!r}", states))


def worth(panel: Panel, parts: Parts, patches: Patches, size: int, subsets: int) -> dict[str, Floats]:
    """For each map the relevance of each subset, (subsets,), summed over its samples in float64."""
    each = patches.index.flatten().bincount(minlength=math.prod(patches.shape)).double()
    sums = torch.stack([patches.mean(panel.relevance(n)) * each for n in panel.names])
    found = torch.stack([sums[:, gone].sum(1) for gone in drawn(panel, parts, sums.shape[1], size, subsets)], 1)
    return dict(zip(panel.names, found.numpy(), strict=True))


def pearson(a: Floats, b: Floats) -> float:
    """Correlation of two columns; NaN where one of them does not vary."""
    u, v = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(u @ u) * float(v @ v))
    return float(u @ v) / norm if norm > 0 else math.nan


def going_along(said: Sequence[Floats], lost: Sequence[Floats]) -> tuple[list[float], Interval]:
    """Correlation of each pair of columns, and their mean with its interval over rows."""
    sizes = len(said)

    def middle(*columns: Floats) -> float:
        return float(np.mean([pearson(a, b) for a, b in zip(columns[:sizes], columns[sizes:], strict=True)]))

    curve = [pearson(a, b) for a, b in zip(said, lost, strict=True)]
    return curve, statistic((*said, *lost), middle, within=(-1.0, 1.0))


def varies(values: Floats) -> bool:
    """Whether a map's sums differ by more than rounding."""
    return bool(np.isfinite(values).all() and np.ptp(values) > FLAT * np.abs(values).max())


def unmoved(scores: Floats) -> bool:
    """Whether the score stayed, whatever was taken away."""
    return bool(np.ptp(scores) <= STILL * np.abs(scores).max())


def nothing_in(relevance: Tensor) -> str:
    """Why a map cannot be measured, as a sentence; empty where it can."""
    if not bool(torch.isfinite(relevance).all()):
        return "The map holds values that are no numbers."
    if float(relevance.max()) == float(relevance.min()):
        return "The map is the same everywhere, so it marks nothing."
    return ""
