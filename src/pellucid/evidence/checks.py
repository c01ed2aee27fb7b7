"""The checks of an examination, in their order; each asks as little as it can."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pellucid.errors import Unsupported
from pellucid.evidence.axioms.completeness_gap import completeness
from pellucid.evidence.case import Case
from pellucid.evidence.faithfulness.examined import curves_of
from pellucid.evidence.robustness.repetition import repetition
from pellucid.evidence.sanity.randomization import NAME as RANDOMIZATION
from pellucid.evidence.sanity.randomization import randomization
from pellucid.evidence.sanity.response import NAME as RESPONSE
from pellucid.evidence.sanity.response import response
from pellucid.evidence.sanity.shuffling import Shuffler, parameterless
from pellucid.explanation import Measurement


def checked(case: Case) -> Iterator[Measurement]:
    """Every measurement that a case allows."""
    neutrals = case.panel.neutrals
    (score,) = case.scores("score", [case.x])
    again, own = repetition(case)
    yield again
    gap = completeness(case, score)
    if gap is not None:
        yield gap
    if case.spatial:
        yield from curves_of(case, case.panel.relevance("map"), neutrals["blurred copy"])
    if parameterless(case.model.module):
        return
    try:
        shuffler = Shuffler.of(case.model, case.x)
    except Unsupported as error:
        for name in (RESPONSE, RANDOMIZATION):
            yield Measurement(name, math.nan, "", "up", "inconclusive", f"Not checked: {error}")
        return
    yield response(case, list(neutrals.values()), shuffler)
    yield randomization(case, own, shuffler)
