"""Completeness gap: does the relevance add up to the change of the score that it claims to share out?"""

from __future__ import annotations

from pellucid.evidence.case import Case
from pellucid.explanation import Measurement
from pellucid.method import Gives

PASS, FAIL = 0.05, 0.20  # of the change: below, the rest is the integral's error; above, a fifth of the answer is unaccounted for
NAME = "completeness_gap"


def completeness(case: Case, score: float) -> Measurement | None:
    """``|sum of the map - (s(x) - s(start))| / |s(x) - s(start)|``; None for methods that promise no sum.

    The sum is taken of the map as it is now; the change is worked out anew where the start is an image that the method's parameters
    give, and read from the trace at hidden sites and for random starts. ``score`` is s(x) as just asked.
    """
    if not case.ask.method.facts.gives & Gives.COMPLETE:
        return None
    change, source = _change(case, score)
    total, size = case.why.total, float(case.why.values.double().abs().sum())
    detail = {"sum": total, "change": change, "from": source, "passes": case.passes.get(NAME, 0)}
    if change is None:
        text = "The map says nothing of the change that it shares out, so its sum cannot be checked."
        return Measurement(NAME, float("nan"), "share of the change", "zero", "inconclusive", text, detail=detail)
    if abs(change) <= 1e-6 * max(size, 1e-12):
        text = "The score is the same with and without the image's content: there is no change to share out."
        return Measurement(NAME, float("nan"), "share of the change", "zero", "inconclusive", text, detail=detail)
    gap = abs(total - change) / abs(change)
    status = "pass" if gap <= PASS else "fail" if gap > FAIL else "inconclusive"
    text = f"The relevance adds up to {total:.4g}; the score changed by {change:.4g}: {gap:.1%} of the change is unaccounted for."
    against = f"pass to {PASS:.0%}, fail above {FAIL:.0%}"
    return Measurement(NAME, gap, "share of the change", "zero", status, text, 0.0, against, detail=detail)  # type: ignore[arg-type]


def _change(case: Case, score: float) -> tuple[float | None, str]:
    starts, traced = case.starts(), case.why.trace.get("change")
    if starts:
        return score - sum(case.scores(NAME, starts)) / len(starts), "asked anew"
    return (float(traced), "the map's trace") if isinstance(traced, (int, float)) else (None, "nothing")
