"""What a score does as one thing is moved: a curve over an axis, in each case and on average, and where it was asked beyond the data."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pellucid.effects.drawing import Theme
from pellucid.effects.figure import draw_curve
from pellucid.effects.words import amount, joined, ranges
from pellucid.errors import BadParameter
from pellucid.explanation import Evidence, Measurement, Provenance
from pellucid.findings import KEPT, Finding
from pellucid.intervals import Interval, average, statistic
from pellucid.table import Table

Floats = NDArray[np.float64]
How = Literal["partial dependence", "individual", "centered", "derivative", "accumulated", "intervention"]
HALF = 0.5  # share of cases that must be like a real one, below which a point is grayed
PARTS = 100  # of the patients that are left out at once, of what takes long to work out
MIXED = 0.1  # share of cases that go against the others, from which the mean hides something
APART = 0.25  # of the curve's range: how far accumulated effects may lie from the mean before the two are said to differ


@dataclass(frozen=True, eq=False)
class Axis:
    """What is moved: its name, the values (g,) it is set to, and the values (n,) that the cases have by themselves (NaN: none).

    ``labels`` names the values of a categorical axis, which are then 0, 1, ...; ``unit`` is theirs where there is one.
    """

    name: str
    values: Floats
    unit: str = ""
    labels: tuple[str, ...] = ()
    seen: Floats = field(default_factory=lambda: np.empty(0), metadata={KEPT: True}, repr=False)

    def __post_init__(self) -> None:
        if not len(self.values) or (self.labels and len(self.labels) != len(self.values)):
            got = f"{len(self.values)} values and {len(self.labels)} labels"
            raise BadParameter(f"values to which {self.name!r} is set, each with its label if it is categorical", got, "Give as many.")

    def __len__(self) -> int:
        return len(self.values)

    def at(self, k: int) -> str:
        """A value in words, with its unit."""
        return self.labels[k] if self.labels else amount(float(self.values[k]), self.unit)

    @property
    def title(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


class Effect(Finding):
    """Abstract: what a model does over many cases. It is told in ``sentences``, read as a ``table``, drawn by ``figure``, saved and loaded."""

    evidence: Evidence
    network: str
    provenance: Provenance

    @abstractmethod
    def sentences(self) -> tuple[str, ...]:
        """What was measured, and what it does not show, for people."""

    @abstractmethod
    def table(self) -> Table:
        """All numbers, a row each."""

    @abstractmethod
    def figure(self, path: Any = None, *, theme: Any = "light") -> Any:
        """Draw it (``.svg``, ``.png``, ``.pdf``, ``.webp``); returns the matplotlib Figure. Gray: asked beyond the data."""


@dataclass(frozen=True, eq=False)
class Curve(Effect):
    """A score over an axis of g values, in n cases.

    ``individual`` (n, g) is each case's score with the axis set to each value (ICE; none of ``accumulated``), ``values`` (g,) their weighted mean
    with its 95 % interval over patients from ``low`` to ``high`` (NaN where patients are too few). ``like`` (n, g) says of each point whether a real
    case is like it; ``support`` (g,) is their share. ``beside`` (g,) are accumulated effects at the same values, brought to the same mean, where they
    were computed. ``whose`` (n,) are patients as numbers. ``score`` says what the values are, ``within`` what they cannot leave;
    ``tells``: columns that tell of the axis, with the mutual information in nats.

    >>> import numpy as np
    >>> from pellucid.effects import partial_dependence
    >>> x = np.random.default_rng(0).normal(size=(80, 2))
    >>> found = partial_dependence(lambda rows: rows[:, 0] * 2, {"a": x[:, 0], "b": x[:, 1]}, "a", grid=[-1.0, 0.0, 1.0])
    >>> found.values.round(6).tolist(), found.centered().individual[0].round(6).tolist()
    ([-2.0, 0.0, 2.0], [0.0, 2.0, 4.0])
    """

    kind = "curve"
    how: How
    axis: Axis
    score: str
    values: Floats
    low: Floats
    high: Floats
    support: Floats
    individual: Floats = field(metadata={KEPT: True}, repr=False)
    like: NDArray[np.bool_] = field(metadata={KEPT: True}, repr=False)
    weights: Floats = field(metadata={KEPT: True}, repr=False)
    whose: NDArray[np.int64] = field(metadata={KEPT: True}, repr=False)
    beside: Floats
    within: tuple[float, float] | None
    evidence: Evidence
    network: str
    tells: Mapping[str, float]
    provenance: Provenance = field(repr=False)

    @property
    def cases(self) -> int:
        return len(self.whose)

    @property
    def patients(self) -> int:
        return len(set(self.whose.tolist()))

    @property
    def there(self) -> NDArray[np.bool_]:
        """(g,): whether at least half of the cases, set to this value, are like a real one."""
        return np.asarray(self.support >= HALF)

    @property
    def reach(self) -> float:
        """Highest less lowest mean, where the data are."""
        kept = self.values[self.there] if self.there.any() else self.values
        return float(np.ptp(kept))

    def centered(self, at: int = 0) -> Curve:
        """Each case's change from the axis' value number ``at`` (c-ICE), their mean and its interval over patients.

        Raises:
            BadParameter: of accumulated effects, which have no cases; or no such value.
        """
        self._has_cases("centered curves")
        if not -len(self.axis) <= at < len(self.axis):
            raise BadParameter(f"one of {len(self.axis)} values of the axis", repr(at), "Count from 0.")
        moved = self.individual - self.individual[:, [at]]
        beside = self.beside - self.beside[at] if len(self.beside) else self.beside
        return self._again(moved, "centered", beside, f"change of the {self.score} from {self.axis.name} {self.axis.at(at)}")

    def derivative(self) -> Curve:
        """Each case's slope along the axis (d-ICE), by differences of second order, per unit of the axis.

        Raises:
            BadParameter: of accumulated effects, of a categorical axis, or of one value alone.
        """
        self._has_cases("derivatives")
        if self.axis.labels or len(self.axis) < 2:
            raise BadParameter(
                "an axis of numbers with two values or more", f"{self.axis.title}", "Categories have no slope: read centered()."
            )
        moved = np.gradient(self.individual, self.axis.values, axis=1)
        beside = np.gradient(self.beside, self.axis.values) if len(self.beside) else self.beside
        return self._again(moved, "derivative", beside, f"slope of the {self.score}")

    def _again(self, individual: Floats, how: How, beside: Floats, score: str) -> Curve:
        values, low, high = band(individual, self.whose, self.weights)
        return replace(self, individual=individual, how=how, values=values, low=low, high=high, beside=beside, score=score, within=None)

    def _has_cases(self, what: str) -> None:
        if not len(self.individual):
            raise BadParameter(f"{what} of a curve with its cases", "accumulated effects, which have none", "Ask ice(...).")

    def turns(self) -> tuple[float, float]:
        """Shares of cases whose score is higher, and lower, at the last value where the data are than at the first."""
        self._has_cases("directions")
        at = np.flatnonzero(self.there) if self.there.sum() > 1 else np.arange(len(self.axis))
        moved = self.individual[:, at[-1]] - self.individual[:, at[0]]
        least = 1e-9 * max(1.0, float(np.abs(self.individual).max()))
        total = self.weights.sum()
        return float(self.weights[moved > least].sum() / total), float(self.weights[moved < -least].sum() / total)

    def table(self) -> Table:
        """A row for each value of the axis."""
        label: tuple[Any, ...] = self.axis.labels or tuple(float(v) for v in self.axis.values)
        columns = (self.axis.title, "mean", "low", "high", "like a real case", *(("accumulated",) if len(self.beside) else ()))
        each = (self.values, self.low, self.high, self.support, *((self.beside,) if len(self.beside) else ()))
        rows = zip(label, *(map(float, e) for e in each), strict=True)
        return Table(columns, tuple(rows))

    def figure(self, path: Any = None, *, theme: Theme = "light") -> Any:
        """Cases, their mean with its band, accumulated effects beside it, the rug; gray: asked beyond the data."""
        return draw_curve(self, path, theme)

    def sentences(self) -> tuple[str, ...]:
        """What was measured, and what it does not show."""
        return tuple(s for s in (self._moved(), self._turned(), self._beyond(), self._against(), self._limits()) if s)

    def _moved(self) -> str:
        who = f"{self.cases} cases" + (f" of {self.patients} patients" if self.patients < self.cases else "")
        k, m = int(self.values.argmin()), int(self.values.argmax())
        if k > m:
            k, m = m, k
        score = self.score[0].upper() + self.score[1:]
        of = {"accumulated": "adding up what small steps of", "derivative": "with"}.get(self.how, "with")
        said = f"{score}, {of} {self.axis.name} {'do to cases that are near' if self.how == 'accumulated' else f'set to {len(self.axis)} values'}, in {who}: "
        ends = f"{self._value(k)} at {self.axis.at(k)}, {self._value(m)} at {self.axis.at(m)}"
        return said + (f"the same everywhere, {self._value(0)}." if self.values.max() - self.values.min() < 1e-12 else f"{ends}.")

    def _value(self, k: int) -> str:
        value, low, high = float(self.values[k]), float(self.low[k]), float(self.high[k])
        return f"{value:.3g}" if math.isnan(low) else f"{value:.3g} [{low:.3g}, {high:.3g}]"

    def _turned(self) -> str:
        if not len(self.individual) or self.how == "derivative" or self.axis.labels:
            return ""
        up, down = self.turns()
        if min(up, down) >= MIXED:
            return f"The mean hides that cases differ: along the axis the score rises in {up:.0%} and falls in {down:.0%} of them."
        return ""

    def _beyond(self) -> str:
        if self.there.all():
            return ""
        words = [self.axis.at(int(k)) for k in np.flatnonzero(~self.there)] if self.axis.labels else ranges(self.axis.values, ~self.there)
        return f"Asked beyond the data at {joined(words)}: most cases, set to that, are unlike any real one; what the model says there was never seen."

    def _against(self) -> str:
        apart = parting(self)
        if apart is None or apart <= APART:
            return ""
        return (
            f"Accumulated effects, which only ask near real cases, differ by up to {apart:.0%} of the curve's range: {self.axis.name} goes with"
            f" {joined(list(self.tells)) if self.tells else 'other columns'}, and the mean follows rows that do not occur. Read the accumulated effects."
        )

    def _limits(self) -> str:
        spread = (
            "" if np.isnan(self.low).all() else " The band is over patients, for the model as it is; it tells nothing of training again."
        )
        return f"This tells what the model answers, not what would become of a patient whose {self.axis.name} changed.{spread}"


def parting(curve: Curve) -> float | None:
    """The largest gap between the mean and the accumulated effects where the data are, as a share of the larger range; None: not computed."""
    if not len(curve.beside):
        return None
    kept = curve.there if curve.there.sum() > 1 else np.ones(len(curve.axis), dtype=bool)
    mean, other = curve.values[kept] - curve.values[kept].mean(), curve.beside[kept] - curve.beside[kept].mean()
    reach = max(float(np.ptp(mean)), float(np.ptp(other)))
    return float(np.abs(mean - other).max() / reach) if reach > 1e-12 else 0.0


def curve_of(
    individual: Floats, axis: Axis, provenance: Provenance, *, how: How, score: str, patients: Sequence[Hashable] | None = None,
    weights: Sequence[float] | Floats | None = None, like: NDArray[np.bool_] | None = None, beside: Floats | None = None, network: str = "",
    within: tuple[float, float] | None = None, tells: Mapping[str, float] | None = None,
) -> Curve:  # fmt: skip
    """A curve from each case's scores (n, g): mean, interval over patients, support, evidence.

    Args:
        individual: (n, g) in float64.
        axis: what was moved, to g values.
        provenance: how it came about.
        how, score: what it is, and what the numbers are ("probability of 'malignant'").
        patients: of each case; None: each case is a patient.
        weights: of each case; None: all alike.
        like: (n, g): whether a real case is like this point; None: wherever the axis has values that the cases reach.
        beside: (g,) accumulated effects to hold against the mean.
        network: identity of the network, "" where none was asked.
        within: what a score cannot leave: (0, 1) of a probability.
        tells: columns that tell of the axis, with how much.
    """
    n = len(individual)
    whose = coded(patients, n)
    known = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    values, low, high = band(individual, whose, known, within)
    near = reached(axis, n) if like is None else like
    support = known @ near / known.sum()
    shift = np.empty(0) if beside is None else beside - beside.mean() + values.mean()
    bare = Curve(
        how,
        axis,
        score,
        values,
        low,
        high,
        support,
        individual,
        near,
        known,
        whose,
        shift,
        within,
        Evidence(),
        network,
        dict(tells or {}),
        provenance,
    )
    return replace(bare, evidence=_evidence(bare))


def coded(patients: Sequence[Hashable] | None, n: int) -> NDArray[np.int64]:
    """Patients as numbers (n,) in the order in which they come: nothing of their names is kept.

    Raises:
        BadParameter: not one for each case.
    """
    if patients is None:
        return np.arange(n)
    if len(patients) != n:
        raise BadParameter(f"a patient for each of {n} cases", f"{len(patients)}", "Give as many.")
    code: dict[Hashable, int] = {}
    return np.array([code.setdefault(p, len(code)) for p in patients], dtype=np.int64)


def parts(whose: NDArray[np.int64], seed: int) -> list[int]:
    """Patients, or no more than 100 parts of them where leaving out each by itself would be dear (a jackknife of groups)."""
    count = int(whose.max()) + 1
    return (whose if count <= PARTS else np.random.default_rng(seed).permutation(np.arange(count) % PARTS)[whose]).tolist()


def reached(axis: Axis, n: int) -> NDArray[np.bool_]:
    """(n, g): whether the axis' own values in the cases reach so far; everywhere if the cases have none."""
    seen = axis.seen[~np.isnan(axis.seen)]
    inside = np.ones(len(axis), dtype=bool)
    if len(seen) and not axis.labels:
        inside = (axis.values >= seen.min()) & (axis.values <= seen.max())
    return np.broadcast_to(inside, (n, len(axis))).copy()


