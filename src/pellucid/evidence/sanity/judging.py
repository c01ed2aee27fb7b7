"""From a cascade to pass, fail, inconclusive or void, in words that say both: the upper blocks alone, and all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pellucid.evidence.sanity.cascade import Order
from pellucid.explanation import Measurement, Status

SAME, CHANGED = 0.7, 0.5  # of rank correlation: above, a randomized network gives this map too; below, another one
KEPT = 0.25  # of rank correlation above the floor: less, and nothing of the map is left
UNMOVED = 0.02  # of the score: a randomized network that answers so alike has not been randomized


@dataclass(frozen=True)
class Finding:
    """What was measured of one map: a row a stage, the floors, the network's own score, and what holds for all maps."""

    order: Order
    blocks: int
    rows: list[dict[str, Any]]
    floors: dict[str, dict[str, Any]]
    score: float
    facts: dict[str, Any]
    head: dict[str, Any]

    @property
    def complete(self) -> dict[str, Any] | None:
        """The stage where all is randomized."""
        return next((r for r in self.rows if r["blocks"] == self.blocks), None)

    @property
    def top(self) -> dict[str, Any] | None:
        """The stage where the upper half alone is randomized, rounded down; None where there is no such half."""
        if self.order != "top-down":
            return None
        return next((r for r in reversed(self.rows) if 2 * r["blocks"] <= self.blocks), None)

    @property
    def level(self) -> float:
        """The highest floor among maps of independent networks and maps of different images; 0 where neither was measured."""
        known = [self.floors[k]["similarity"] for k in ("networks", "images") if k in self.floors]
        return max([0.0, *[k for k in known if not math.isnan(k)]])


def judged(finding: Finding) -> Measurement:
    """The measurement of one map."""
    f = finding
    last = f.complete if f.order != "independent" else None
    value = last["similarity"] if last else _mean([r["similarity"] for r in f.rows])
    detail = f.facts | {"stages": f.rows, "floors": f.floors, "top": f.top, "complete": last}
    detail |= {"head": f.head} if f.head else {}
    level = f.floors.get("networks", {}).get("similarity")
    against = "maps of two networks randomized independently"
    if "images" in f.floors:
        level, against = f.level, "maps of two networks randomized independently or of different images, the higher"
    low: float | None = last["low"] if last else min((r["low"] for r in f.rows), default=math.nan)
    high: float | None = last["high"] if last else max((r["high"] for r in f.rows), default=math.nan)
    status, text = _said(f, value)
    if status == "void":
        value = math.nan
    if low is None or high is None or math.isnan(low) or status == "void":
        low = high = None
    else:
        low, high = max(0.0, low), min(1.0, high)
    level = None if level is None or math.isnan(level) else level
    return Measurement("model_randomization", value, "rank correlation", "down", status, text, level, against, low, high, detail)


def _said(f: Finding, value: float) -> tuple[Status, str]:
    if f.order == "independent":
        return _independent(f, value)
    last = f.complete
    assert last is not None
    if all(abs(s - f.score) <= UNMOVED * abs(f.score) for s in last["score"]):
        return "void", "Randomizing all weights leaves the network's answer as it was, so nothing follows from its maps."
    top = f.top["similarity"] if f.top else math.nan
    upper = f"with the upper {f.top['blocks']} of {f.blocks} blocks randomized" if f.top else ""
    late = [r["similarity"] for r in f.rows if 2 * r["blocks"] >= f.blocks and not math.isnan(r["similarity"])]
    worst = max(
        [*late, f.floors.get("networks", {}).get("similarity", math.nan)], key=lambda v: -1.0 if math.isnan(v) else v, default=math.nan
    )
    if worst >= SAME:
        return (
            "fail",
            f"A network with randomized weights gives nearly the same map (similarity {worst:.2f} of 1): it shows the image, not what was learned.",
        )
    if top >= max(CHANGED, f.level):
        then = f"with all randomized it becomes {'another one' if value < CHANGED else 'one like it in part'} (similarity {value:.2f})"
        then = "networks with all weights randomized give an empty map" if math.isnan(value) else then
        return "fail", f"The map stays much as it is {upper} (similarity {top:.2f} of 1), so it tells little of what they learned; {then}."
    if math.isnan(value):
        return "inconclusive", "Networks with randomized weights give an empty map for this image, so there is nothing to compare with."
    if value >= CHANGED:
        return "inconclusive", f"With randomized weights the map changes only in part (similarity {value:.2f} of 1)."
    if top >= f.level + KEPT:
        return "inconclusive", f"The map keeps a part of itself {upper} (similarity {top:.2f} of 1); with all randomized it is {value:.2f}."
    if math.isnan(top):
        return "pass", f"With randomized weights the map becomes another one (similarity {value:.2f} of 1)."
    return "pass", f"The map becomes another one {upper} (similarity {top:.2f} of 1), and with all of them ({value:.2f})."


def _independent(f: Finding, value: float) -> tuple[Status, str]:
    known = [r for r in f.rows if not math.isnan(r["similarity"])]
    if not known:
        return "inconclusive", "Networks with one randomized block give an empty map for this image, so there is nothing to compare with."
    least = min(r["similarity"] for r in known)
    if least >= SAME:
        return "fail", f"Whichever single block is randomized, the map stays nearly the same (similarity {least:.2f} of 1 or more)."
    if value < CHANGED:
        return "pass", f"With a single block randomized the map becomes another one (similarity {value:.2f} of 1 on average)."
    return "inconclusive", f"With a single block randomized the map changes in part (similarity {value:.2f} of 1 on average)."


def _mean(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan
