"""Relevance that came back, drawn: the map, what ended on the way, and the lock on their sum."""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.errors import NoRule
from pellucid.probe.probe import Drawn, Probe, RuledAnswer
from pellucid.probe.rules.lrp_flow import TURNOVER

# Map and absorbed relevance sum to the score. Where ten times the score and more ends on the way, the map's own sum is no longer the score's size,
# and each of its values is what is left of shares that cancel: trained networks absorb 0.1 to 3 times their score, random attention up to 1e7.
MANY = 10.0
DROWNED = 0.5  # share of the score beyond which stabilizers no longer only stabilize
LOST = {torch.float64: 1e-6, torch.float32: 1e-2}  # share of the score that rounding may lose


def limits(probe: Probe) -> tuple[Tensor, Tensor] | None:
    """Lowest and highest normalized value of each sample of the image (c, *space); None at a hidden site."""
    if probe.question.place is not None:
        return None
    normalize = probe.engine.model.normalize
    ends = [end.to(probe.x).expand_as(probe.x) for end in probe.range]
    low, high = ends if normalize is None else [normalize(end[None])[0] for end in ends]
    return torch.minimum(low, high), torch.maximum(low, high)


def drawn(probe: Probe, found: RuledAnswer, *, positive: bool = False) -> Drawn:
    """The map of relevance, with what was absorbed. ``positive``: a score that is not above 0 has no relevance to share out.

    Raises:
        NoRule: map and absorbed relevance do not sum to the score, so that some was lost in an operation out of sight.
    """
    score, relevance, absorbed = float(found.score), found.gradient, dict(found.absorbed)
    turnover = absorbed.pop(TURNOVER, 0.0)
    if positive and score <= 0:
        probe.notes.append(f"deep Taylor explains scores above 0, and this one is {score:.4g}: there is nothing to share out")
        return probe.map(torch.zeros_like(relevance), absorbed={"a score not above 0": score}, largest=found.largest)
    gap = float(relevance.sum(dtype=torch.float64)) + sum(absorbed.values()) - score
    scale = max(abs(score), 1e-3 * float(relevance.abs().sum(dtype=torch.float64)))
    if not abs(gap) <= LOST.get(relevance.dtype, 1e-2) * scale:
        got = f"{gap:+.3g} beside a score of {score:.3g}"
        raise NoRule(
            "relevance and what operations absorb sum to the score", got, "A part writes constants over values; choose another method."
        )
    if abs(gap) > 1e-3 * abs(score):
        probe.notes.append(
            f"shares far larger than the score cancel, and rounding lost {abs(gap / score):.1%} of it; explain model.double()"
        )
    if abs(drowned := absorbed.get("stabilizers", 0.0)) > DROWNED * abs(score):
        share = f"{abs(drowned / score):.0%} of the score" if score else f"{drowned:.3g} beside a score of 0"
        probe.notes.append(f"stabilizers absorbed {share}: sums in this network are as small as they are, and the map is what is left over")
    if turnover > MANY * abs(score):
        times = f"{turnover / abs(score):.3g} times the score" if score else f"{turnover:.3g} beside a score of 0"
        probe.notes.append(f"biases, constants and stabilizers absorbed {times}: values on this map are differences of large numbers")
    return probe.map(relevance, absorbed=absorbed, largest=found.largest)
