"""Is it how a sequence was scaled? Whether its level alone tells the labels apart, and what is left once all images are brought to one level."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pellucid.effects.scoring import inside
from pellucid.effects.ways import Floats
from pellucid.image import Image
from pellucid.intervals import Interval, auc, statistic

EMPTY = 0.01  # share of samples of exactly 0, from which these are no tissue
CARRIED = 0.1  # share of the classes' difference that must go with the level, below which it is no finding
FAR = 10.0  # beyond it a share says no more than that the classes hardly differ


@dataclass(frozen=True)
class Level:
    """A sequence's level against the labels: the AUC of its median (or of its quartiles' distance, whichever tells more), and the share of the score's
    difference between the labels that goes once all images have one level."""

    sequence: str
    trait: str
    tells: Interval
    carried: Interval

    @property
    def flagged(self) -> bool:
        """Whether the level tells the labels apart, and the network's score goes with it, both beyond their intervals."""
        apart = self.tells.low > 0.5 or self.tells.high < 0.5
        return apart and self.carried.low > 0 and self.carried.value >= CARRIED


def level(image: Image, group: Sequence[int]) -> tuple[float, float]:
    """Median and distance of the quartiles of a sequence's tissue: all samples but padding and, where there are many, exact zeros."""
    x = image.values[list(group)]
    values = x[tissue(image, group)].double()
    q = torch.quantile(values[:: max(1, len(values) // 1_000_000)], torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    return float(q[1]), float(q[2] - q[0])


def tissue(image: Image, group: Sequence[int]) -> Tensor:
    """The samples of these channels that are tissue: (len(group), *space)."""
    x = image.values[list(group)]
    where = inside(image).expand(x.shape)
    zero = x == 0
    return where & ~zero if EMPTY < float(zero.double().mean()) < 1 else where


def leveled(image: Image, group: Sequence[int], own: tuple[float, float], goal: tuple[float, float]) -> Tensor:
    """The image's values with a sequence's tissue brought to another median and distance of quartiles."""
    out = image.values.clone()
    x, where = out[list(group)], tissue(image, group)
    scale = goal[1] / own[1] if own[1] > 0 else 1.0
    out[list(group)] = torch.where(where, (x - own[0]) * scale + goal[0], x)
    return out


def judge(name: str, levels: Floats, scores: Floats, after: Floats, labels: Floats, patients: Sequence[Hashable] | None) -> Level:
    """A sequence's levels (n, 2) and scores before and after leveling, against labels of 0 and 1."""
    told = [auc(levels[:, k], labels, patients) for k in range(2)]
    best = int(abs(told[1].value - 0.5) > abs(told[0].value - 0.5))

    def share(s: Floats, a: Floats, y: Floats) -> float:
        if not 0 < y.mean() < 1:
            return math.nan
        gap = s[y > 0.5].mean() - s[y <= 0.5].mean()
        left = a[y > 0.5].mean() - a[y <= 0.5].mean()
        return float(np.clip(1 - left / gap, -FAR, FAR)) if gap else math.nan

    carried = statistic((scores, after, labels), share, patients, within=(-FAR, FAR), mean=True)
    return Level(name, ("median", "quartiles' distance")[best], told[best], carried)
