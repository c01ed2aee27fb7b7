"""An additive model as a result: a curve for each column, a surface for each pair, and how good their sum is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.effects.curve import Effect
from pellucid.effects.drawing import Colors, Theme, bare, canvas, caption, colors_of, title, written
from pellucid.effects.rows import Column, Floats, as_rows
from pellucid.effects.words import amount, joined
from pellucid.explanation import Evidence, Provenance
from pellucid.findings import KEPT
from pellucid.intervals import Interval
from pellucid.table import Table

CURVES, PAIRS = 6, 3  # drawn at most


@dataclass(frozen=True, eq=False)
class Shape:
    """What a column adds: ``values`` (bins + 2,) of missing ones, of each bin between ``cuts`` (or category of ``labels``), of unknown ones.

    ``spread`` is the standard deviation over bags, ``weights`` the cases in each, ``bounds`` the lowest and highest value seen, ``importance`` the
    mean of |what it adds|.
    """

    column: str
    cuts: Floats
    labels: tuple[str, ...]
    bounds: tuple[float, float]
    values: Floats
    spread: Floats
    weights: Floats
    importance: float

    @property
    def steps(self) -> tuple[Floats, Floats, Floats]:
        """Edges (bins + 1,), what is added between them (bins,), and its spread."""
        edges = np.concatenate([[self.bounds[0]], self.cuts, [self.bounds[1]]])
        return edges, self.values[1:-1], self.spread[1:-1]


@dataclass(frozen=True, eq=False)
class Pair:
    """What two columns add together beyond each alone: ``values`` (bins + 2, bins + 2), as in ``Shape``."""

    columns: tuple[str, str]
    cuts: tuple[Floats, Floats]
    labels: tuple[tuple[str, ...], tuple[str, ...]]
    bounds: tuple[tuple[float, float], tuple[float, float]]
    values: Floats = field(metadata={KEPT: True}, repr=False)
    importance: float

    @property
    def name(self) -> str:
        return " x ".join(self.columns)


@dataclass(frozen=True, eq=False)
class Additive(Effect):
    """An additive model: ``score = intercept + sum of shapes + sum of pairs``, the most important first.

    ``quality`` is ``metric`` on patients that nothing was fitted on (none: not tried).
    """

    kind = "additive"
    shapes: tuple[Shape, ...]
    pairs: tuple[Pair, ...]
    intercept: float
    score: str
    quality: Interval
    metric: str
    evidence: Evidence
    network: str
    provenance: Provenance = field(repr=False)

    def judged(self, quality: Interval, metric: str, score: str, evidence: Evidence, provenance: Provenance, seed: int) -> Additive:
        """The same model with what was found out about it."""
        return replace(self, quality=quality, metric=metric, score=score, evidence=evidence, provenance=replace(provenance, seed=seed))

    def contributions(self, rows: Any) -> dict[str, Floats]:
        """What each term adds to each row's score, (n,) by the term's name.

        Raises:
            BadParameter: rows without a column of the model.
        """
        table = as_rows(rows)
        found = {s.column: s.values[_bins(table[s.column], s.cuts, s.labels)] for s in self.shapes}
        for p in self.pairs:
            at = [_bins(table[c], cuts, labels) for c, cuts, labels in zip(p.columns, p.cuts, p.labels, strict=True)]
            found[p.name] = p.values[at[0], at[1]]
        return found

    def answers(self, rows: Any) -> Floats:
        """The model's score of each row (n,): intercept and all terms."""
        return np.asarray(self.intercept + np.sum(list(self.contributions(rows).values()), axis=0))

    def table(self) -> Table:
        """A row for each term."""
        rows = [(s.column, "curve", s.importance) for s in self.shapes] + [(p.name, "pair", p.importance) for p in self.pairs]
        return Table(("term", "kind", "mean of what it adds"), tuple(sorted(rows, key=lambda r: -r[2])))

    def sentences(self) -> tuple[str, ...]:
        """How good it is, what it says, and what it does not show."""
        good = "It was not tried on other patients: read its curves with that in mind."
        if not math.isnan(self.quality.value):
            good = f"On {self.quality.patients} patients that nothing was fitted on its {self.metric} is {self.quality}."
        if self.evidence.verdict == "not supported":
            good += " Do not read its curves."
        said = [f"{s.column} ({_way(s)})" for s in self.shapes[:3]]
        terms = f"The {self.score} is a sum of {len(self.shapes)} curves and {len(self.pairs)} pairs; most is added by {joined(said)}."
        total = sum(s.importance for s in self.shapes) + sum(p.importance for p in self.pairs)
        pairs = ""
        if self.pairs and total > 0:
            share = sum(p.importance for p in self.pairs) / total
            pairs = f"Pairs make {share:.0%} of what is added, most of it {self.pairs[0].name}."
        limit = "Columns that go together share their effect. The bands are spreads over bags of the same patients, no intervals."
        return tuple(s for s in (good, terms, pairs, limit) if s)

    def figure(self, path: str | Path | None = None, *, theme: Theme = "light") -> Any:
        """The most important curves, then the most important pairs, on one scale of the score."""
        colors = colors_of(theme)
        shown: list[Shape | Pair] = [*self.shapes[:CURVES], *self.pairs[:PAIRS]]
        down = -(-len(shown) // 3)
        figure = canvas(colors, 9.6, 0.9 + 2.5 * down)
        grid = figure.subplots(down, 3, squeeze=False)
        for axes, term in zip(grid.flat, shown, strict=False):
            _draw(bare(axes, colors), term, colors, figure)
        for axes in list(grid.flat)[len(shown) :]:
            axes.set_visible(False)
        tops = [max(abs(v) for v in a.get_ylim()) for a, t in zip(grid.flat, shown, strict=False) if isinstance(t, Shape)]
        for axes, term in zip(grid.flat, shown, strict=False):
            if isinstance(term, Shape):
                axes.set_ylim(-max(tops), max(tops))
        title(figure, colors, f"What each term adds to the {self.score}")
        caption(figure, colors, " ".join(self.sentences()[:1]) + " Bands: spread over bags. Gray below: where cases are.")
        return written(figure, path)


def _bins(values: Column, cuts: Floats, labels: Sequence[str]) -> Any:
    """Place of each value among a term's bins: 0 missing, then bins, last unknown."""
    if labels:
        place = {one: k + 1 for k, label in enumerate(labels) for one in label.split(" or ")}
        return np.array([0 if v is None else place.get(str(v), len(labels) + 1) for v in values.tolist()])
    x = values.astype(np.float64)
    return np.where(np.isnan(x), 0, np.searchsorted(cuts, np.nan_to_num(x), side="right") + 1)


def _way(shape: Shape) -> str:
    """Where a curve is lowest and highest."""
    edges, values, _ = shape.steps if not shape.labels else (np.empty(0), shape.values[1:-1], shape.values)
    low, high = int(values.argmin()), int(values.argmax())
    if shape.labels:
        return f"lowest {shape.labels[low]}, highest {shape.labels[high]}"
    return f"{values[low]:+.2g} near {amount(float(edges[low : low + 2].mean()))}, {values[high]:+.2g} near {amount(float(edges[high : high + 2].mean()))}"


def _draw(axes: Any, term: Shape | Pair, colors: Colors, figure: Any) -> None:
    if isinstance(term, Pair):
        _pair(axes, term, colors, figure)
        return
    axes.axhline(0, color=colors.soft, linewidth=0.7)
    if term.labels:
        at = np.arange(len(term.labels))
        axes.bar(at, term.values[1:-1], 0.6, yerr=term.spread[1:-1], color=colors.own, ecolor=colors.ink)
        axes.set_xticks(at, term.labels, color=colors.ink, fontsize=8)
    else:
        edges, values, spread = term.steps
        axes.stairs(values + spread, edges, baseline=values - spread, color=colors.own, alpha=0.22, fill=True)
        axes.stairs(values, edges, baseline=None, color=colors.own, linewidth=2)
        heavy = term.weights[1:-1]
        below = axes.get_xaxis_transform()
        density = heavy / np.maximum(np.diff(edges), 1e-300)
        axes.stairs(0.14 * density / max(float(density.max()), 1e-300), edges, fill=True, color=colors.gray, alpha=0.45, transform=below)
    axes.set_title(term.column, fontsize=9, color=colors.ink, loc="left")
    axes.grid(axis="y", color=colors.line, linewidth=0.5)
    axes.set_axisbelow(True)


def _pair(axes: Any, term: Pair, colors: Colors, figure: Any) -> None:
    inner = term.values[1:-1, 1:-1]
    top = float(np.abs(inner).max()) or 1.0
    edges = [
        np.arange(len(n) + 1) - 0.5 if n else np.concatenate([[b[0]], c, [b[1]]])
        for c, n, b in zip(term.cuts, term.labels, term.bounds, strict=True)
    ]
    drawn = axes.pcolormesh(edges[0], edges[1], inner.T, cmap="PuOr_r", vmin=-top, vmax=top)
    for names, ticks in zip(term.labels, (axes.set_xticks, axes.set_yticks), strict=True):
        if names:
            ticks(np.arange(len(names)), names)
    axes.set_xlabel(term.columns[0], fontsize=8, color=colors.ink)
    axes.set_ylabel(term.columns[1], fontsize=8, color=colors.ink)
    bar = figure.colorbar(drawn, ax=axes)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=colors.soft, labelsize=7, length=0)
    axes.set_title(term.name if len(term.name) < 30 else "together", fontsize=9, color=colors.ink, loc="left")
