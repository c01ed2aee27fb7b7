"""Table: rows of plain values under named columns; read by people as text, by programs as dicts or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pellucid.errors import BadParameter


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
        """The table as CSV text, numbers in full."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([self.columns, *self.rows])
        return text.getvalue()


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|")
