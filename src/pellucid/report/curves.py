"""Curves: small plots of how a score or the probabilities change, as SVG that takes its colors from the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pellucid.explanation import Map
from pellucid.report.words import number

LEFT, RIGHT, TOP, BOTTOM = 40.0, 250.0, 8.0, 132.0
LINES = 4  # series in one plot


@dataclass(frozen=True)
class Plot:
    """An SVG, and for each point of the axis where its cursor stands: x, and y of each series."""

    svg: Markup
    marks: list[list[float]]


def plot(
    across: Sequence[float], series: Mapping[str, Sequence[float]], label: str, *, share: bool, ends: tuple[str, str], dots: bool = False
) -> Plot:
    """One line (or cloud of dots) for each series over ``across``; ``share``: the axis runs from 0 to 100 %."""
    names = list(series)[:LINES]
    low, high = _range([v for n in names for v in series[n]], share)
    x0, x1 = min(across), max(across)
    xs = [LEFT + (RIGHT - LEFT) * ((a - x0) / (x1 - x0) if x1 > x0 else 0.5) for a in across]
    ys = {n: [BOTTOM - (BOTTOM - TOP) * (v - low) / (high - low) for v in series[n]] for n in names}
    parts = []
    for at in (0.0, 0.5, 1.0):
        y = BOTTOM - (BOTTOM - TOP) * at
        said = f"{100 * at:.0f} %" if share else number(low + (high - low) * at)
        parts.append(
            Markup('<path class="grid" d="M{} {}H{}"/><text class="tick" x="{}" y="{}">{}</text>').format(
                LEFT, y, RIGHT, LEFT - 5, y + 3.5, said
            )
        )
    for k, n in enumerate(names):
        if dots:
            parts += [
                Markup('<circle class="dot-{}" cx="{}" cy="{}" r="1.8"/>').format(k, _n(x), _n(y)) for x, y in zip(xs, ys[n], strict=True)
            ]
        else:
            path = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in zip(xs, ys[n], strict=True))
            parts.append(Markup('<path class="line line-{}" d="{}"/>').format(k, path))
    at_ends = {names[0]: (LEFT, TOP - 9)} if len(names) == 1 else {n: (RIGHT + 7, y) for n, y in _apart(ys).items()}
    parts += [
        Markup('<text class="name name-{}" x="{}" y="{}">{}</text>').format(names.index(n), x, _n(y), n) for n, (x, y) in at_ends.items()
    ]
    foot = BOTTOM + 15
    parts.append(Markup('<text class="end" x="{}" y="{}">{}</text>').format(LEFT, foot, ends[0]))
    parts.append(Markup('<text class="end last" x="{}" y="{}">{}</text>').format(RIGHT, foot, ends[1]))
    parts.append(Markup('<text class="axis-name" x="{}" y="{}">{}</text>').format((LEFT + RIGHT) / 2, foot + 16, label))
    cursor = Markup("").join(
        Markup('<circle class="dot-{}" r="4" cx="{}" cy="{}"/>').format(k, _n(xs[0]), _n(ys[n][0])) for k, n in enumerate(names)
    )
    svg = Markup(
        '<svg class="curve" viewBox="0 -10 340 178" role="img" aria-label="{}">{}<g class="cursor"><path d="M{} 8V132"/>{}</g></svg>'
    ).format(f"{label}: {', '.join(names)}", Markup("").join(parts), _n(xs[0]), cursor)
    return Plot(svg, [[_n(x), *(_n(ys[n][i]) for n in names)] for i, x in enumerate(xs)])


def _n(value: float) -> float:
    return round(value, 1)


def _range(values: Sequence[float], share: bool) -> tuple[float, float]:
    low, high = (0.0, 1.0) if share else (min(values), max(values))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _apart(ys: Mapping[str, Sequence[float]], least: float = 13.0) -> dict[str, float]:
    """Names at the ends of their lines, pushed apart where they would lie on each other."""
    found: dict[str, float] = {}
    last = TOP - least
    for name in sorted(ys, key=lambda n: ys[n][-1]):
        last = max(ys[name][-1] + 3.5, last + least)
        found[name] = last
    over = max(0.0, last - BOTTOM - 3.5)
    return {n: found[n] - over for n in ys}


def removal_curves(m: Map) -> list[dict[str, Any]]:
    """Curves that the evidence recorded: the score while parts are taken away or shown, beside the mean of random orders."""
    found = []
    for row in m.evidence:
        curve, shares, chance = (row.detail.get(k) for k in ("curve", "shares", "curve_random"))
        if not isinstance(curve, list) or not isinstance(shares, list) or len(curve) < 3:
            continue
        across = shares if len(shares) == len(curve) else [0.0, *shares, 1.0]
        if len(across) != len(curve):
            continue
        lines = {"this map": [float(v) for v in curve]}
        if isinstance(chance, list) and len(chance) == len(curve):
            lines["random"] = [float(v) for v in chance]
        name = row.name.replace("_", " ")
        drawn = plot([float(a) for a in across], lines, "share of the image", share=False, ends=("none", "all"))
        found.append({"name": name, "svg": drawn.svg, "text": row.text})
    return found
