"""What a reader study found: accuracy, agreement, calibration of confidence and time at each level, with intervals over cases and readers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadParameter
from pellucid.evidence.predictions.binned import Bins
from pellucid.params import Count, check
from pellucid.reader_study.answers import Answer
from pellucid.reader_study.material import LEVELS
from pellucid.table import Table

Floats = NDArray[np.float64]
BINS = 5  # of equal width, for the calibration error: there are few answers
MEASURES = {
    "accuracy": "share of right answers",
    "fleiss": "Fleiss' kappa: agreement of all readers beyond chance",
    "cohen": "Cohen's kappa: the mean over pairs of readers",
    "brier": "Brier score: mean of (confidence - right)^2; 0.25 is to say one half always",
    "ece": "expected calibration error of the confidence, five bins of equal width",
    "overconfidence": "mean confidence less accuracy",
    "seconds": "median seconds an answer",
}


@dataclass(frozen=True)
class Found:
    """A number at a level with its 95 % interval over readers and cases, and its difference to the first level with the interval of that."""

    measure: str
    level: str
    value: float
    low: float
    high: float
    answers: int
    change: float = math.nan
    change_low: float = math.nan
    change_high: float = math.nan


@dataclass(frozen=True)
class Results:
    """All numbers of a study; ``notes`` say what they cannot tell."""

    found: tuple[Found, ...]
    levels: tuple[str, ...]
    readers: int
    cases: int
    answers: int
    notes: tuple[str, ...]

    def __getitem__(self, key: tuple[str, str]) -> Found:
        """(measure, level)."""
        return next(f for f in self.found if (f.measure, f.level) == key)

    def table(self) -> Table:
        """A row for each measure, a column for each level, and the change from the first to the last."""
        rows = []
        for m in MEASURES:
            own = [self[m, level] for level in self.levels]
            change = own[-1]
            rows.append(
                (m, *[_span(f.value, f.low, f.high) for f in own], _span(change.change, change.change_low, change.change_high, "+"))
            )
        return Table(("", *self.levels, f"change from {self.levels[0]} to {self.levels[-1]}"), tuple(rows))

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        rows = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in vars(f).items()} for f in self.found]
        return {
            "levels": list(self.levels), "readers": self.readers, "cases": self.cases, "answers": self.answers,
            "found": rows, "notes": list(self.notes), "measures": dict(MEASURES),
        }  # fmt: skip


def results(answers: Sequence[Answer], *, draws: Count = 1000, seed: int = 0) -> Results:
    """Statistics of answers, level by level.

    Intervals are the 2.5 % and 97.5 % points over draws in which readers and cases are both drawn with replacement, independently of each other, and
    an answer counts as often as its reader times its case were drawn (Owen 2007, the pigeonhole bootstrap): readers and cases are both
    samples of more. With one reader cases alone are drawn. Differences of levels are taken within a draw. For kappa a reader who is drawn counts
    once, however often: drawn twice he would agree with himself.

    Raises:
        BadParameter: no answers.
    """
    draws = check("results", "draws", Count, draws)
    if not answers:
        raise BadParameter("answers to make statistics of", "none", "Read some cases first.")
    levels = tuple(level for level in LEVELS if any(a.level == level for a in answers))
    who, what = sorted({a.reader for a in answers}), sorted({a.case for a in answers})
    tables = {level: _Answers.of([a for a in answers if a.level == level], who, what) for level in levels}
    chance = np.random.default_rng(seed)
    drawn: dict[tuple[str, str], list[float]] = {(m, level): [] for m in MEASURES for level in levels}
    for _ in range(draws):
        readers = np.bincount(chance.integers(0, len(who), len(who)), minlength=len(who)) if len(who) > 1 else np.ones(1, int)
        cases = np.bincount(chance.integers(0, len(what), len(what)), minlength=len(what))
        for level, t in tables.items():
            for m, value in t.numbers(readers, cases).items():
                drawn[m, level].append(value)
    ones = (np.ones(len(who), int), np.ones(len(what), int))
    values: dict[tuple[str, str], float] = {(m, level): v for level, t in tables.items() for m, v in t.numbers(*ones).items()}
    found = tuple(_found(m, level, levels[0], values, drawn, len(tables[level].right)) for m in MEASURES for level in levels)
    return Results(found, levels, len(who), len(what), len(answers), _notes(answers, who, what, levels))


def _found(
    m: str, level: str, first: str, values: dict[tuple[str, str], float], drawn: dict[tuple[str, str], list[float]], n: int
) -> Found:
    low, high = _points(np.array(drawn[m, level]))
    if level == first:
        return Found(m, level, values[m, level], low, high, n)
    change = values[m, level] - values[m, first]
    return Found(m, level, values[m, level], low, high, n, change, *_points(np.array(drawn[m, level]) - np.array(drawn[m, first])))


def _points(drawn: Floats) -> tuple[float, float]:
    known = drawn[~np.isnan(drawn)]
    if len(known) < 2:
        return math.nan, math.nan
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True, eq=False)
class _Answers:
    """Answers of one level: reader and case of each, whether right, confidence, seconds; and (readers x cases) codes, -1 where none."""

    reader: NDArray[np.int64]
    case: NDArray[np.int64]
    right: Floats
    sure: Floats
    seconds: Floats
    codes: NDArray[np.int64]
    kinds: int

    @classmethod
    def of(cls, answers: Sequence[Answer], who: Sequence[str], what: Sequence[str]) -> _Answers:
        said = sorted({a.answer for a in answers})
        codes = np.full((len(who), len(what)), -1)
        for a in answers:
            codes[who.index(a.reader), what.index(a.case)] = said.index(a.answer)
        numbers = np.array([[a.answer == a.truth, a.confidence, a.seconds - min(a.away, a.seconds)] for a in answers], dtype=np.float64)
        place = np.array([[who.index(a.reader), what.index(a.case)] for a in answers])
        return cls(place[:, 0], place[:, 1], numbers[:, 0], numbers[:, 1], numbers[:, 2], codes, len(said))

    def numbers(self, readers: NDArray[np.int64], cases: NDArray[np.int64]) -> dict[str, float]:
        """Every measure, readers and cases counted as often as said."""
        times = readers[self.reader] * cases[self.case]
        if not times.sum():
            return dict.fromkeys(MEASURES, math.nan)
        right, sure, seconds = (np.repeat(v, times) for v in (self.right, self.sure, self.seconds))
        codes = np.repeat(self.codes[readers > 0], cases, axis=1)
        return {
            "accuracy": float(right.mean()), "fleiss": fleiss_kappa(codes, self.kinds), "cohen": mean_cohen(codes),
            "brier": float(((sure - right) ** 2).mean()), "ece": Bins.of(sure, right, BINS, "width").error,
            "overconfidence": float(sure.mean() - right.mean()), "seconds": float(np.median(seconds)),
        }  # fmt: skip


def cohen_kappa(a: Sequence[Any] | NDArray[Any], b: Sequence[Any] | NDArray[Any]) -> float:
    """Agreement of two readers beyond chance, over cases that both answered (Cohen 1960); NaN where both always say the same one thing.

    >>> cohen_kappa([0, 0, 1, 1], [0, 0, 1, 0])
    0.5
    """
    a, b = np.asarray(a), np.asarray(b)
    if not len(a):
        return math.nan
    kinds = np.union1d(a, b)
    chance = sum(float((a == k).mean() * (b == k).mean()) for k in kinds)
    return math.nan if chance >= 1 else (float((a == b).mean()) - chance) / (1 - chance)


def mean_cohen(codes: NDArray[np.int64]) -> float:
    """The mean of Cohen's kappa over all pairs of readers (readers x cases, -1 where none); NaN with one reader."""
    found = []
    for a, b in itertools.combinations(codes, 2):
        both = (a >= 0) & (b >= 0)
        found.append(cohen_kappa(a[both], b[both]))
    known = [k for k in found if not math.isnan(k)]
    return float(np.mean(known)) if known else math.nan


