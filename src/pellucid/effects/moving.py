"""Moving: the values that a column, or columns that belong together, are set to, and whether real cases are like what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pellucid.effects.curve import Axis
from pellucid.effects.rows import Floats, Rows
from pellucid.errors import BadParameter

Spacing = Literal["quantiles", "even"]
What = str | Sequence[str] | Mapping[str, Sequence[str]]
ENDS = (0.05, 0.95)
MOST = 40  # categories, above which nobody reads them
TELLS = 0.1  # nats of mutual information from which a column goes with another: those of a correlation of 0.43
FEW = 5  # columns at most in which a case must be like another: in many more, nothing is like anything
ALIKE = 0.95  # share of real cases that have another one as near as this
LEAST = 0.1  # standard deviations within which cases are alike whatever the others are
READ = 2000  # rows that mutual information is read from


@dataclass(frozen=True, eq=False)
class Move:
    """An axis, and what each of its values sets: columns and the value that each of them gets."""

    axis: Axis
    settings: tuple[Mapping[str, Any], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.settings[0])


def move_of(
    rows: Rows, what: What, grid: int | Sequence[Any] = 20, spacing: Spacing = "quantiles", ends: tuple[float, float] = ENDS
) -> Move:
    """The axis of a column, or of columns that belong together (those of one-hot codes, say), which move as they occur together.

    Raises:
        BadParameter: an unknown column, a grid that makes no sense, or too many categories.
    """
    if spacing not in get_args(Spacing):
        raise BadParameter("spacing is quantiles or even", repr(spacing), "Choose one.")
    if isinstance(what, Mapping) and len(what) == 1:
        name, columns = next(iter(what.items()))
        return _together(rows, name, tuple(columns))
    if not isinstance(what, str):
        names = tuple(what)
        return _together(rows, " + ".join(names), names) if len(names) > 1 else move_of(rows, names[0], grid, spacing, ends)
    if what in rows.text:
        return _named(rows, what, grid)
    seen = rows[what]
    values = _grid(what, seen[~np.isnan(seen)], grid, spacing, ends)
    return Move(Axis(what, values, seen=seen), tuple({what: float(v)} for v in values))


def _grid(name: str, seen: Floats, grid: int | Sequence[Any], spacing: Spacing, ends: tuple[float, float]) -> Floats:
    """Values as given; or all that occur, if they are no more than wanted; or quantiles, or evenly between two of them."""
    if not isinstance(grid, int):
        values = np.asarray(grid, dtype=np.float64)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or (np.diff(values) <= 0).any():
            raise BadParameter(f"rising values for {name!r}", repr(list(grid))[:80], "Give numbers in rising order.")
        return values
    low, high = ends
    if isinstance(grid, bool) or grid < 2 or not 0 <= low < high <= 1:
        raise BadParameter(
            "a grid of 2 values or more between two quantiles", f"{grid} between {ends}", "Write grid=20, ends=(0.05, 0.95)."
        )
    if not len(seen):
        raise BadParameter(f"a column with values: {name!r}", "none", "Leave it out.")
    there = np.unique(seen)
    if len(there) <= grid:
        return there
    if spacing == "even":
        from scipy.stats.mstats import mquantiles

        first, last = (float(q) for q in mquantiles(seen, prob=ends))
        return np.linspace(first, last, int(grid))  # the ends that scikit-learn takes
    return np.unique(np.quantile(seen, np.linspace(low, high, int(grid))))


def _named(rows: Rows, name: str, grid: int | Sequence[Any]) -> Move:
    """A categorical column: all its names, or those given."""
    own = list(dict.fromkeys(sorted(rows[name].tolist(), key=str)))
    wanted = own if isinstance(grid, (int, np.integer)) else list(grid)
    strange = next((w for w in wanted if w not in own), None)
    if strange is not None or len(wanted) > MOST:
        got = repr(strange) if strange is not None else f"{len(wanted)}"
        raise BadParameter(f"categories of {name!r}, at most {MOST}", got, f"There are {', '.join(map(repr, own[:8]))}.")
    codes = {v: float(k) for k, v in enumerate(wanted)}
    seen = np.array([codes.get(v, np.nan) for v in rows[name].tolist()])
    labels = tuple(f"{v:g}" if isinstance(v, float) else str(v) for v in wanted)
    return Move(Axis(name, np.arange(len(wanted), dtype=np.float64), labels=labels, seen=seen), tuple({name: v} for v in wanted))


def _together(rows: Rows, name: str, columns: tuple[str, ...]) -> Move:
    """Columns that move together, through the states in which they occur."""
    if len(columns) < 2 or len(set(columns)) < len(columns):
        raise BadParameter("two columns or more that belong together", ", ".join(columns), "Name them, each once.")
    each = list(zip(*(rows[c].tolist() for c in columns), strict=True))
    states = sorted(set(each), key=lambda s: tuple(map(str, s)))
    if len(states) > MOST:
        fix = "Move one of them, or two with partial_dependence_pair(...)."
        raise BadParameter(f"at most {MOST} states in which {' and '.join(columns[:3])} occur together", f"{len(states)}", fix)
    code = {s: float(k) for k, s in enumerate(states)}
    hot = all(set(s) <= {0.0, 1.0} and sum(s) == 1 for s in states) if not rows.text & set(columns) else False
    labels = tuple(
        columns[s.index(1.0)] if hot else ", ".join(f"{c} {v:g}" if isinstance(v, float) else f"{c} {v}" for c, v in zip(columns, s))
        for s in states
    )
    axis = Axis(name, np.arange(len(states), dtype=np.float64), labels=labels, seen=np.array([code[s] for s in each]))
    return Move(axis, tuple(dict(zip(columns, s, strict=True)) for s in states))


def companions(rows: Rows, moved: Sequence[str], seed: int = 0) -> dict[str, float]:
    """Columns that tell of those moved, the first that tells most, with the mutual information in nats (Kraskov et al. 2004, by scikit-learn).

    At most five, of at least 0.1 nats, which is what a correlation of 0.43 tells.
    """
    others = [n for n in rows.names if n not in moved]
    chosen = np.random.default_rng(seed).permutation(len(rows))[:READ]
    table = rows.at(np.sort(chosen))
    if not others or len(table) < 10:
        return {}
    known = _filled(np.stack([table.numbers(n) for n in others], axis=1))
    named = np.array([n in rows.text for n in others])
    told = np.zeros(len(others))
    for one in moved:
        told = np.maximum(told, _information(known, named, table, one, seed))
    order = np.argsort(-told, kind="stable")
    return {others[k]: float(told[k]) for k in order[:FEW] if told[k] >= TELLS}


def _information(known: Floats, named: NDArray[np.bool_], table: Rows, one: str, seed: int) -> Floats:
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

    values = _filled(table.numbers(one)[:, None])[:, 0]
    if np.ptp(values) == 0:
        return np.zeros(known.shape[1])
    by: Any = mutual_info_classif if one in table.text else mutual_info_regression
    return np.asarray(by(known, values, discrete_features=named, random_state=seed))


def _filled(values: Floats) -> Floats:
    """Missing values as the column's median."""
    if not np.isnan(values).any():
        return values
    middle = np.nan_to_num(np.nanmedian(np.where(np.isnan(values).all(0), 0.0, values), axis=0))
    return np.where(np.isnan(values), middle, values)


