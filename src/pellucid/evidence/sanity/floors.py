"""Floors: how alike maps are that share nothing learned. What a randomized network's map is held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from torch import Tensor

from pellucid.evidence.panel import Panel
from pellucid.evidence.sanity.alike import Alike, Side
from pellucid.evidence.sanity.cascade import Stage
from pellucid.ops.edges import sobel

WAYS = ("signed", "absolute", "ssim", "hog")
# two-sided 95 % points of Student's t by degrees of freedom; beyond, by their expansion around the normal's (Cornish and Fisher 1938)
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval over draws (Student's t); NaN values are left out, and one draw has no interval."""
    v = [x for x in values if not math.isnan(x)]
    if not v:
        return math.nan, math.nan, math.nan
    mean, df = sum(v) / len(v), len(v) - 1
    if df == 0:
        return mean, math.nan, math.nan
    t = T95.get(df) or 1.95996 + 2.37227 / df + 2.82250 / df**2
    reach = t * math.sqrt(sum((x - mean) ** 2 for x in v) / df / len(v))
    return mean, mean - reach, mean + reach


def averaged(several: Sequence[Alike]) -> dict[str, float]:
    """Means in all four ways, and ``similarity``: that of the magnitude of the rank correlation, since a negative shows the same picture."""
    found = {w: interval([getattr(a, w) for a in several])[0] for w in WAYS}
    return {"similarity": interval([abs(a.signed) for a in several])[0], **found}


def floors(panel: Panel, name: str, own: Tensor, whole: Stage | None, images: Sequence[Tensor]) -> dict[str, dict[str, Any]]:
    """``networks``: maps of two independently randomized networks; ``edges``: the map and the image's edges; ``noise``: the map and noise;
    ``images``: the network's maps of different images, of all pairs (Arun et al. 2021), where other images are given."""
    chance = panel.chance(f"randomization: noise beside {name}")
    side = Side.of(own)
    noise = (own.new_zeros(own.shape)).uniform_(generator=chance)
    found: dict[str, dict[str, Any]] = {
        "edges": _one(Alike.between(side, sobel(panel.model.comparable(panel.x.cpu())))),
        "noise": _one(Alike.between(side, noise)),
    }
    if whole is not None and whole.pairs[name]:
        found["networks"] = averaged(whole.pairs[name])
    if len(images) > 1:
        found["images"] = averaged([Alike.between(a, b) for a, b in combinations([Side.of(i) for i in images], 2)])
    return found


def _one(alike: Alike) -> dict[str, float]:
    return {"similarity": abs(alike.signed), **asdict(alike)}