def fleiss_kappa(codes: NDArray[np.int64], kinds: int) -> float:
    """Agreement of several readers beyond chance (Fleiss 1971), over cases that at least two answered; readers x cases, -1 where none.

    Where cases have different numbers of readers, each case counts alike and pairs within a case count alike.
    """
    counts = np.stack([(codes == k).sum(0) for k in range(kinds)], 1).astype(np.float64)
    n = counts.sum(1)
    counts, n = counts[n >= 2], n[n >= 2]
    if not len(n):
        return math.nan
    agreed = ((counts * (counts - 1)).sum(1) / (n * (n - 1))).mean()
    chance = float(((counts.sum(0) / counts.sum()) ** 2).sum())
    return math.nan if chance >= 1 - 1e-12 else float((agreed - chance) / (1 - chance))


def _notes(answers: Sequence[Answer], who: Sequence[str], what: Sequence[str], levels: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if len(who) < 2:
        notes.append("One reader: no agreement, and the intervals hold for this reader alone.")
    if len(who) < 5 or len(what) < 20:
        notes.append(f"{len(who)} readers and {len(what)} cases: intervals of so few are too narrow, and nothing here decides anything.")
    counts = {level: sum(a.level == level for a in answers) for level in levels}
    if len(set(counts.values())) > 1:
        notes.append(
            f"The levels have different numbers of answers ({', '.join(f'{k} {v}' for k, v in counts.items())}): not everybody is through."
        )
    if len({(a.reader, a.case) for a in answers}) < len(answers):
        notes.append(
            "Readers saw cases more than once, at different levels: they may remember them, which makes later answers better or faster."
        )
    return tuple(notes)


def _span(value: float, low: float, high: float, sign: str = "") -> str:
    shown: Callable[[float], str] = lambda v: "none" if math.isnan(v) else f"{v:{sign}.3f}"  # noqa: E731
    return shown(value) if math.isnan(low) else f"{shown(value)} ({shown(low)} to {shown(high)})"
