"""Completeness gap: does the relevance add up to the change of the score that it claims to share out?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pellucid.baseline import Starts
from pellucid.evidence.axioms.sums import FAIL, PASS, judged
from pellucid.evidence.case import Case
from pellucid.evidence.metric import NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Map, Measurement
from pellucid.method import Ask, Cite, Gives

NAME, UNIT = "completeness_gap", "share of the change"


@metric(
    cite=Cite("Sundararajan, Taly, Yan", 2017, "Axiomatic attribution for deep networks", "ICML", "1703.01365"),
    unit=UNIT,
    better="zero",
    reference=f"0; pass to {PASS:.0%}, fail above {FAIL:.0%}",
    needs=NETWORK,
    price=lambda **_: Price(shared=1, each=8, at_most=True),
)
def completeness_gap(panel: Panel) -> dict[str, Measurement]:
    """What part of the score's change between the method's start and the image is missing from the sum of the map, or too much in it.

    ``|sum of the map - (s(x) - s(start))| / |s(x) - s(start)|``; the sum is that of all values (c, *space) on the map's own grid. The score is
    asked anew where the start is an image that the method's parameters give; at hidden sites and for random starts the change is read from
    the map's trace. Methods that promise no sum, and controls, are void.

    **Misleads when**: a map that is wrong everywhere can still have the right sum; a sum is right for a network that learned nothing.
    **Source**: Sundararajan et al. 2017, proposition 1, as a share instead of a comparison of floats for equality. The score is the one that
        the map explains, whatever function of the output other metrics follow.
    """
    found = {}
    for name in panel.names:
        why, ask = panel.entries[name].map, panel.entries[name].ask
        if why is None or ask is None or not ask.method.facts.gives & Gives.COMPLETE:
            text = "Nothing promises that this map adds up to a change of the score, so there is nothing to check."
            found[name] = Measurement(NAME, math.nan, UNIT, "zero", "void", text)
            continue
        starts = starts_of(panel, ask, panel.chance("completeness_gap: starts")) if repr(ask.target) == repr(panel.target) else []
        key = f"completeness_gap: starts of {ask.method.params.get('baseline')!r}"
        asked = panel.known(key, lambda starts=starts: starts) if starts else []  # type: ignore[misc]
        found[name] = _gap(why, *_change(why.trace, asked, lambda: panel.score))
    return found


def completeness(case: Case, score: float) -> Measurement | None:
    """The same of the case under examination, whose score is known; None for methods that promise no sum."""
    if not case.ask.method.facts.gives & Gives.COMPLETE:
        return None
    starts = starts_of(case.panel, case.ask, case.chance(1))
    asked = case.scores(NAME, starts) if starts else []
    found = _gap(case.why, *_change(case.why.trace, asked, lambda: score))
    return replace(found, detail={**found.detail, "passes": case.passes.get(NAME, 0)})


def starts_of(panel: Panel, ask: Ask, chance: torch.Generator) -> list[Tensor]:
    """The images that a method compares with, where its parameters give them; none at hidden sites and for random ones."""
    baseline = ask.method.params.get("baseline")
    if not isinstance(baseline, Starts) or ask.site is not None or "random" in repr(baseline):
        return []
    return baseline.starts(replace(panel.setting, random=chance))


def _change(trace: Mapping[str, Any], asked: list[float], score: Callable[[], float]) -> tuple[float | None, str]:
    if asked:
        return score() - sum(asked) / len(asked), "asked anew"
    traced = trace.get("change")
    return (float(traced), "the map's trace") if isinstance(traced, (int, float)) else (None, "nothing")


def _gap(why: Map, change: float | None, source: str) -> Measurement:
    total, size = why.total, float(why.values.double().abs().sum())
    detail = {"sum": total, "change": change, "from": source}
    if change is None:
        text = "The map says nothing of the change that it shares out, so its sum cannot be checked."
        return Measurement(NAME, math.nan, UNIT, "zero", "inconclusive", text, detail=detail)
    if abs(change) <= 1e-6 * max(size, 1e-12):
        text = "The score is the same with and without the image's content: there is no change to share out."
        return Measurement(NAME, math.nan, UNIT, "zero", "inconclusive", text, detail=detail)
    gap = abs(total - change) / abs(change)
    text = f"The relevance adds up to {total:.4g}; the score changed by {change:.4g}: {gap:.1%} of the change is unaccounted for."
    return judged(NAME, gap, UNIT, text, detail)
