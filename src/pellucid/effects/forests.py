"""Importance in a forest, two ways side by side: what impurity says of the cases it was fitted on, and what is lost without a column on others."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.effects.curve import Effect
from pellucid.effects.drawing import Theme, bare, canvas, caption, colors_of, legend, title, written
from pellucid.effects.permutation import permutation_importance
from pellucid.effects.rows import Floats, as_rows
from pellucid.effects.words import joined
from pellucid.errors import BadModel, BadParameter
from pellucid.explanation import Evidence, Measurement, Provenance
from pellucid.ops.similarity import spearman
from pellucid.run import Run
from pellucid.table import Table

CITE = "Strobl et al. 2007, Bias in random forest variable importance measures, BMC Bioinformatics 8:25"
BARS = 20
APART = 3  # ranks by which the two must differ before it is said


@dataclass(frozen=True)
class ForestRow:
    """A column: its share of the forest's decrease of ``impurity``, the most that impurity gave a shuffled copy of it (``noise``; NaN: not
    asked), and the loss when it is shuffled (``permuted``) with its 95 % interval over patients."""

    column: str
    impurity: float
    noise: float
    permuted: float
    low: float
    high: float
    values: int

    @property
    def clear(self) -> bool:
        """Whether something is lost without it for sure."""
        return not math.isnan(self.low) and self.low > 1e-9


@dataclass(frozen=True, eq=False)
class ForestImportance(Effect):
    """A forest's columns by impurity and by permutation, the largest loss first; ``agree`` is the rank correlation of the two."""

    kind = "forest_importance"
    rows: tuple[ForestRow, ...]
    unit: str
    score: str
    level: float
    agree: float
    cases: int
    patients: int
    evidence: Evidence
    network: str
    provenance: Provenance = field(repr=False)

    def __iter__(self) -> Iterator[ForestRow]:
        return iter(self.rows)

    def __getitem__(self, column: str) -> ForestRow:
        for row in self.rows:
            if row.column == column:
                return row
        raise KeyError(f"no {column!r}; there are {', '.join(r.column for r in self.rows)}")

    def overrated(self) -> tuple[ForestRow, ...]:
        """Columns that impurity ranks at least three places higher than permutation does, and without which nothing is lost for sure."""
        by = sorted(self.rows, key=lambda r: -r.impurity)
        found = [r for k, r in enumerate(by) if not r.clear and self.rows.index(r) - k >= APART]
        return tuple(found)

    def table(self) -> Table:
        """A row each."""
        rows = [(r.column, r.impurity, r.noise, r.permuted, r.low, r.high, r.values) for r in self.rows]
        return Table(("column", "impurity", "impurity of noise", self.unit, "low", "high", "different values"), tuple(rows))

    def sentences(self) -> tuple[str, ...]:
        """What both say, where they part, and what impurity gets wrong."""
        who = f"{self.cases} cases" + (f" of {self.patients} patients" if self.patients < self.cases else "")
        best, first = max(self.rows, key=lambda r: r.impurity), self.rows[0]
        lost = f"{first.permuted:.3g}" + ("" if math.isnan(first.low) else f" [{first.low:.3g}, {first.high:.3g}]")
        said = f"By impurity {best.column} comes first ({best.impurity:.0%} of the decrease); in {who} {self.unit} is largest without {first.column}: {lost}."
        both = f"The two orders agree with a rank correlation of {self.agree:.2f}."
        over = self.overrated()
        parted = ""
        if over:
            words = [f"{r.column} ({r.values} different values)" for r in over[:3]]
            parted = f"Impurity sets {joined(words)} high, without which nothing is lost for sure."
        noise = [r.noise for r in self.rows if not math.isnan(r.noise)]
        shadow = ""
        if noise:
            below = sum(r.impurity <= max(noise) for r in self.rows)
            shadow = f"A shuffled copy of a column, which tells nothing, gets up to {max(noise):.1%} of the decrease; {below} of {len(self.rows)} columns get no more."
        limit = (
            "Impurity is worked out on the cases that the forest was fitted on: it never says 0, favors columns of many values, and shares among columns that"
            " go together. Permutation shares too: see permutation_importance(groups=)."
        )
        return tuple(s for s in (said, both, parted, shadow, limit) if s)

    def figure(self, path: str | Path | None = None, *, theme: Theme = "light") -> Any:
        """Both orders side by side, a row for each column."""
        colors, shown = colors_of(theme), self.rows[:BARS]
        figure = canvas(colors, 8.2, 1.6 + 0.28 * len(shown))
        left, right = figure.subplots(1, 2, sharey=True)
        at = np.arange(len(shown))
        bare(left, colors).barh(at, [r.impurity for r in shown], 0.62, color=colors.other, alpha=0.85)
        noise = [r.noise for r in shown]
        if not all(map(math.isnan, noise)):
            left.plot(noise, at, "|", color=colors.ink, markersize=11, label="a shuffled copy")
        bare(right, colors).barh(at, [r.permuted for r in shown], 0.62, color=[colors.own if r.clear else colors.gray for r in shown])
        for k, r in enumerate(shown):
            if not math.isnan(r.low):
                right.plot([r.low, r.high], [k, k], color=colors.ink, linewidth=1.2)
        right.axvline(0, color=colors.soft, linewidth=0.8)
        left.set_yticks(at, [r.column for r in shown], color=colors.ink, fontsize=9)
        left.invert_yaxis()
        for axes, words in ((left, "share of the decrease of impurity"), (right, self.unit)):
            axes.set_xlabel(words, fontsize=9, color=colors.ink)
            axes.grid(axis="x", color=colors.line, linewidth=0.6)
            axes.set_axisbelow(True)
        legend(left, colors)
        title(
            figure, colors, f"Impurity (on its own cases) against permutation (on {self.cases} others): rank correlation {self.agree:.2f}"
        )
        more = f" {len(self.rows) - len(shown)} more are not drawn." if len(self.rows) > len(shown) else ""
        caption(figure, colors, f"Lines: 95 % intervals over patients. Gray: nothing is lost for sure.{more}")
        return written(figure, path)


