"""Importance: how much a model loses without what a column says, or how much columns do together; a number each, with intervals and words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pellucid.effects.curve import Effect
from pellucid.effects.drawing import Theme, bare, canvas, caption, colors_of, title, written
from pellucid.effects.rows import Floats
from pellucid.effects.words import joined
from pellucid.explanation import Evidence, Measurement, Provenance
from pellucid.findings import KEPT
from pellucid.table import Table

What = Literal["permutation", "interaction"]
BARS = 20  # drawn at most


@dataclass(frozen=True)
class ImportanceRow:
    """One column, group of columns or pair: its ``value`` with the 95 % interval over patients, and the spread over the shuffles.

    ``columns`` are its own; ``tells`` others that go with it (rank correlation of 0.7 or more), the closest first.
    """

    name: str
    columns: tuple[str, ...]
    value: float
    low: float
    high: float
    spread: float
    tells: tuple[str, ...] = ()

    @property
    def clear(self) -> bool:
        """Whether the interval lies above 0, by more than rounding."""
        return not math.isnan(self.low) and self.low > 1e-9


@dataclass(frozen=True, eq=False)
class Importance(Effect):
    """How much each column matters to a model: rows, the largest first.

    ``unit`` says what the values are, ``level`` what the model reaches with all columns as they are (NaN: not asked). ``draws`` (rows, repeats) are
    the values of each shuffle, in the rows' order.
    """

    kind = "importance"
    what: What
    rows: tuple[ImportanceRow, ...]
    unit: str
    score: str
    level: float
    draws: Floats = field(metadata={KEPT: True}, repr=False)
    cases: int
    patients: int
    evidence: Evidence
    network: str
    notes: tuple[str, ...]
    provenance: Provenance = field(repr=False)

    def __iter__(self) -> Iterator[ImportanceRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> ImportanceRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no {name!r}; there are {', '.join(r.name for r in self.rows)}")

    def table(self) -> Table:
        """A row each, the largest first."""
        rows = [(r.name, r.value, r.low, r.high, r.spread, ", ".join(r.tells)) for r in self.rows]
        return Table(
            ("column" if self.what == "permutation" else "pair", self.unit, "low", "high", "spread over shuffles", "goes with"), tuple(rows)
        )

    def sentences(self) -> tuple[str, ...]:
        """What was measured, and what it does not show."""
        return tuple(s for s in (self._most(), self._nothing(), self._shared(), self._limits()) if s)

    def _most(self) -> str:
        who = f"{self.cases} cases" + (f" of {self.patients} patients" if self.patients < self.cases else "")
        said = [f"{r.name} {_value(r)}" for r in self.rows[:3]]
        if self.what == "interaction":
            return f"Share of what two columns do that neither does alone ({self.unit}), in {who}: {joined(said)}."
        return f"{self.unit[0].upper() + self.unit[1:]} with a column shuffled ({self.level:.3g} with none), in {who}: {joined(said)}."

    def _nothing(self) -> str:
        weak = [r.name for r in self.rows if not r.clear and not math.isnan(r.low)]
        if self.what == "interaction" or not weak:
            return ""
        named = joined(weak) if len(weak) <= 4 else f"{len(weak)} of {len(self.rows)} columns"
        return f"Nothing is lost for sure without {named}: the interval reaches 0."

    def _shared(self) -> str:
        shared = [r for r in self.rows if r.tells]
        if self.what == "interaction" or not shared:
            return ""
        first = shared[0]
        return (
            f"{len(shared)} columns go with others ({first.name} with {joined(first.tells[:3])}): what one says the others say too, so that each alone"
            " looks less important than it is, and shuffling makes rows that do not occur. Shuffle such columns together: groups=."
        )

    def _limits(self) -> str:
        if self.what == "interaction":
            return "A strong share of a weak effect is little: look at how much there is (unnormalized) before reading it."
        return "This tells what the model uses on these cases, not what is known to cause anything; a bad model's importances say nothing of the disease."

    def figure(self, path: str | Path | None = None, *, theme: Theme = "light") -> Any:
        """Bars with their intervals, the largest first."""
        colors, shown = colors_of(theme), self.rows[:BARS]
        figure = canvas(colors, 6.2, 1.3 + 0.3 * len(shown))
        axes = bare(figure.add_subplot(), colors)
        at = np.arange(len(shown))
        axes.barh(
            at, [r.value for r in shown], 0.62, color=[colors.own if r.clear or math.isnan(r.low) else colors.gray for r in shown], zorder=2
        )
        for k, r in enumerate(shown):
            if not math.isnan(r.low):
                axes.plot([r.low, r.high], [k, k], color=colors.ink, linewidth=1.3, zorder=3)
        axes.axvline(0, color=colors.soft, linewidth=0.8)
        axes.set_yticks(at, [r.name + (" *" if r.tells else "") for r in shown], color=colors.ink, fontsize=9)
        axes.invert_yaxis()
        axes.grid(axis="x", color=colors.line, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(self.unit, fontsize=9.5, color=colors.ink)
        said = "Permutation importance" if self.what == "permutation" else "Interaction (Friedman's H)"
        title(figure, colors, f"{said}: {self.score}" if len(self.score) < 34 else said)
        more = f" {len(self.rows) - len(shown)} more are not drawn." if len(self.rows) > len(shown) else ""
        star = " * goes with other columns: alone it looks less important than it is." if any(r.tells for r in shown) else ""
        gray = " Gray: the interval reaches 0." if any(not r.clear and not math.isnan(r.low) for r in shown) else ""
        lines = " Lines: 95 % intervals over patients." if any(not math.isnan(r.low) for r in shown) else ""
        caption(figure, colors, f"{self.cases} cases.{lines}{gray}{star}{more}")
        return written(figure, path)


def _value(row: ImportanceRow) -> str:
    return f"{row.value:.3g}" if math.isnan(row.low) else f"{row.value:.3g} [{row.low:.3g}, {row.high:.3g}]"


def evidence_of(rows: Sequence[ImportanceRow], unit: str, level: float | None = None) -> Evidence:
    """The rows as measurements; supported if one lies above 0 for sure, questionable if columns go together."""
    each = []
    for r in rows:
        status: Any = "pass" if r.clear else "inconclusive"
        low, high = (None, None) if math.isnan(r.low) else (r.low, r.high)
        said = f"{r.name}: {_value(r)} {unit}."
        each.append(Measurement(r.name, r.value, unit, "up", status, said, 0.0, "no loss", low, high))
    reasons = []
    if any(r.tells for r in rows):
        reasons.append(f"{sum(bool(r.tells) for r in rows)} of {len(rows)} columns go with others.")
    if not any(r.clear for r in rows):
        reasons.append("No value lies above 0 for sure.")
    verdict: Any = "questionable" if reasons else "supported"
    return Evidence("quick", tuple(each), verdict, tuple(reasons))
