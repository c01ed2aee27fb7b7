"""Repetition: does the method that the map names give this map again?"""

from __future__ import annotations

import math

from pellucid.evidence.case import Case
from pellucid.explanation import Map, Measurement, Status
from pellucid.ops.similarity import spearman

NAME = "repetition"
PASS, FAIL = 0.9, 0.7
NEAR = 0.7  # with fewer steps than the map was made with; below, the exact question is asked


def repetition(case: Case) -> tuple[Measurement, Map]:
    """Rank correlation of the map with one made anew by the same question, and that map.

    First with fewer steps where the method has steps; if that differs, with exactly the question of the map. A map that was edited, mixed
    up, or made by something other than it says is found here.
    """
    own = case.explain(NAME)
    value, steps = spearman(case.why.values, own.values), case.method(True).params.get("steps")
    least = PASS if case.method(True) == case.ask.method else NEAR
    if value < least and least == NEAR:
        least = PASS
        exact = case.explain(NAME, short=False)
        value, steps = spearman(case.why.values, exact.values), case.ask.method.params.get("steps")
    status: Status = "inconclusive" if math.isnan(value) else "pass" if value >= least else "fail" if value < FAIL else "inconclusive"
    text = {
        "pass": "Asked again, the method gives the same map.",
        "fail": f"Asked again, {case.ask.method.name} gives another map: this one does not come from it, or the method is not steady.",
        "inconclusive": "Asked again, the method gives a map that differs in part.",
    }[status]
    detail = {"steps": steps, "passes": case.passes[NAME]}
    return Measurement(NAME, value, "rank correlation", "up", status, text, 1.0, "the same question asked again", detail=detail), own
