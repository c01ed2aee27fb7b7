"""Repeatability: would another scan of the same patient give this map?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pellucid.baseline import one_or_each, samples
from pellucid.evidence.metric import MAPS_ANEW, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.robustness.agreement import GOOD, POOR, Likeness, Sums, inner, judged, mean, word
from pellucid.evidence.robustness.changes import anew, foreign, remade
from pellucid.explanation import Measurement
from pellucid.intervals import average
from pellucid.method import Cite
from pellucid.ops.resample import pull
from pellucid.params import Count, Distance, Reach, Weight

NAME = "repeatability"
AGAINST = f"maps without relation; from {GOOD} good, below {POOR} poor"


@dataclass
class Repeats:
    """What replicates of one image said of one map."""

    alike: list[Likeness] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)


@metric(
    cite=Cite("Arun, Gaw, Singh, Chang, Aggarwal, Chen, et al.", 2021, "Assessing the trustworthiness of saliency maps for localizing abnormalities in medical imaging", "Radiology: Artificial Intelligence", "2008.02766"),
    unit="rank correlation",
    better="up",
    reference=f"0, {AGAINST}",
    needs=MAPS_ANEW,
    price=lambda scans, **_: Price(anew=scans),
    random=True,
)  # fmt: skip
def repeatability(panel: Panel, *, noise: Weight = 0.02, shift: Reach = "0.5px", scans: Count = 5) -> dict[str, Measurement]:
    """How alike the map is to those of scans that a scanner might have given as well: a part of a voxel further, with other noise.

    The mean over replicates of the rank correlation (*space) between the map and the replicate's, moved back. A replicate is the image read
    at places moved by up to ``shift`` along each axis (linear), with Gaussian noise; a rim as wide as the shift is left out. SSIM (maps
    scaled to [0, 1]) and ICC(2,1) over all of these maps are in the detail. The interval is that of the mean over replicates.

    Args:
        noise: standard deviation as a share of the value range; 0 for none.
        shift: farthest move along each axis, uniform; half a sample is what a patient's place in the scanner leaves open. 0 for none.
        scans: replicates, the same for all maps.

    **Misleads when**: real replicates differ by more (breath, contrast, coils; give them to ``replicates``); a map that ignores the image
        repeats best; reading between samples blurs the image a little.
    **Source**: repeatability of Arun et al. 2021, there SSIM between retrained networks; the limits are those of Koo and Li 2016 for the ICC.
    """
    assert isinstance(shift, Distance)
    reach = [s if shift.value > 0 else 0.0 for s in samples(shift, panel.grid)] if shift.value > 0 else [0.0] * panel.grid.ndim
    moves = _moves(panel, reach, scans)
    margin = [math.ceil(r) for r in reach]
    found = {n: Repeats() for n in remade(panel)}
    for name, r in found.items():
        r.sums.add(inner(panel.relevance(name), margin))
    for move, maps in zip(moves, anew(panel, _replicates(panel, moves, noise)), strict=True):
        for name, there in maps.items():
            own, back = inner(panel.relevance(name), margin), inner(_read(there[None], [-m for m in move])[0], margin)
            found[name].alike.append(Likeness.of(own, back))
            found[name].sums.add(back)
    settings: dict[str, object] = {"noise": one_or_each(noise * panel.setting.width), "shift": reach}
    return {
        n: told(NAME, "another scan", found[n], 0.0, AGAINST, settings) if n in found else foreign(NAME, "rank correlation", "up")
        for n in panel.names
    }


def told(name: str, what: str, found: Repeats, level: float, against: str, settings: dict[str, object]) -> Measurement:
    """The measurement of a map's repeats; ``what`` says in words what they are of."""
    ranks = [a.rank for a in found.alike]
    over = average(ranks, within=(-1.0, 1.0))
    detail = {"rank_correlations": ranks, "ssim": mean([a.ssim for a in found.alike]), "icc": found.sums.icc, **settings}
    text = f"The map of {what} agrees {word(over.value)} with this one: rank correlation {over.value:.2f}, SSIM {detail['ssim']:.2f}, ICC {found.sums.icc:.2f}."
    return judged(name, over.value, over.low, over.high, text, level, against, detail)


def _moves(panel: Panel, reach: Sequence[float], scans: int) -> list[list[float]]:
    """How far each replicate lies from the image along each axis, in samples."""
    draws = 2 * torch.rand((scans, len(reach)), generator=panel.chance("repeatability: shift"), dtype=torch.float64) - 1
    return [[float(d) * r for d, r in zip(row, reach, strict=True)] for row in draws]


def _replicates(panel: Panel, moves: Sequence[Sequence[float]], noise: float) -> Iterator[Tensor]:
    chance = panel.chance("repeatability: noise")
    spread = noise * panel.setting.width
    for move in moves:
        drawn = torch.randn(panel.x.shape, generator=chance, dtype=torch.float64)
        yield (_read(panel.x.cpu(), move).double() + spread * drawn).to(panel.x)


def _read(values: Tensor, move: Sequence[float]) -> Tensor:
    """Values (c, *space) read ``move`` samples further along each axis; beyond the rim the rim."""
    if not any(move):
        return values
    matrix = np.eye(len(move) + 1)
    matrix[:-1, -1] = move
    return pull(values, tuple(values.shape[1:]), matrix)
