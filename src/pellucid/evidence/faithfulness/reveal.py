"""Revealing an image in the order of a map: performance information curves, the performance against the information that is shown."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.evidence.faithfulness.subsets import STILL, nothing_in
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement, Status

Array = NDArray[Any]
SHARES = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.10, 0.13, 0.21, 0.34, 0.5, 0.75)  # those of the authors' code
POINTS = 101  # of the curve that is kept, for the median over images
UNIT = "area under the curve"


@dataclass(frozen=True, eq=False)
class Revealed:
    """How much of the image's information each step shows, 0 to 1, and the images themselves are drawn again when asked for."""

    panel: Panel
    seeds: Array  # (*space) bool: the samples that are always shown
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, panel: Panel, share: float) -> Revealed:
        """With a random share of the samples as the sparse start, the same for all maps."""
        count = math.prod(panel.grid.shape)
        seeds = np.zeros(count, dtype=bool)
        seeds[torch.randperm(count, generator=panel.chance("reveal: seeds"))[: int(count * share)].numpy()] = True
        setting = panel.setting
        return cls(panel, seeds.reshape(panel.grid.shape), setting.low, setting.high)

    def steps(self, relevance: Tensor | None) -> Iterator[Tensor]:
        """Images (c, *space) that show more and more of the map's top; None: the sparse start alone."""
        x = self.panel.x.detach().cpu().double().numpy()
        if relevance is None:
            yield torch.as_tensor(interpolated(x, self.seeds)).to(self.panel.x)
            return
        values = relevance.numpy()
        for share in SHARES:
            yield torch.as_tensor(interpolated(x, (values >= np.quantile(values, 1 - share)) | self.seeds)).to(self.panel.x)

    def size(self, image: Tensor) -> int:
        """Bytes of an image (c, *space) in a lossless file, as an estimate of its entropy; channels that make no color count one by one."""
        from PIL import Image

        seen = image.detach().cpu()
        values = (seen - self.low.to(seen)) * (255 / (self.high - self.low).clamp_min(1e-300)).to(seen)
        bytes_ = values.clamp(0, 255).round().to(torch.uint8).numpy()
        total = 0
        for plane in [bytes_.transpose(1, 2, 0)] if len(bytes_) == 3 else list(bytes_):
            file = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(plane)).save(file, format="webp", lossless=True, quality=100)
            total += file.tell()
        return total


def interpolated(x: Array, known: Array) -> Array:
    """The image (c, height, width) with what is not known interpolated linearly between the known samples; the corners are known."""
    from scipy.interpolate import LinearNDInterpolator

    known = known.copy()
    known[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    out = x.copy()
    if not known.all():
        there = LinearNDInterpolator(np.argwhere(known), x[:, known].T)(np.argwhere(~known)).T
        mean = x.mean(axis=(1, 2))[:, None]
        out[:, ~known] = np.where(np.isnan(there), mean, there)
    return out


def measured(panel: Panel, name: str, asked: Panel, seeds: float, randoms: int, whole: float, whole_text: str) -> dict[str, Measurement]:
    """The area under each map's curve. ``asked`` answers (the panel, or one with another target); ``whole`` is its answer for the image."""
    shown = Revealed.of(panel, seeds)
    against = f"the best of {randoms} random orders"
    (bare,) = shown.steps(None)
    start, low, high = asked.scores([bare])[0], shown.size(bare), shown.size(panel.x)
    detail = {"shares": list(SHARES), "start": start, "whole": whole, "bytes": [low, high]}
    why = whole_text
    if not why and low >= high:
        why = "A few samples hold as much information as the image by this estimate, so nothing can be revealed."
    if not why and whole - start <= STILL * (abs(whole) + abs(start)):
        why = "A few samples of the image alone give the score of the whole, so nothing can be revealed."
    chance = panel.chance("reveal: orders")
    drawn = [torch.rand(panel.grid.shape, generator=chance, dtype=torch.float64) for _ in range(0 if why else randoms)]
    by_chance = [_area(_curve(shown, asked, r, start, whole, low, high)) for r in drawn]
    found = {}
    for n in panel.names:
        text = nothing_in(panel.relevance(n)) or why
        if text:
            found[n] = Measurement(name, math.nan, UNIT, "up", "void", text, None, against, detail=detail)
        else:
            curve = _curve(shown, asked, panel.relevance(n), start, whole, low, high)
            found[n] = _judged(name, curve, by_chance, against, detail)
    return found


Curve = list[tuple[float, float]]


def _curve(shown: Revealed, asked: Panel, relevance: Tensor, start: float, whole: float, low: int, high: int) -> Curve:
    """(information, performance) at each step, both from 0 to 1, the performance never falling."""
    sizes: list[int] = []

    def states() -> Iterator[Tensor]:
        for image in shown.steps(relevance):
            sizes.append(shown.size(image))
            yield image

    scores = asked.scores(states())
    points, best = [(0.0, 0.0), (1.0, 1.0)], 0.0
    for size, score in zip(sizes, scores, strict=True):
        best = max(best, min(1.0, max(0.0, (score - start) / (whole - start))))
        points.append((min(1.0, max(0.0, (size - low) / (high - low))), best))
    return sorted(points)


def _area(curve: Curve) -> float:
    """Trapezoids."""
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(curve))


def _judged(name: str, curve: Curve, by_chance: Sequence[float], against: str, detail: dict[str, Any]) -> Measurement:
    value, best, mean = _area(curve), max(by_chance), sum(by_chance) / len(by_chance)
    status: Status = "pass" if value > best else "fail" if value <= mean else "inconclusive"
    word = {"pass": "sooner than", "fail": "no sooner than", "inconclusive": "about as soon as"}[status]
    what = "score" if name == "sic" else "decision"
    text = f"Revealed in the map's order, the image gives its {what} {word} in random orders (area {value:.2f}; random {best:.2f} at best)."
    x, y = zip(*curve, strict=True)
    more = {"curve": np.interp(np.linspace(0, 1, POINTS), x, y).tolist(), "points": curve, "random": list(by_chance)}
    return Measurement(name, value, UNIT, "up", status, text, best, against, detail={**more, **detail})
