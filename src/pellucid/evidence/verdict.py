"""Verdict: from single findings to one word, with its reasons in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.explanation import Measurement, Verdict

PILLARS = ("repetition", "learned_response", "randomization", "beyond_chance")
SUM = "completeness_gap"  # asked of methods that promise a sum


def verdict(found: Sequence[Measurement]) -> tuple[Verdict, tuple[str, ...]]:
    """One word and the reasons for it.

    ``void``: a finding says that the map or the score cannot be examined at all. ``not supported``: the map cannot be had again, the answer
    is no stronger than those of shuffled copies, shuffled weights give the same map, the sum is wrong, the map's order tells no more of the score
    than random orders or its own negative do, or the map is a copy of the image's edges or clearly worse than they are. ``supported``: each pillar
    passes. ``questionable``: anything else. Deletion and insertion alone decide nothing: ``beyond_chance`` tests both at once.
    """
    by = {m.name: m for m in found}
    void = [m for m in found if m.status == "void"]
    if void:
        return "void", tuple(dict.fromkeys(m.text for m in void))
    edges = by.get("beyond_edges")
    pillars = [by[n] for n in (*PILLARS, SUM) if n in by]
    failed = [m for m in (*pillars, *([edges] if edges else [])) if m.status == "fail"]
    if failed:
        return "not supported", tuple(m.text for m in failed)
    open_ = [m for m in pillars if m.status != "pass"]
    if open_ or "beyond_chance" not in by:
        return "questionable", tuple(m.text for m in open_) or ("Too little could be checked.",)
    return "supported", tuple(m.text for m in found if m.status == "pass" or m is edges)
