"""Randomization: does the map depend on what the network has learned? Shuffle the weights, from the output down, and look again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pellucid.evidence.case import Case
from pellucid.evidence.shuffling import Shuffler
from pellucid.explanation import Map, Measurement, Status
from pellucid.ops.similarity import spearman, ssim, unit

NAME = "randomization"
SAME, CHANGED = 0.7, 0.5  # of rank correlation: above, the shuffled network gives this map too; below, another one


@dataclass(frozen=True)
class Alike:
    """How alike two maps of one image are."""

    signed: float
    absolute: float
    ssim: float

    @classmethod
    def of(cls, a: Map, b: Map) -> Alike:
        """By relevance summed over channels; SSIM of both scaled to [0, 1]."""
        x, y = a.relevance, b.relevance
        return cls(spearman(x, y), spearman(x.abs(), y.abs()), ssim(unit(x), unit(y), data_range=1.0))


def randomization(case: Case, own: Map, shuffler: Shuffler) -> Measurement:
    """Similarity of the map to maps of copies whose weights were shuffled block by block from the output down, and its null floor.

    ``own`` is the map made anew by the very method that explains the copies. The value is the rank correlation (absolute, since a map
    turned to its negative shows the same picture) at the stage where all is shuffled; the floor is that of maps of two networks shuffled
    independently, which share the image and the method alone. It fails where shuffling leaves the map as it is: at the last stage,
    at any stage where half of the blocks are shuffled already, or where the floor itself is that high. Same target at every stage.
    Sources: Adebayo et al. 2018; the erratum on guided backpropagation; Binder et al. 2023 (a pass is no rank).
    """
    chance = case.chance(3)
    rows, last = [], []
    stages = shuffler.stages(case.effort.stages)
    for stage, blocks in enumerate(stages):
        final = stage == len(stages) - 1
        for _ in range(max(2, case.effort.draws) if final else case.effort.draws):
            there = case.explain(NAME, shuffler.shuffle(blocks, chance))
            alike = Alike.of(own, there)
            rows.append({"blocks": len(blocks), **vars(alike), "entropy": entropy(there.probabilities), "score": there.score})
            last += [there] if final else []
    floor = [Alike.of(a, b) for i, a in enumerate(last) for b in last[:i]]
    detail = {
        "stages": rows, "of_blocks": len(shuffler.blocks), "floor": [vars(f) for f in floor], "entropy": entropy(own.probabilities),
        "steps": case.method(True).params.get("steps"), "passes": case.passes[NAME],
    }  # fmt: skip
    return _judged(rows, [abs(f.signed) for f in floor], len(shuffler.blocks), detail)


def _judged(rows: list[dict], floor: list[float], blocks: int, detail: dict) -> Measurement:
    known = [r for r in rows if not math.isnan(r["signed"])]
    late = [abs(r["signed"]) for r in known if r["blocks"] == blocks]
    half = [abs(r["signed"]) for r in known if 2 * r["blocks"] >= blocks]
    if not late:
        text = "Networks with shuffled weights give an empty map for this image, so there is nothing to compare with."
        return Measurement(NAME, math.nan, "rank correlation", "down", "inconclusive", text, detail=detail)
    value = sum(late) / len(late)
    null = [f for f in floor if not math.isnan(f)]
    level = sum(null) / len(null) if null else None
    worst = max([value, *_means(known, blocks)])
    status: Status
    if worst >= SAME or (level is not None and level >= SAME):
        status, text = (
            "fail",
            f"A network with shuffled weights gives nearly the same map (similarity {worst:.2f}): it shows the image, not what was learned.",
        )
    elif value < CHANGED:
        status, text = "pass", f"With shuffled weights the map becomes another one (similarity {value:.2f} of 1)."
    else:
        status, text = "inconclusive", f"With shuffled weights the map changes only in part (similarity {value:.2f} of 1)."
    del half
    return Measurement(
        NAME, value, "rank correlation", "down", status, text, level, "maps of two networks shuffled independently",
        min(late), max(late), detail,
    )  # fmt: skip


def _means(rows: list[dict], blocks: int) -> list[float]:
    """Mean similarity of each stage with at least half of the blocks shuffled."""
    sizes = sorted({r["blocks"] for r in rows if 2 * r["blocks"] >= blocks})
    return [sum(abs(r["signed"]) for r in rows if r["blocks"] == s) / sum(r["blocks"] == s for r in rows) for s in sizes]


def entropy(probabilities: tuple[float, ...]) -> float | None:
    """Entropy of an output in bits, as a share of its highest; None where there are no probabilities of exclusive classes."""
    if len(probabilities) < 2 or abs(sum(probabilities) - 1) > 1e-3:
        return None
    p = torch.tensor(probabilities, dtype=torch.float64).clamp_min(1e-300)
    return float(-(p * p.log2()).sum()) / math.log2(len(p))