def band(
    individual: Floats, whose: NDArray[np.int64], weights: Floats, within: tuple[float, float] | None = None
) -> tuple[Floats, Floats, Floats]:
    """Weighted mean (g,) over cases, with both ends of its 95 % interval over patients at each point."""
    found = [mean_of(column, whose, weights, within) for column in individual.T]
    return tuple(np.array([getattr(f, name) for f in found]) for name in ("value", "low", "high"))  # type: ignore[return-value]


def mean_of(values: Floats, whose: NDArray[np.int64], weights: Floats, within: tuple[float, float] | None = None) -> Interval:
    """A weighted mean with its interval over patients."""
    if np.ptp(weights) == 0:
        return average(values, whose.tolist(), within=within)
    ends = within or (float(values.min()), float(values.max()) + 1e-300)
    return statistic((values, weights), lambda v, w: float(np.average(v, weights=w)), whose.tolist(), within=ends, mean=True)


def _evidence(curve: Curve) -> Evidence:
    """How far the curve can be read: how much of it lies beyond the data, whether cases agree, whether accumulated effects do."""
    beyond = float(1 - curve.there.mean())
    text = f"At {beyond:.0%} of the values most cases, set to them, are unlike any real one."
    rows = [
        Measurement("beyond_data", beyond, "share of values", "down", "pass" if beyond == 0 else "fail", text, 0.0, "all within the data")
    ]
    reasons = [text] if beyond else []
    if len(curve.individual) and not curve.axis.labels and len(curve.axis) > 1:
        against = min(curve.turns())
        said = f"The score turns against the majority of cases in {against:.0%} of them."
        rows.append(
            Measurement(
                "against_the_mean", against, "share of cases", "down", "pass" if against < MIXED else "fail", said, MIXED, "the level"
            )
        )
        reasons += [said] if against >= MIXED else []
    apart = parting(curve)
    if apart is not None:
        said = f"Accumulated effects lie up to {apart:.0%} of the range away from the mean."
        rows.append(
            Measurement("ale_gap", apart, "share of the range", "down", "pass" if apart <= APART else "fail", said, APART, "the level")
        )
        reasons += [said] if apart > APART else []
    return Evidence("quick", tuple(rows), "questionable" if reasons else "supported", tuple(reasons))
