"""Baseline spread: how far does a map change with the baseline that somebody chose?"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

from torch import Tensor

from pellucid.baseline import Constant, Starts, black, white
from pellucid.baseline import random as random_start
from pellucid.evidence.metric import MAPS_ANEW, Price, metric
from pellucid.evidence.panel import Entry, Panel
from pellucid.explanation import Measurement, Status
from pellucid.method import Cite
from pellucid.ops.similarity import spearman

NAME, UNIT = "baseline_spread", "1 - rank correlation"
STEADY, LOOSE = 0.3, 0.5
COUNT = 4


@metric(
    cite=Cite("Sturmfels, Lundberg, Lee", 2020, "Visualizing the impact of feature attribution baselines", "Distill"),
    unit=UNIT,
    better="down",
    reference="1, what unrelated maps have",
    needs=MAPS_ANEW,
    price=lambda **_: Price(anew=COUNT, at_most=True),
    random=True,
)
def baseline_spread(panel: Panel) -> dict[str, Measurement]:
    """How far a map depends on the choice of its baseline: 0 where all give the same, 1 where they have nothing in common.

    ``1 - mean over pairs of spearman(a_b, a_c)`` of the maps (*space), with signs, from black, white, each channel's mean, and uniform noise. The
    detail holds each pair and the correlation of the map as given with each. A pass is at most 0.3, a failure above 0.5.

    **Misleads when**: the spread is small because the network ignores what the baselines change; it does not say which baseline is right.
    **Source**: the question is that of Sturmfels, Lundberg and Lee 2020; the number is ours. Methods without a baseline are void.
    """
    mean = Constant(tuple(float(v) for v in panel.x.double().flatten(1).mean(1)))
    starts: dict[str, Starts] = {"black": black, "white": white, "mean": mean, "random": random_start(1)}
    found = {n: _hollow(panel.entries[n]) for n in panel.names}
    asked = {n: e for n, e in panel.entries.items() if found[n] is None and e.ask is not None}
    entries = {
        f"{n} {b}": replace(e, map=None, ask=replace(e.ask, method=e.ask.method(baseline=s)))
        for n, e in asked.items()
        if e.ask is not None
        for b, s in starts.items()
    }
    maps = replace(panel, entries=entries).anew(list(entries), [panel.x]) if entries else {}
    return {n: m or _measured(panel.relevance(n), {b: maps[f"{n} {b}"][0] for b in starts}) for n, m in found.items()}


def _hollow(entry: Entry) -> Measurement | None:
    """Why there is no number for this map; None where there is."""
    low, high = float(entry.relevance.min()), float(entry.relevance.max())
    if low == high:
        text = "The map has one value everywhere: there is nothing to compare."
    elif entry.ask is None or "baseline" not in entry.ask.method.params:
        text = "Nothing is chosen here: the map was made without a baseline."
    else:
        return None
    return Measurement(NAME, math.nan, UNIT, "down", "void", text, 1.0, "unrelated maps")


def _measured(own: Tensor, maps: dict[str, Tensor]) -> Measurement:
    pairs = {f"{b} - {c}": spearman(maps[b], maps[c]) for b, c in itertools.combinations(maps, 2)}
    detail = {"pairs": pairs, "as_given": {b: spearman(own, m) for b, m in maps.items()}}
    value = 1 - sum(pairs.values()) / len(pairs)
    if math.isnan(value):
        text = "A baseline gives a map with one value everywhere: there is nothing to compare."
        return Measurement(NAME, math.nan, UNIT, "down", "void", text, 1.0, "unrelated maps", detail=detail)
    status: Status = "pass" if value <= STEADY else "fail" if value > LOOSE else "inconclusive"
    least = min(pairs, key=lambda k: pairs[k])
    text = f"Over four baselines the map keeps a rank correlation of {1 - value:.2f} with itself on average, least ({pairs[least]:.2f}) for {least}."
    return Measurement(NAME, value, UNIT, "down", status, text, 1.0, "unrelated maps", detail=detail)
