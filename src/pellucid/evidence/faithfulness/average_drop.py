"""Average drop: how much of the score is lost when only what the map marks stays in the light."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pellucid.baseline import Baseline, Starts
from pellucid.evidence.faithfulness.subsets import neutral, nothing_in
from pellucid.evidence.metric import NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement, Status
from pellucid.method import Cite

NAME, UNIT = "average_drop", "share of the score"
EVEN = 0.02  # of the score: closer counts as equal
AGAINST = "the whole image dimmed alike, to the map's mean"


@metric(
    cite=Cite(
        "Chattopadhay, Sarkar, Howlader, Balasubramanian", 2018,
        "Grad-CAM++: generalized gradient-based visual explanations", "WACV", "1710.11063",
    ),
    unit=UNIT,
    better="down",
    reference="that of the whole image dimmed alike",
    needs=NETWORK,
    price=lambda **_: Price(shared=1, each=2),
)  # fmt: skip
def average_drop(panel: Panel, *, fill: Baseline | None = "black") -> dict[str, Measurement]:
    """What share of the score is lost when each sample is shown as brightly as the map marks it: 0 is nothing, 1 is all.

    ``max(0, s(x) - s(m x + (1 - m) fill)) / s(x)`` with m (*space) the positive part of the map over its maximum. The detail has
    ``increase`` (whether the score rose, for the share of such images), ``gain = max(0, s(m x + ...) - s(x)) / (1 - s(x))`` for scores
    between 0 and 1, and the score of the masked image. A drop as a share wants a score above zero: grade with ``score=probability(k)``.

    Args:
        fill: what is seen where the map marks nothing: ``black`` as in the paper, whose images are multiplied by the map; None: the
            blurred copy of the image.

    **Misleads when**: the map marks everything: a map of ones loses nothing. The reference, the image dimmed alike to the same mean,
    says what the place of the light adds to its amount.
    **Source**: Chattopadhay et al. 2018, section 4.1 (average drop, increase in confidence); the gain is Zhang et al. 2024 (Opti-CAM).
    """
    assert fill is None or isinstance(fill, Starts)
    absent, score = neutral(panel, fill), panel.score
    why = {n: nothing_in(panel.relevance(n)) for n in panel.names}
    light = {n: panel.relevance(n).clamp_min(0) for n in panel.names if not why[n]}
    for n, m in light.items():
        if float(m.max()) <= 0:
            why[n] = "The map marks nothing that speaks for the target."
    if score <= 0:
        text = "The score of the whole image is not above zero, so no share of it can be lost: grade with score=probability(...)."
        why = {n: w or text for n, w in why.items()}
    kept = [n for n in panel.names if not why[n]]

    def states() -> Iterator[Tensor]:
        for n in kept:
            m = light[n] / light[n].max()
            for shown in (m, torch.full_like(m, float(m.mean()))):
                shown = shown.to(panel.x)
                yield shown * panel.x + (1 - shown) * absent

    scores = iter(panel.scores(states()))
    return {
        n: Measurement(NAME, math.nan, UNIT, "down", "void", why[n], None, AGAINST, detail={"fill": repr(fill)})
        if why[n]
        else _judged(score, next(scores), next(scores), repr(fill))
        for n in panel.names
    }


def _judged(score: float, seen: float, even: float, fill: str) -> Measurement:
    value, level = max(0.0, score - seen) / score, max(0.0, score - even) / score
    status: Status = "pass" if value < level - EVEN else "fail" if value > level + EVEN else "inconclusive"
    word = {"pass": "less than", "fail": "more than", "inconclusive": "about as much as"}[status]
    text = f"Lit only where the map marks it, the image loses {value:.0%} of its score, {word} when it is dimmed alike ({level:.0%})."
    share = score < 1 and 0 <= seen <= 1
    detail = {
        "fill": fill,
        "whole": score,
        "masked": seen,
        "increase": seen > score,
        "gain": max(0.0, seen - score) / (1 - score) if share else None,
    }
    return Measurement(NAME, value, UNIT, "down", status, text, level, AGAINST, detail=detail)
