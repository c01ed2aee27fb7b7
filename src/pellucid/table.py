"""Table: rows of plain values under named columns; read by people as text, by programs as dicts, CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.errors import BadFile, BadParameter
from pellucid.files import put

LEADING = 4  # columns by which a table is known


@dataclass(frozen=True)
class Table:
    """Rows under named columns.

    >>> t = Table(("region", "mass"), (("left", 1.5), ("right", -0.25)))
    >>> [row["mass"] for row in t], t["region"]
    ([1.5, -0.25], ('left', 'right'))
    >>> print(t)
    | region | mass |
    | --- | --- |
    | left | 1.5 |
    | right | -0.25 |
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        wrong = next((r for r in self.rows if len(r) != len(self.columns)), None)
        if wrong is not None:
            raise BadParameter(f"a row of {len(self.columns)} values", f"{len(wrong)}", "Give one value for each column.")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __getitem__(self, column: str) -> tuple[Any, ...]:
        """A column's values."""
        if column not in self.columns:
            raise KeyError(f"no column {column!r}; there are {', '.join(self.columns)}")
        at = self.columns.index(column)
        return tuple(row[at] for row in self.rows)

    def __str__(self) -> str:
        lines = [self.columns, tuple("---" for _ in self.columns), *(tuple(map(_plain, row)) for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def csv(self) -> str:
        """The table as CSV text, numbers in full; text that a spreadsheet would take for a formula gets ``'`` before it."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([map(_harmless, row) for row in (self.columns, *self.rows)])
        return text.getvalue()

    def json(self) -> str:
        """The table as JSON text: ``{"columns": [...], "rows": [[...], ...]}``; nan and infinity as strings."""
        return (
            json.dumps({"columns": self.columns, "rows": [[_strict(v) for v in row] for row in self.rows]}, ensure_ascii=False, indent=1)
            + "\n"
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``.csv``, ``.json`` or ``.parquet`` (needs pyarrow), whole or not at all.

        Raises:
            BadFile: another suffix, no such folder, or a file that is there already (``overwrite=True`` replaces it).
            BadParameter: Parquet without pyarrow.
        """
        path = Path(path)
        makers: dict[str, Callable[[], bytes]] = {
            ".csv": lambda: self.csv().encode(), ".json": lambda: self.json().encode(), ".parquet": self._parquet,
        }  # fmt: skip
        maker = makers.get(path.suffix.lower())
        if maker is None:
            raise BadFile(f"write a table to {path}", f"suffix {path.suffix!r}", f"Use one of {', '.join(makers)}.")
        if not path.parent.is_dir():
            raise BadFile(f"write {path}", f"no folder {path.parent}", "Create it first.")
        if path.exists() and not overwrite:
            raise BadFile(f"write {path}", "a file of that name", "Choose another name, or give overwrite=True.")
        return put(path, maker())

    def renew(self, path: str | Path) -> Path:
        """Write ``.csv``; an earlier table, which begins with the same columns, is replaced, and nobody else's file.

        Raises:
            BadFile: another file of that name, or as ``save``.
        """
        path = Path(path)
        if path.exists() and not (path.is_file() and _leading(path) == self.columns[:LEADING]):
            raise BadFile(f"write {path}", "a file that Pellucid did not write", "Choose another place, or move that file away.")
        return self.save(path, overwrite=True)

    def _parquet(self) -> bytes:
        """Columns of one kind keep it; columns of several kinds (numbers and words) become text."""
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise BadParameter("a table as Parquet", "no pyarrow", "pip install pyarrow, or write .csv.") from error
        out = io.BytesIO()
        columns = {name: _alike([row[at] for row in self.rows]) for at, name in enumerate(self.columns)}
        parquet.write_table(pyarrow.table(columns), out)
        return out.getvalue()


class Rows(NamedTuple):
    """What a CSV file says: the names of its columns, its rows, and the line of the file on which each row ends."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]


def read_csv(path: Path, what: str, *wanted: str, fix: str) -> Rows:
    """A CSV file in UTF-8 with a line of names; cells without the space around them, missing ones empty, empty lines left out.

    Args:
        path: the file.
        what: what it is, for errors: "a table of masks".
        wanted: columns that it must have.
        fix: what to do where it is no such table.

    Raises:
        BadFile: no such file, no text, a wanted column that is missing, a name twice, or more cells in a line than names.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            names = tuple(cell.strip() for cell in next(reader, []))
            found = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        got = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
        raise BadFile(f"{what}: {path}", got[:100], f"Give a CSV file in UTF-8. {fix}") from error
    missing = [name for name in wanted if name not in names]
    if missing:
        raise BadFile(f"a column {missing[0]!r} in {path.name}, {what}", ", ".join(names) or "nothing", fix)
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise BadFile(f"each column once in {path.name}, {what}", f"{twice!r} twice", "Name one of them differently.")
    kept = [(line, cells) for line, cells in found if any(cells)]
    long = next((line for line, cells in kept if any(cells[len(names) :])), None)
    if long is not None:
        raise BadFile(f"{len(names)} cells at most in line {long} of {path.name}", "more", "Write a cell with a comma in double quotes.")
    rows = tuple({n: cells[k] if k < len(cells) else "" for k, n in enumerate(names) if n} for _, cells in kept)
    return Rows(tuple(n for n in names if n), rows, tuple(line for line, _ in kept))


def percent(p: float) -> str:
    """A share or a probability as a person reads it; never 0 or 100 where it is neither."""
    if 0 < p < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 < p < 1 else f"{100 * p:.1f} %"


def _leading(path: Path) -> tuple[str, ...]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        first = next(csv.reader(io.StringIO(file.readline(100_000))), [])
    return tuple(first[:LEADING])


def _alike(values: list[Any]) -> list[Any]:
    kinds = {bool if isinstance(v, bool) else type(v) for v in values if v is not None}
    if kinds <= {int, float}:
        return [float(v) if v is not None and float in kinds else v for v in values]
    return values if len(kinds) <= 1 and kinds <= {str, bool} else [None if v is None else str(v) for v in values]


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet shows instead of working it out; numbers as they are, also those written as text."""
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _strict(value: Any) -> Any:
    """What JSON can hold; other values as their text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|")