def forest_importance(
    forest: Any, rows: Any, truth: Sequence[Any] | str, *, fitted_on: tuple[Any, Any] | None = None, target: Any = None,
    classes: Sequence[str] = (), metric: Any = None, repeats: int = 10, patients: Sequence[Hashable] | str | None = None, run: Run | None = None,
) -> ForestImportance:  # fmt: skip
    """A forest's importance by impurity beside that by permutation on cases that it was not fitted on.

    Args:
        forest: a fitted model of trees with ``feature_importances_``.
        rows, truth: cases that it was not fitted on, as ``permutation_importance``; so are ``target``, ``classes``, ``metric``, ``repeats``,
            ``patients``, ``run``.
        fitted_on: rows and truth that it was fitted on: a forest of the same settings is then fitted with a shuffled copy of every column, which
            shows how much impurity gives to what tells nothing.

    Raises:
        BadModel: no model of trees; BadParameter, BadTarget: as ``permutation_importance``.

    **Misleads when**: ``rows`` are those that it was fitted on; columns go together, for both ways.

    **Source**: Breiman 2001; what impurity gets wrong: Strobl et al. 2007; shuffled copies: Kursa and Rudnicki 2010 (Boruta).
    """
    if not hasattr(forest, "feature_importances_"):
        raise BadModel("a fitted model of trees, with feature_importances_", type(forest).__name__, "Ask permutation_importance(...).")
    run = run or Run()
    lost = permutation_importance(
        forest, rows, truth, target=target, classes=classes, metric=metric, repeats=repeats, patients=patients, run=run
    )  # fmt: skip
    apart = [n for n in (patients, truth) if isinstance(n, str)]
    table = as_rows(rows, without=apart)
    own = dict(zip(table.names, np.asarray(forest.feature_importances_, dtype=np.float64).tolist(), strict=True))
    noise = dict(zip(table.names, _noise(forest, fitted_on, len(table.names), run.seed), strict=True))
    found = tuple(
        ForestRow(r.name, own[r.name], noise[r.name], r.value, r.low, r.high, len(np.unique(table[r.name].astype(str)))) for r in lost.rows
    )
    agree = _ranks(np.array([r.impurity for r in found]), np.array([r.permuted for r in found]))
    said = f"Impurity and permutation order the columns with a rank correlation of {agree:.2f}."
    row = Measurement("orders_agree", agree, "rank correlation", "up", "pass" if agree >= 0.5 else "fail", said, 0.5, "the level")
    evidence = Evidence("quick", (row,), "supported" if agree >= 0.5 else "questionable", () if agree >= 0.5 else (said,))
    n, who = lost.cases, lost.patients
    return ForestImportance(found, lost.unit, lost.score, lost.level, agree, n, who, evidence, "", lost.provenance)


def _ranks(a: Floats, b: Floats) -> float:
    import torch

    return spearman(torch.from_numpy(a), torch.from_numpy(b)) if len(a) > 1 else 1.0


def _noise(forest: Any, fitted_on: tuple[Any, Any] | None, columns: int, seed: int) -> list[float]:
    """What impurity gives a shuffled copy of each column, in a forest fitted with all of them."""
    if fitted_on is None:
        return [math.nan] * columns
    from sklearn.base import clone

    rows, truth = fitted_on
    table = as_rows(rows, without=[truth] if isinstance(truth, str) else []).matrix()
    labels = as_rows(rows)[truth] if isinstance(truth, str) else np.asarray(truth)
    if table.shape[1] != columns or len(labels) != len(table):
        raise BadParameter(
            f"the {columns} columns and a truth for each row, fitted_on=(rows, truth)", f"{table.shape}, {len(labels)}", "Give those."
        )
    rng = np.random.default_rng(seed)
    copies = np.stack([rng.permutation(column) for column in table.T], axis=1)
    again = clone(forest)
    if "random_state" in again.get_params():
        again.set_params(random_state=seed)
    again.fit(np.concatenate([table, copies], axis=1), labels)
    return [float(v) for v in again.feature_importances_[columns:]]
