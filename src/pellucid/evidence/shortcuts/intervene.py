"""Intervention: is a suspected region what the network uses? Taken away where it is, put in where it is not, against regions of the same form."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid import baseline
from pellucid.asking import Scan
from pellucid.baseline import Starts
from pellucid.errors import BadParameter
from pellucid.evidence.shortcuts.asked import Asked, each, on_image, owners
from pellucid.explanation import Measurement
from pellucid.image import Image
from pellucid.intervals import FEWEST, average
from pellucid.model import as_model
from pellucid.ops.blur import gaussian
from pellucid.params import Count, Fraction, Weight, check
from pellucid.run import Run
from pellucid.table import Table

Word = Literal["confirmed", "rejected", "inconclusive"]
Rows = NDArray[np.float64]
DRAWS = 9999
TRIES = 400


@dataclass(frozen=True, eq=False)
class Intervention:
    """``word``: confirmed (the network uses the region), rejected (it does not), or inconclusive; ``measurements``: ``removal``, and ``addition``
    where images without the part were given.
    """

    word: Word
    text: str
    measurements: tuple[Measurement, ...]
    passes: int

    def __getitem__(self, name: str) -> Measurement:
        return {m.name: m for m in self.measurements}[name]

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self.measurements)

    def table(self) -> Table:
        """A row for each measurement."""
        columns = ("intervention", "effect", "low", "high", "p", "same at random places", "finding")
        return Table(columns, tuple((m.name, m.value, m.low, m.high, m.detail["p"], m.detail["elsewhere"], m.text) for m in self))


def intervene(
    net: Any,
    images: Sequence[Scan],
    regions: Sequence[Image | Tensor] | Image | Tensor,
    *,
    target: Any,
    negatives: Sequence[Scan] = (),
    fill: Literal["surround"] | Starts | float | str | Image | Tensor = "surround",
    elsewhere: int = 19,
    least: float = 0.1,
    scale: float | None = None,
    alpha: float = 0.05,
    patients: Sequence[Hashable] | None = None,
    run: Run | None = None,
) -> Intervention:
    """Does the score fall when a region is filled, and rise when it is put into other images, more than with the same form anywhere else?

    Removal: s(x) - s(x, region filled), mean over patients, less the mean over the same form at random places of the same image. Addition: the
    region's content is copied from an image of the cluster into a negative, at its place; against what lies at the random places, copied likewise,
    so that seams and foreign tissue are in both. p: each patient's region changes roles with its random places at random (exact, one-sided).

    Args:
        images: of the suspected cluster. regions: bool (*space), for each or for all.
        negatives: images without the part, shaped as the others; each gets the part of one of ``images``, in turn.
        fill: ``surround``, inpainted from its surroundings; or a baseline ("blurred('6mm')", a number, an image).
        elsewhere: random places for each image, clear of the region; its connected parts go each its own way.
        least: effect, in units of ``scale``, that is worth a name. scale: None: the spread of the score over all images given.
        alpha: level of p.

    Returns:
        ``confirmed``: every effect asked for is above ``least`` with p < alpha. ``rejected``: every interval ends below ``least``. Else inconclusive.

    Raises:
        BadParameter: an empty region, one that fits nowhere else, unequal numbers or shapes.

    **Misleads when**: "confirmed" is read as "shortcut": a lesion is confirmed too; whether a region may be used, a person says. What is used together
    with something else that stays may be rejected (either of two marks suffices). A fill that looks like a finding counts as one.

    **Source**: the verification asked for by Lapuschkin et al. 2019 and Adebayo et al. 2022 (arXiv 2212.04629); Phipson and Smyth 2010 for p.
    """
    (
        check("intervene", "elsewhere", Count, elsewhere),
        check("intervene", "least", Weight, least),
        check("intervene", "alpha", Fraction, alpha),
    )
    asked = Asked.of(as_model(net), target, run)
    ready, others = asked.ready(images), asked.ready(negatives)
    if not ready or any(x.shape != ready[0][1].shape for _, x in [*ready, *others]):
        raise BadParameter(
            "images of one shape, one at least", f"{sorted({tuple(x.shape) for _, x in [*ready, *others]})}", "Prepare them alike."
        )
    who = owners(patients, [i for i, _ in ready])
    marked = [on_image(m, i) for m, (i, _) in zip(each(regions, len(ready), "regions"), ready, strict=True)]
    chance = torch.Generator().manual_seed(asked.run.seed)
    places = [[m, *_elsewhere(m, elsewhere, chance)] for m in marked]
    taken, known = _removal(asked, ready, places, fill)
    put, zeros = _addition(asked, ready, others, places) if others else (None, [])
    unit = float(np.std([*known, *zeros])) if scale is None else scale
    donors = [who[k % len(ready)] for k in range(len(others))]
    found = [_measured("removal", taken, who, unit, least, asked.run.seed)]
    if put is not None:
        found.append(_measured("addition", put, donors, unit, least, asked.run.seed))
    word = _word(found, least, alpha)
    said = {
        "confirmed": "The network uses the region",
        "rejected": "The network does not use the region",
        "inconclusive": "Nothing can be concluded",
    }
    return Intervention(word, f"{said[word]}: " + " ".join(m.text for m in found), tuple(found), asked.spent)


def _elsewhere(mask: Tensor, count: int, chance: torch.Generator) -> list[Tensor]:
    """The same form at random places of the image, clear of the region itself; connected parts go each its own way, clear of each other."""
    from scipy.ndimage import label

    numbered = torch.from_numpy(label(mask.numpy(), np.ones((3,) * mask.ndim))[0])
    parts = [(numbered == k).nonzero() for k in range(1, int(numbered.max()) + 1)]
    parts.sort(key=len, reverse=True)
    return [_scattered(parts, mask, chance) for _ in range(count)]


def _scattered(parts: list[Tensor], mask: Tensor, chance: torch.Generator) -> Tensor:
    """Every part (samples, axes) at a random place that is free."""
    found = torch.zeros_like(mask)
    for at in parts:
        low, high = at.min(0).values, at.max(0).values
        room = torch.tensor(mask.shape) - (high - low)
        for _ in range(TRIES):
            place = tuple((at - low + (torch.rand(mask.ndim, generator=chance) * room).long()).T)
            if not bool((found | mask)[place].any()):
                found[place] = True
                break
        else:
            raise BadParameter(
                "a region that fits elsewhere in the image", f"{int(mask.sum())} of {mask.numel()} samples", "Give a smaller region."
            )
    return found


def _removal(asked: Asked, ready: list[tuple[Image, Tensor]], places: list[list[Tensor]], fill: Any) -> tuple[Rows, list[float]]:
    """s(x) - s(x filled at each place): (images, 1 + elsewhere); and s(x)."""

    def inputs() -> Iterator[Tensor]:
        for (image, x), own in zip(ready, places, strict=True):
            whole = None if isinstance(fill, str) and fill == "surround" else asked.panel(image, x).fill(baseline.read(fill))
            yield x
            for m in own:
                yield surround(x, m) if whole is None else torch.where(m.to(x.device), whole, x)

    table = np.asarray(asked.scores(ready[0][0], inputs())).reshape(len(ready), -1)
    return table[:, :1] - table[:, 1:], [float(v) for v in table[:, 0]]


def _addition(
    asked: Asked, ready: list[tuple[Image, Tensor]], others: list[tuple[Image, Tensor]], places: list[list[Tensor]]
) -> tuple[Rows, list[float]]:
    """s(negative with what lies there in a donor) - s(negative): (negatives, 1 + elsewhere); and s(negative)."""

    def inputs() -> Iterator[Tensor]:
        for k, (_, x) in enumerate(others):
            yield x
            for m in places[k % len(ready)]:
                yield torch.where(m.to(x.device), ready[k % len(ready)][1], x)

    table = np.asarray(asked.scores(ready[0][0], inputs())).reshape(len(others), -1)
    return table[:, 1:] - table[:, :1], [float(v) for v in table[:, 0]]


def surround(x: Tensor, mask: Tensor) -> Tensor:
    """(c, *space) with the samples of a mask (*space) taken from their surroundings: the narrowest Gaussian mean of known samples that reaches them
    (normalized convolution: Knutsson and Westin 1993).
    """
    known = (~mask).to(x)[None]
    out, open_ = x.clone(), mask.clone().to(x.device)
    width = 1.0
    while bool(open_.any()):
        weight = gaussian(known, [width] * mask.ndim)
        reached = open_ & (weight[0] > 0.05)
        mean = gaussian(x * known, [width] * mask.ndim) / weight.clamp_min(1e-12)
        out = torch.where(reached, mean, out)
        open_ &= ~reached
        width *= 2
        if width > 4 * max(mask.shape):
            return torch.where(open_, x.flatten(1).mean(1).view(-1, *[1] * mask.ndim), out)
    return out


def _measured(name: str, effects: Rows, who: Sequence[Any], unit: float, least: float, seed: int) -> Measurement:
    names = list(dict.fromkeys(who))
    by = np.stack([effects[[i for i, w in enumerate(who) if w == p]].mean(0) for p in names])
    excess = (by[:, 0] - by[:, 1:].mean(1)) / unit if unit > 0 else np.zeros(len(by))
    chance = np.random.default_rng(seed)
    drawn = sum(row[chance.integers(0, len(row), DRAWS)] for row in by)
    p = float((1 + (drawn >= by[:, 0].sum() - 1e-12 * np.abs(by).sum()).sum()) / (1 + DRAWS))
    i = average(excess)
    ends = (i.value, i.value) if len(by) >= FEWEST and not np.ptp(excess) > 0 else i.ends  # a score that never moves leaves nothing open
    detail = {
        "p": p,
        "patients": len(by),
        "places": by.shape[1] - 1,
        "least": least,
        "scale": unit,
        "elsewhere": float(by[:, 1:].mean()),
        "there": float(by[:, 0].mean()),
    }
    what = "Taking it away lowers" if name == "removal" else "Putting it in raises"
    if not unit > 0:
        return Measurement(name, math.nan, "spreads of the score", "up", "void", "The score is the same for all images.", detail=detail)
    text = f"{what} the score by {by[:, 0].mean() / unit:.2f} of its spread, the same form elsewhere by {by[:, 1:].mean() / unit:.2f} (p = {p:.2g})."
    status = "pass" if i.value > least and p < 0.05 else "fail" if ends[1] is not None and ends[1] < least else "inconclusive"
    return Measurement(name, i.value, "spreads of the score", "up", status, text, 0.0, "the same form elsewhere", *ends, detail)  # type: ignore[arg-type]


def _word(found: Sequence[Measurement], least: float, alpha: float) -> Word:
    if any(math.isnan(m.value) for m in found):
        return "inconclusive"
    if all(m.value > least and m.detail["p"] < alpha for m in found):
        return "confirmed"
    if all(m.high is not None and m.high < least for m in found):
        return "rejected"
    return "inconclusive"
