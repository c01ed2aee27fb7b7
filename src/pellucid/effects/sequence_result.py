"""What was found of sequences: each way's number for each, where the ways disagree, and whether a level alone carries the score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from pellucid.effects.curve import Effect
from pellucid.effects.levels import Level
from pellucid.effects.ways import WAYS, Floats, Way
from pellucid.effects.words import joined
from pellucid.errors import BadParameter
from pellucid.explanation import Evidence, Provenance
from pellucid.findings import KEPT
from pellucid.ops.similarity import spearman
from pellucid.table import Table

Filling = Literal["patients", "mean", "zero"]
FILLED = {
    "patients": "that sequence of another patient", "mean": "that sequence's mean over all images", "zero": "zeros",
}  # fmt: skip


@dataclass(frozen=True)
class SequenceRow:
    """One sequence by one way: its number with the 95 % interval over patients (NaN: none), its share of the way's sum, its rank from 1."""

    way: Way
    sequence: str
    value: float
    low: float
    high: float
    unit: str
    share: float
    rank: int


@dataclass(frozen=True, eq=False)
class SequenceImportance(Effect):
    """How much each sequence (channel) matters, by five ways that ask different things.

    ``rows``: ``first-layer energy`` (squared weights), ``permutation`` (mean change of the score when the sequence is another patient's), ``Shapley``
    (mean absolute exact Shapley value over all subsets of sequences), ``mutual information`` (between a feature of the sequence and the label: of the
    data, no network is asked), ``attribution mass`` (share of |attribution|). ``lost``: AUC that goes with each sequence's exchange, where there are
    labels. ``levels``: whether how a sequence is scaled tells the labels and carries the score. ``each``: the ways' numbers for every image.
    """

    kind = "sequence importance"
    sequences: tuple[str, ...]
    rows: tuple[SequenceRow, ...]
    levels: tuple[Level, ...]
    lost: tuple[tuple[str, float, float, float], ...]
    chance: float
    filling: Filling
    labelled: str
    score: str
    images: int
    patients: int
    notes: tuple[str, ...]
    evidence: Evidence
    network: str
    provenance: Provenance = field(repr=False)
    each: dict[str, Floats] = field(metadata={KEPT: True}, repr=False)

    def __iter__(self) -> Iterator[SequenceRow]:
        return iter(self.rows)

    @property
    def ways(self) -> tuple[Way, ...]:
        """Those that could be asked."""
        return tuple(w for w in WAYS if any(r.way == w for r in self.rows))

    def of(self, way: Way) -> dict[str, SequenceRow]:
        """A way's rows by sequence, the most important first.

        Raises:
            BadParameter: a way that was not asked.
        """
        found = sorted((r for r in self.rows if r.way == way), key=lambda r: r.rank)
        if not found:
            raise BadParameter(
                f"a way that was asked: {', '.join(self.ways)}", repr(way), "Choose one; the notes say what could not be asked."
            )
        return {r.sequence: r for r in found}

    def first(self, way: Way) -> str:
        """The sequence that a way puts first, several joined by ``and``; "" of a way that finds nothing of any."""
        found = [r.sequence for r in self.of(way).values() if r.rank == 1 and r.value > 0]
        return joined(found) if found else ""

    def table(self) -> Table:
        """A row for each way and sequence."""
        columns = ("way", "sequence", "value", "low", "high", "unit", "share", "rank")
        return Table(columns, tuple((r.way, r.sequence, r.value, r.low, r.high, r.unit, r.share, r.rank) for r in self.rows))

    def disagreement(self) -> Table:
        """Rank correlations (Spearman) over sequences, for each pair of ways; NaN for fewer than three sequences or ties all over."""
        ways = self.ways
        rows: list[tuple[Any, ...]] = []
        for a in ways:
            own = [self._values(a) for _ in ways]
            rows.append((a, *(_correlated(x, self._values(b)) for x, b in zip(own, ways, strict=True))))
        return Table(("way", *ways), tuple(rows))

    def _values(self, way: Way) -> Floats:
        rows = self.of(way)
        return np.array([rows[s].value for s in self.sequences])

    def level_table(self) -> Table:
        """For each sequence: how well its level tells the labels, and the share of the score's difference that goes with it."""
        columns = ("sequence", "trait", "AUC of the level", "low", "high", "carried", "carried low", "carried high", "flagged")
        rows = [(v.sequence, v.trait, v.tells.value, v.tells.low, v.tells.high, v.carried.value, v.carried.low, v.carried.high, v.flagged) for v in self.levels]  # fmt: skip
        return Table(columns, tuple(rows))

    def sentences(self) -> tuple[str, ...]:
        """What was measured, where the ways disagree, and what they do not show."""
        return tuple(s for s in (self._firsts(), self._data(), self._farthest(), *self._scaled(), *self._limits()) if s)

    def _firsts(self) -> str:
        firsts: dict[str, list[str]] = {}
        for w in self.ways:
            firsts.setdefault(self.first(w), []).append(w)
        who = f"{self.images} images" + (f" of {self.patients} patients" if self.patients < self.images else "")
        silent = firsts.pop("", [])
        nothing = (
            f" {joined(silent).capitalize()} find{'s' if len(silent) == 1 else ''} nothing: no sequence moves the score." if silent else ""
        )
        if not firsts:
            return nothing.strip()
        if len(firsts) == 1:
            told = f"All {len(self.ways)}" if not silent else joined(next(iter(firsts.values()))).capitalize()
            verb = "ways put" if not silent else "puts" if len(self.ways) - len(silent) == 1 else "put"
            return f"{told} {verb} {next(iter(firsts))} first, for the {self.score} in {who}.{nothing}"
        said = [f"{joined(ways)} put{'s' if len(ways) == 1 else ''} {s} first" for s, ways in firsts.items()]
        return f"The ways disagree on what comes first, for the {self.score} in {who}: {'; '.join(said)}.{nothing}"

    def _data(self) -> str:
        """Whether the data know more than the network uses, or the network uses what tells nothing."""
        if "mutual information" not in self.ways or "Shapley" not in self.ways:
            return ""
        tells, uses = self.of("mutual information"), self.of("Shapley")
        best, used = next(iter(tells.values())), next(iter(uses.values()))
        if best.value <= self.chance:
            return f"No sequence tells the {self.labelled} by the features that were read: {best.value:.2g} nats at most, shuffled labels reach {self.chance:.2g}."
        if tells[used.sequence].rank == 1 or not self.first("Shapley"):
            return ""
        return (
            f"{best.sequence} tells the {self.labelled} best ({best.value:.2g} nats), yet the network uses {used.sequence} most: it gives"
            f" {best.sequence} {uses[best.sequence].share:.0%} of the score's movements."
        )

    def _farthest(self) -> str:
        table, ways = self.disagreement(), self.ways
        pairs = [(r, a, b) for i, a in enumerate(ways) for j, b in enumerate(ways) if j > i and not math.isnan(r := table[b][i])]
        if not pairs:
            return ""
        low, a, b = min(pairs, key=lambda p: p[0])
        high = max(p[0] for p in pairs)
        if low > 1 - 1e-9:
            return f"All ways rank the {len(self.sequences)} sequences alike."
        return (
            f"Rank correlations between the ways go from {low:.2f} ({a} against {b}) to {high:.2f}, over {len(self.sequences)} sequences."
        )

    def _scaled(self) -> list[str]:
        if not self.levels:
            return []
        found = [
            f"{v.sequence}: its {v.trait} alone tells the {self.labelled} (AUC {v.tells}), and {v.carried.value:.0%}"
            f" [{v.carried.low:.0%}, {v.carried.high:.0%}] of the score's difference between them goes once all images have one level. Look at how"
            f" {v.sequence} was scaled, before anything is read into its importance."
            for v in self.levels
            if v.flagged
        ]
        return found or [f"No sequence's level alone tells the {self.labelled} and carries the score."]

    def _limits(self) -> list[str]:
        said = []
        if "first-layer energy" in self.ways:
            said.append("First-layer energy knows no image: a sequence of small values needs large weights.")
        said.append(
            f"What stands for a missing sequence is {FILLED[self.filling]}; Shapley values and exchanges are of images that no scanner made."
        )
        if "mutual information" in self.ways:
            said.append(
                "Mutual information asks the data alone, and only by the features that were read: what it finds, the network may not use."
            )
        return said

    def facts(self) -> dict[str, Any]:
        """Rows, levels, correlations, sentences, notes and provenance as plain values."""
        return super().facts() | {"sentences": list(self.sentences())}

    def figure(self, path: Any = None, *, theme: Literal["light", "dark"] = "light") -> Any:
        """Each way's bars with their intervals, and the rank correlations between the ways; returns the matplotlib Figure."""
        from pellucid.effects.sequence_figure import draw_sequences

        return draw_sequences(self, path, theme=theme)


def _correlated(a: Floats, b: Floats) -> float:
    return math.nan if len(a) < 3 else spearman(torch.from_numpy(a), torch.from_numpy(b))
