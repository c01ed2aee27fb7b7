"""Sensitivity zero: do parts of the image that never move the score get no relevance?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pellucid.evidence.axioms.sums import empty
from pellucid.evidence.metric import NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.patches import COUNT, Patches
from pellucid.explanation import Measurement, Status
from pellucid.method import Cite
from pellucid.params import Count, Positive

NAME, UNIT = "sensitivity_zero", "times an even map"
PASS, FAIL = 0.1, 0.5  # of what an even map has there: rounding and the parts' rims below, no notice of what the network sees above


@metric(
    cite=Cite("Nguyen, Rodríguez Martínez", 2020, "On quantitative aspects of model interpretability", "arXiv", "2007.07584"),
    unit=UNIT,
    better="zero",
    reference=f"1, that of an even map; pass to {PASS}, fail above {FAIL}",
    needs=NETWORK,
    price=lambda settings, ndim, **_: Price(shared=(2 * COUNT[ndim] + 1) * settings * 2, at_most=True),
    random=True,
)
def sensitivity_zero(panel: Panel, *, settings: Count = 2, still: Positive = 1e-6) -> dict[str, Measurement]:
    """How much of the map lies in parts of the image that never move the score, whatever is put there.

    ``(sum of |a_i| over dead parts / sum of |a_i|) / (dead samples / samples)`` (*space). Parts are about 256 (2D) or 512 (3D) patches; each is exchanged for the
    blurred image's and for uniform noise within the value range, in the image itself and in copies of which random halves are blurred.
    A part is dead if no exchange moves the score by more than ``still`` of the largest move. The detail counts parts that move the score but
    hold no relevance (``missed``) and with those that should hold none their sum, the paper's number.

    Args:
        settings: the image and ``settings - 1`` half blurred copies; several, since a part may be idle only while another one stands in for it.
        still: largest move of a dead part; above 0 only for rounding.

    **Misleads when**: some other content would have moved the score; a part larger than the dead one mixes it with live samples; methods of
        coarse maps spread relevance over their cells by design.
    **Source**: Nguyen and Martínez 2020, section 3.2 (non-sensitivity), by groups of samples, as a share of relevance instead of a count.
    """
    patches = Patches.of(panel.grid, panel.x.cpu(), panel.x.cpu())
    parts = torch.arange(math.prod(patches.shape))
    key = f"{NAME}: {settings} settings of {len(parts)} parts"
    scores = torch.tensor(panel.known(key, lambda: _exchanges(panel, patches, parts, settings)), dtype=torch.float64)
    table = scores.view(settings, 2 * len(parts) + 1)
    moves = (table[:, 1:] - table[:, :1]).abs().view(settings, 2, len(parts)).amax((0, 1))
    if not float(moves.max()) > 0:
        text = "Whatever is put anywhere in the image, the score stays: the network does not look at it."
        return {n: Measurement(NAME, math.nan, UNIT, "zero", "void", text) for n in panel.names}
    dead = moves <= still * moves.max()
    return {n: _measured(panel.relevance(n), patches, dead) for n in panel.names}


def _exchanges(panel: Panel, patches: Patches, parts: Tensor, settings: int) -> Iterator[Tensor]:
    """For each setting the image itself, then every part blurred, then every part as noise."""
    chance, at = panel.chance(NAME), panel.setting
    noise = (at.low + at.width * torch.rand(panel.x.shape, generator=chance, dtype=torch.float64)).to(panel.x)
    for k in range(settings):
        half = parts[torch.randperm(len(parts), generator=chance)[: len(parts) // 2]] if k else parts[:0]
        scene = patches.without(panel.x, panel.blurred, half)
        yield scene
        for fill in (panel.blurred, noise):
            for part in parts:
                yield patches.without(scene, fill, part[None])


def _measured(relevance: Tensor, patches: Patches, dead: Tensor) -> Measurement:
    sizes = patches.index.flatten().bincount(minlength=len(dead))
    held = patches.mean(relevance.abs()) * sizes
    total = float(held.sum())
    if not total > 0 or not math.isfinite(total):
        return empty(NAME, UNIT)
    nothing = held <= 1e-6 * held.max()
    missed, wrong = int((nothing & ~dead).sum()), int((dead & ~nothing).sum())
    detail = {"parts": len(dead), "dead": int(dead.sum()), "missed": missed, "non_sensitivity": missed + wrong}
    if not bool(dead.any()):
        text = "Every part of the image moves the score, so none can be marked wrongly."
        return Measurement(NAME, math.nan, UNIT, "zero", "inconclusive", text, 1.0, detail=detail)
    share, even = float(held[dead].sum()) / total, float(sizes[dead].sum() / sizes.sum())
    value = share / even
    status: Status = "pass" if value <= PASS else "fail" if value > FAIL else "inconclusive"
    text = f"{share:.1%} of the relevance lies in the {int(dead.sum())} of {len(dead)} parts that never move the score ({even:.1%} of the image)."
    return Measurement(NAME, value, UNIT, "zero", status, text, 1.0, "a map that is even everywhere", detail={**detail, "share": share})