class Likeness:
    """Where real cases are, in the columns that are moved and those that tell of them: whitened, so that what goes together counts once.

    A point is like a real case if one is as near to it as 95 of 100 real cases have another one.
    """

    def __init__(self, rows: Rows, moved: Sequence[str], others: Sequence[str]) -> None:
        from scipy.spatial import cKDTree

        self.rows, self.names = rows, (*moved, *others)
        blocks = [self._block(name, rows[name]) for name in self.names]
        self.base = np.concatenate(blocks, axis=1)
        self.starts = np.cumsum([0, *(b.shape[1] for b in blocks)])
        self.middle, self.scale = self.base.mean(0), np.where(self.base.std(0) > 0, self.base.std(0), 1.0)
        standard = (self.base - self.middle) / self.scale
        together = standard.T @ standard / len(standard)
        values, vectors = np.linalg.eigh(together + 1e-3 * np.eye(len(together)))
        self.white = vectors / np.sqrt(values)
        self.tree = cKDTree(standard @ self.white)
        away, _ = self.tree.query(self.tree.data, k=2)
        self.near = max(float(np.quantile(away[:, 1], ALIKE)), LEAST)

    def _block(self, name: str, values: NDArray[Any]) -> Floats:
        """A column as numbers: standardized later; of names, one column each."""
        if name not in self.rows.text:
            return _filled(np.asarray(values, dtype=np.float64)[:, None])
        own = np.unique(self.rows[name].astype(str))
        return (np.asarray(values).astype(str)[:, None] == own).astype(np.float64)

    def of(self, setting: Mapping[str, Any]) -> NDArray[np.bool_]:
        """(n,): whether each case, with these values set, is like a real one."""
        points = self.base.copy()
        for name, value in setting.items():
            at = self.names.index(name)
            points[:, self.starts[at] : self.starts[at + 1]] = self._block(name, np.array([value], dtype=self.rows[name].dtype))
        away, _ = self.tree.query(((points - self.middle) / self.scale) @ self.white, distance_upper_bound=self.near * (1 + 1e-9))
        return np.isfinite(away)
