"""Repetition: does the method that the map names give this map again?"""

from __future__ import annotations

import math

from pellucid.evidence.case import Case
from pellucid.explanation import Map, Measurement, Status
from pellucid.ops.similarity import spearman

NAME = "repetition"
PASS, FAIL = 0.9, 0.7
SAME = 0.999  # below, the words are "nearly the same": a method without chance gives every rank again


def repetition(case: Case) -> tuple[Measurement, Map]:
    """Rank correlation of the map with one made anew by the same question, and that map.

    First with fewer steps where the method has steps; below 0.9 that says nothing of the map, so exactly its question is asked. A map that
    was edited, mixed up, or made by something other than it says is found here.
    """
    own = case.explain(NAME)
    value, steps, wanted = spearman(case.why.values, own.values), case.method(True).params.get("steps"), case.ask.method.params.get("steps")
    if steps != wanted and not value >= PASS:
        value, steps = spearman(case.why.values, case.explain(NAME, short=False).values), wanted
    status: Status = "inconclusive" if math.isnan(value) else "pass" if value >= PASS else "fail" if value < FAIL else "inconclusive"
    how = f"Asked again with {steps} steps instead of {wanted}" if steps != wanted else "Asked again"
    likeness = "the same map" if value >= SAME and steps == wanted else f"nearly the same map (rank correlation {value:.2f})"
    text = {
        "pass": f"{how}, the method gives {likeness}.",
        "fail": f"{how}, {case.ask.method.name} gives another map (rank correlation {value:.2f}): this one does not come from it, or the "
        "method is not steady.",
        "inconclusive": f"{how}, the method gives a map that differs in part (rank correlation {value:.2f}).",
    }[status]
    detail = {"steps": steps, "passes": case.passes[NAME]}
    return Measurement(NAME, value, "rank correlation", "up", status, text, 1.0, "the same question asked again", detail=detail), own
