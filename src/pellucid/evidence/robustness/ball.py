"""A ball of noise around the image, the same for all maps and for all metrics that look into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pellucid.baseline import Each, one_or_each
from pellucid.evidence.panel import Panel
from pellucid.evidence.robustness.changes import anew, moved, remade
from pellucid.ops.similarity import spearman

Of = Literal["range", "absolute"]


@dataclass
class Path:
    """What noise did to one map: relative distance, distance, rank correlation, a number for each draw."""

    relative: list[float] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)
    alike: list[float] = field(default_factory=list)


@dataclass
class Ball:
    """The maps' paths by name, and the L2 norm of each draw."""

    paths: dict[str, Path]
    norms: list[float]
    reach: Each


def noises(panel: Panel, radius: float, of: Of, samples: int) -> Iterator[Tensor]:
    """Draws (c, *space), uniform in the L-inf ball, in the image's own values."""
    reach, chance = reach_of(panel, radius, of), panel.chance("robustness: ball")
    for _ in range(samples):
        yield (reach * (2 * torch.rand(panel.x.shape, generator=chance, dtype=torch.float64) - 1)).to(panel.x)


def reach_of(panel: Panel, radius: float, of: Of) -> Tensor:
    """The radius in the image's own values, by channel."""
    width = panel.setting.width
    return radius * width if of == "range" else torch.full_like(width, radius)


def ball(panel: Panel, radius: float, of: Of, samples: int) -> Ball:
    """Every map made anew at each draw; found once for all metrics that ask for the same ball."""

    def make() -> Ball:
        found = Ball({n: Path() for n in remade(panel)}, [], one_or_each(reach_of(panel, radius, of)))
        found.norms += [float(e.double().norm()) for e in noises(panel, radius, of, samples)]
        for maps in anew(panel, (panel.x + e for e in noises(panel, radius, of, samples))):
            for name, there in maps.items():
                own, path = panel.relevance(name), found.paths[name]
                path.relative.append(moved(own, there))
                path.distance.append(float((there - own).norm()))
                path.alike.append(spearman(own, there))
        return found

    key = f"robustness: ball of {radius} {of}, {samples} draws"
    if key not in panel.kept:
        panel.kept[key] = make()
    kept: Ball = panel.kept[key]
    return kept
