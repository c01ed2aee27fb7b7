"""Maps made anew of changed images, one group after another, and how far they moved."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from pellucid.asking import explain_all
from pellucid.evidence.panel import Panel
from pellucid.explanation import Direction, Measurement, Status
from pellucid.method import Ask, read_method

GROUP = 8  # images whose maps are held at once
STEADY = 0.5  # of the way to an unrelated map: closer, the map has stayed
AGAINST = "a map with the same values in random places"


def remade(panel: Panel) -> list[str]:
    """Names of the maps that can be made anew; a control of another network cannot."""
    return [n for n, e in panel.entries.items() if e.map is not None or e.draws is not None or e.after is not None]


def anew(panel: Panel, images: Iterable[Tensor]) -> Iterator[dict[str, Tensor]]:
    """For each image (c, *space) every map that can be made anew; only a group of them is held."""
    source, names = iter(images), remade(panel)
    while group := list(itertools.islice(source, GROUP)):
        found = panel.anew(names, group)
        yield from ({n: found[n][k] for n in names} for k in range(len(group)))


def unrelated(a: Tensor) -> float:
    """``|a' - a|_2 / |a|_2`` for a' with the same values in random places, on average; NaN for an empty map.

    ``sqrt(2 (1 - mean(a)^2 / mean(a^2)))`` (over n - 1 of n places, which makes no difference here).
    """
    v = a.double()
    square = float((v * v).mean())
    if not square > 0 or not math.isfinite(square):
        return math.nan
    return math.sqrt(max(0.0, 2 * (1 - float(v.mean()) ** 2 / square)))


def moved(a: Tensor, b: Tensor) -> float:
    """``|b - a|_2 / |a|_2``; NaN where ``a`` is zero."""
    size = float(a.double().norm())
    return float((b.double() - a.double()).norm()) / size if size > 0 else math.nan


def judged(name: str, unit: str, value: float, level: float, text: str, detail: Mapping[str, Any]) -> Measurement:
    """A distance held against that of an unrelated map; a map with one value everywhere has none."""
    if math.isnan(value) or not level > 1e-9:
        return hollow(name, unit, "down")
    status: Status = "pass" if value <= STEADY * level else "fail" if value >= level else "inconclusive"
    return Measurement(name, value, unit, "down", status, text, level, AGAINST, detail=detail)


def hollow(name: str, unit: str, better: Direction) -> Measurement:
    """The map marks nothing."""
    text = "The map has one value everywhere, or holds values that are no numbers: it cannot change or stay."
    return Measurement(name, math.nan, unit, better, "void", text)


def foreign(name: str, unit: str, better: Direction) -> Measurement:
    """A control that answers no question of this network."""
    text = "This control is a map of another network; it is not asked again."
    return Measurement(name, math.nan, unit, better, "void", text)


def score_slope(panel: Panel) -> Tensor:
    """Gradient of the score at the image (c, *space): one pass forward and back, for all maps and metrics."""
    key = "robustness: slope of the score"
    if key not in panel.kept:
        scan = panel.image.with_values(panel.x.detach().cpu())
        model, run = replace(panel.model, prepare=None), replace(panel.run, on_tick=None)
        (found,) = explain_all(model, [scan], [Ask(read_method("saliency"), panel.target)], run)
        panel.kept[key] = found.values.to(panel.x)
        for kind, passes in (("forward", found.provenance.forward), ("backward", found.provenance.backward)):
            panel.spent[kind] = panel.spent.get(kind, 0) + passes
    slope: Tensor = panel.kept[key]
    return slope
