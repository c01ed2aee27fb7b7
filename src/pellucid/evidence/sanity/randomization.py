"""Randomization: does the map depend on what the network has learned? Shuffle the weights, from the output down, and look again."""

from __future__ import annotations

import math
from typing import Any

from pellucid.evidence.case import Case
from pellucid.evidence.sanity.alike import Alike
from pellucid.evidence.sanity.cascade import copies
from pellucid.evidence.sanity.shuffling import Shuffler
from pellucid.explanation import Map, Measurement, Status

NAME = "randomization"
Row = dict[str, Any]
UNMOVED = 0.02  # of the score: a shuffled network that answers so alike has not been randomized
SAME, CHANGED = 0.7, 0.5  # of rank correlation: above, the shuffled network gives this map too; below, another one


def randomization(case: Case, own: Map, shuffler: Shuffler) -> Measurement:
    """Similarity of the map to maps of copies whose weights were shuffled block by block from the output down, and its null floor.

    ``own`` is the map made anew by the very method that explains the copies. The value is the rank correlation (absolute, since a map
    turned to its negative shows the same picture) at the stage where all is shuffled; the floor is that of maps of two networks shuffled
    independently, which share the image and the method alone. It fails where shuffling leaves the map as it is: at the last stage,
    at any stage where half of the blocks are shuffled already, or where the floor itself is that high. Same target at every stage.
    Sources: Adebayo et al. 2018; the erratum on guided backpropagation; Binder et al. 2023 (a pass is no rank).
    """
    chance = case.chance(3)
    rows: list[Row] = []
    last: list[Map] = []
    stages = shuffler.stages(case.effort.stages)
    for stage, blocks in enumerate(stages):
        final = stage == len(stages) - 1
        for twin in copies(shuffler, blocks, max(2, case.effort.draws) if final else case.effort.draws, chance):
            there = case.explain(NAME, twin)
            alike = Alike.between(own.relevance, there.relevance)
            rows.append({"blocks": len(blocks), **vars(alike), "entropy": case.entropy(NAME, twin), "score": there.score})
            last += [there] if final else []
    floor = [Alike.between(a.relevance, b.relevance) for i, a in enumerate(last) for b in last[:i]]
    detail = {
        "stages": rows, "of_blocks": len(shuffler.blocks), "floor": [vars(f) for f in floor], "entropy": case.entropy(NAME),
        "steps": case.method(True).params.get("steps"), "passes": case.passes[NAME],
    }  # fmt: skip
    if all(abs(r["score"] - own.score) <= UNMOVED * abs(own.score) for r in rows if r["blocks"] == len(shuffler.blocks)):
        text = "Shuffling all weights leaves the network's answer as it was, so nothing follows from its maps."
        return Measurement(NAME, math.nan, "rank correlation", "down", "inconclusive", text, detail=detail)
    return _judged(rows, [abs(f.signed) for f in floor], len(shuffler.blocks), detail)


def _judged(rows: list[Row], floor: list[float], blocks: int, detail: dict[str, Any]) -> Measurement:
    against = "maps of two networks shuffled independently"
    stages = {size: [abs(r["signed"]) for r in rows if r["blocks"] == size and not math.isnan(r["signed"])] for size in _sizes(rows)}
    late = stages[blocks]
    if not late:
        text = "Networks with shuffled weights give an empty map for this image, so there is nothing to compare with."
        return Measurement(NAME, math.nan, "rank correlation", "down", "inconclusive", text, None, against, detail=detail)
    value = sum(late) / len(late)
    null = [f for f in floor if not math.isnan(f)]
    level = sum(null) / len(null) if null else None
    deep = [sum(s) / len(s) for size, s in stages.items() if s and 2 * size >= blocks]
    worst = max([*deep, *([] if level is None else [level])])
    status: Status = "fail" if worst >= SAME else "pass" if value < CHANGED else "inconclusive"
    text = {
        "fail": f"A network with shuffled weights gives nearly the same map (similarity {worst:.2f} of 1): it shows the image, not what was learned.",
        "pass": f"With shuffled weights the map becomes another one (similarity {value:.2f} of 1).",
        "inconclusive": f"With shuffled weights the map changes only in part (similarity {value:.2f} of 1).",
    }[status]
    return Measurement(NAME, value, "rank correlation", "down", status, text, level, against, min(late), max(late), detail)


def _sizes(rows: list[Row]) -> list[int]:
    return sorted({r["blocks"] for r in rows})
