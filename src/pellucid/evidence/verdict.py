"""Verdict: from single findings to one word, with its reasons in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.explanation import Measurement, Verdict

PILLARS = ("repetition", "learned_response", "randomization", "completeness_gap")
CURVES = ("deletion", "insertion")


def verdict(found: Sequence[Measurement]) -> tuple[Verdict, tuple[str, ...]]:
    """One word and the reasons for it.

    ``void``: a finding says that the map or the score cannot be examined at all. ``not supported``: the map cannot be had again, nothing
    learned answers to the image, shuffled weights give the same map, the sum is wrong, neither deletion nor insertion tells the map from
    random orders while one is no better than they are, or the map
    is a copy of the image's edges or clearly worse than they are. ``supported``: each of these passes (deletion or
    insertion: one). ``questionable``: anything else.
    """
    by = {m.name: m for m in found}
    void = [m for m in found if m.status == "void"]
    if void:
        return "void", tuple(dict.fromkeys(m.text for m in void))
    pillars = [by[n] for n in PILLARS if n in by]
    curves = [by[n] for n in CURVES if n in by]
    failed = [m for m in pillars if m.status == "fail"]
    passes = any(m.status == "pass" for m in curves)
    if curves and not passes:
        failed += [m for m in curves if m.status == "fail"]
    edges = by.get("beyond_edges")
    if edges is not None and edges.status == "fail":
        failed.append(edges)
    if failed:
        return "not supported", tuple(m.text for m in failed)
    open_ = [m for m in pillars if m.status != "pass"]
    open_ += [m for m in curves if m.status != "pass"] if not passes else []
    if open_ or not curves:
        return "questionable", tuple(m.text for m in open_) or ("Too little could be checked.",)
    return "supported", tuple(m.text for m in found if m.status == "pass" or m is edges)
