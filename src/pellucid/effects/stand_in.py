"""A surrogate as a result: its terms or its tree, how faithful and how stable it is, and whether it may be read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pellucid.effects.curve import Effect
from pellucid.effects.drawing import bare, canvas, caption, colors_of, title, written
from pellucid.effects.trees import Tree
from pellucid.effects.words import joined
from pellucid.explanation import Evidence, Provenance
from pellucid.intervals import Interval
from pellucid.table import Table

POOR, GOOD = 0.5, 0.8  # lower end of R² on other patients: below the first it is not to be read, from the second on it is
REFUSAL = "Do not read it"


@dataclass(frozen=True)
class Term:
    """A column of a surrogate: its ``weight`` (per standard deviation; of a tree its share of the importance), how often draws of other patients
    ``chosen`` it, and how often with the same ``sign``."""

    column: str
    weight: float
    chosen: float
    sign: float


@dataclass(frozen=True)
class Stability:
    """Over ``draws`` of patients with replacement, means: shared columns (Jaccard), same ``first`` question, same first three questions (``top``),
    rank correlation of all columns' weights, and R² of the answers with those of the one that is shown."""

    draws: int
    columns: float
    first: float
    top: float
    ranks: float
    answers: float


@dataclass(frozen=True, eq=False)
class Surrogate(Effect):
    """A stand-in for a network on rows of features.

    ``fidelity`` is R² on patients that it was not fitted on, ``agreement`` the share of them on whom it decides as the network does (``always``: what
    one answer for all would reach). ``readable`` says whether it may be read at all.
    """

    kind = "surrogate"
    form: Literal["tree", "linear"]
    score: str
    fidelity: Interval
    agreement: Interval
    always: float
    terms: tuple[Term, ...]
    intercept: float
    tree: Tree | None
    stability: Stability
    cases: int
    patients: int
    evidence: Evidence
    network: str
    provenance: Provenance = field(repr=False)

    @property
    def readable(self) -> bool:
        """Whether its fidelity is fair for sure: the lower end of the interval lies at 0.5 or above."""
        return self.fidelity.low >= POOR

    def rules(self) -> tuple[str, ...]:
        """The tree's rules, or the linear model as one line."""
        if self.tree is not None:
            return self.tree.rules()
        said = " ".join(f"{'+' if t.weight >= 0 else '-'} {abs(t.weight):.3g} per standard deviation of {t.column}" for t in self.terms)
        return (f"{self.score} = {self.intercept:.4g} {said}".strip(),)

    def table(self) -> Table:
        """A row for each column that it uses."""
        word = "share of importance" if self.form == "tree" else "weight per standard deviation"
        rows = [(t.column, t.weight, t.chosen, t.sign) for t in self.terms]
        return Table(("column", word, "chosen in draws", "same sign"), tuple(rows))

    def sentences(self) -> tuple[str, ...]:
        """Fidelity first, then whether it may be read, stability, and what it does not show."""
        kind = "A tree" if self.form == "tree" else f"{len(self.terms)} weights"
        who = f"{self.cases} cases" + (f" of {self.patients} patients" if self.patients < self.cases else "")
        ends = "" if math.isnan(self.fidelity.low) else f" [{self.fidelity.low:.2f}, {self.fidelity.high:.2f}]"
        first = f"{kind} for the network's {self.score} in {who}: R² {self.fidelity.value:.2f}{ends} on patients not fitted on."
        if not math.isnan(self.agreement.value):
            first = f"{first[:-1]}; it decides as the network does in {self.agreement.value:.0%} (one answer for all: {self.always:.0%})."
        if not self.readable:
            missing = "too few patients to tell its fidelity" if math.isnan(self.fidelity.low) else "it does not follow the network"
            return (first, f"{REFUSAL}: {missing}. What it says of columns would be about itself.")
        return (
            first,
            self._uses(),
            self._stays(),
            "Columns that go together can stand in for each other: it tells how the answers can be had, not how the network comes to them.",
        )

    def _uses(self) -> str:
        if not self.terms:
            return "It uses no column: the scores hardly vary."
        return f"It uses {joined([t.column for t in self.terms[:6]])}{' ...' if len(self.terms) > 6 else ''}."

    def _stays(self) -> str:
        s = self.stability
        if not s.draws:
            return ""
        first = f", the first question is about the same column in {s.first:.0%}" if self.form == "tree" else ""
        shaky = " It is one of several that say the same: read the answers, not the columns." if s.columns < GOOD else ""
        return f"In {s.draws} draws of patients {s.columns:.0%} of the columns are shared{first}; answers agree with R² {s.answers:.2f}.{shaky}"

    def figure(self, path: str | Path | None = None, *, theme: Any = "light") -> Any:
        """The tree's SVG text, or bars of the weights; one that is not to be read says so in the picture."""
        if self.tree is not None:
            return self.tree.figure(path, theme=theme)
        colors = colors_of(theme)
        figure = canvas(colors, 6.2, 1.6 + 0.34 * len(self.terms))
        axes = bare(figure.add_subplot(), colors)
        at = np.arange(len(self.terms))
        fill = [colors.own if t.weight >= 0 else colors.other for t in self.terms] if self.readable else colors.gray
        axes.barh(at, [t.weight for t in self.terms], 0.6, color=fill)
        axes.set_yticks(at, [f"{t.column}  ({t.chosen:.0%} of draws)" for t in self.terms], color=colors.ink, fontsize=9)
        axes.invert_yaxis()
        axes.axvline(0, color=colors.soft, linewidth=0.8)
        axes.set_xlabel(f"{self.score} per standard deviation", fontsize=9.5, color=colors.ink)
        said = f"Linear surrogate, R² {self.fidelity.value:.2f} on other patients" + ("" if self.readable else f". {REFUSAL.upper()}")
        title(figure, colors, said)
        caption(figure, colors, " ".join(self.sentences()[:1] if self.readable else self.sentences()))
        return written(figure, path)
