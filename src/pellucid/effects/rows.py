"""Rows: a table of features as a model is handed it, from a Table, a data frame, an array or columns by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadParameter
from pellucid.table import Table

Floats = NDArray[np.float64]
Column = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Rows:
    """n rows under named columns. ``text``: columns whose values are names (categories); ``frame``: the data frame that they were given as."""

    columns: Mapping[str, Column]
    text: frozenset[str]
    frame: Any = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def __getitem__(self, name: str) -> Column:
        if name not in self.columns:
            near = difflib.get_close_matches(str(name), self.names, 1)
            have = ", ".join(map(repr, self.names[:8])) + (", ..." if len(self.names) > 8 else "")
            raise BadParameter("a column of the rows", repr(name), f"Did you mean {near[0]!r}?" if near else f"There are {have}.")
        return self.columns[name]

    def numbers(self, name: str) -> Floats:
        """A column as numbers; categories as 0, 1, ... in the order of their names."""
        values = self[name]
        if name not in self.text:
            return values.astype(np.float64)
        return np.unique(values.astype(str), return_inverse=True)[1].astype(np.float64)

    def matrix(self) -> Floats:
        """All columns as numbers, (n, d)."""
        return np.stack([self.numbers(name) for name in self.names], axis=1)

    def at(self, places: Any) -> Rows:
        """Some rows."""
        frame = None if self.frame is None else self.frame.iloc[places]
        return Rows({k: v[places] for k, v in self.columns.items()}, self.text, frame)

    def only(self, names: Sequence[str]) -> Rows:
        """Some columns, in that order."""
        frame = None if self.frame is None else self.frame[list(names)]
        return Rows({k: self[k] for k in names}, self.text & set(names), frame)

    def given(self, changed: Mapping[str, Any], *, framed: bool) -> Any:
        """The rows as a model takes them, some columns replaced by one value or by n: a data frame, or an array (n, d)."""
        if self.frame is not None or framed:
            return _frame(self, changed)
        kind: Any = object if self.text else np.float64
        found = np.empty((len(self), len(self.columns)), dtype=kind)
        for k, (name, values) in enumerate(self.columns.items()):
            found[:, k] = changed.get(name, values)
        return found


def _frame(rows: Rows, changed: Mapping[str, Any]) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise BadParameter("rows for a model that was fitted on a data frame", "no pandas", "pip install pandas.") from error
    frame = pandas.DataFrame(dict(rows.columns)) if rows.frame is None else rows.frame.copy()
    for name, value in changed.items():
        kind = frame[name].dtype
        column = pandas.Series(np.broadcast_to(value, len(rows)), index=frame.index)
        frame[name] = column.astype(kind) if isinstance(kind, pandas.CategoricalDtype) else column
    return frame


def as_rows(given: Any, *, categorical: Iterable[str] = (), without: Iterable[str] = ()) -> Rows:
    """Rows from a Table, a data frame, columns by name, or an array (n, d), whose columns are then ``x0``, ``x1``, ...

    Args:
        given: the rows; text columns are categories.
        categorical: columns of numbers that are names all the same.
        without: columns that are no features (a patient, a label).

    Raises:
        BadParameter: no rows, columns of several lengths, values that are neither numbers nor names, or an unknown column.
    """
    frame = given if hasattr(given, "iloc") and hasattr(given, "columns") else None
    if isinstance(given, Rows):
        columns: dict[str, Column] = dict(given.columns)
        frame = given.frame
    elif frame is not None:
        columns = {str(name): frame[name].to_numpy() for name in frame.columns}
    elif isinstance(given, Table):
        columns = {name: np.array(given[name], dtype=object) for name in given.columns}
    elif isinstance(given, Mapping):
        columns = {str(name): np.asarray(values) for name, values in given.items()}
    else:
        columns = _of_array(given)
    leaving = [w for w in without if w is not None]
    _all_there((*leaving, *categorical), columns)
    kept = {k: v for k, v in columns.items() if k not in leaving}
    if not kept or any(len(v) != len(next(iter(kept.values()))) for v in kept.values()) or not len(next(iter(kept.values()))):
        raise BadParameter(
            "columns of one length, with a row or more", f"{ {k: len(v) for k, v in kept.items()} }"[:120], "Give such columns."
        )
    named = set(categorical) | (given.text if isinstance(given, Rows) else set())
    read = {name: _read(name, values, name in named) for name, values in kept.items()}
    text = {name for name, (_, named) in read.items() if named}
    shown = None if frame is None else frame[[name for name in frame.columns if str(name) in kept]]
    return Rows({name: values for name, (values, _) in read.items()}, frozenset(text), shown)


def _of_array(given: Any) -> dict[str, Column]:
    array = np.asarray(given)
    if array.ndim != 2:
        fix = "Give a Table, a data frame, columns by name, or an array (n, d)."
        raise BadParameter("rows under columns", f"{type(given).__name__} of shape {array.shape}", fix)
    return {f"x{k}": array[:, k] for k in range(array.shape[1])}


def _all_there(names: Iterable[str], columns: Mapping[str, Column]) -> None:
    lost = next((n for n in names if n not in columns), None)
    if lost is not None:
        raise BadParameter("a column of the rows", repr(lost), f"There are {', '.join(map(repr, list(columns)[:8]))}.")


def _read(name: str, values: Column, named: bool) -> tuple[Column, bool]:
    """A column's values, and whether they are names; numbers as float64 (True and False as 1 and 0)."""
    if values.ndim != 1:
        raise BadParameter(f"one value a row in {name!r}", f"shape {values.shape}", "Give each column by itself.")
    if values.dtype.kind in "biuf":
        return (values if named and values.dtype.kind != "b" else values.astype(np.float64)), named
    if named:
        return values.astype(object), True
    try:
        return np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64), named
    except (TypeError, ValueError):
        pass
    bad = next((v for v in values if not isinstance(v, (str, bool, int, float)) and v is not None), None)
    if bad is not None:
        raise BadParameter(f"numbers or names in {name!r}", type(bad).__name__, "Give numbers, or text for categories.")
    return values.astype(object), True
