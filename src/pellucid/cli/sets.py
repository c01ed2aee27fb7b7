"""Sets of scans on the command line: a folder, or a table of cases; and errors about them that name no file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import BadFile, BadParameter, PellucidError
from pellucid.table import read_csv


@dataclass(frozen=True, eq=False)
class Cases:
    """Scans in their order; what is known of each: its label and patient ("" if not known), and where it stands, for what is said of it."""

    scans: tuple[Path, ...]
    labels: tuple[str, ...]
    patients: tuple[str, ...]
    where: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scans)

    @property
    def known_patients(self) -> tuple[str, ...] | None:
        """Patients, or None where the set knows none.

        Raises:
            BadFile: known of some cases alone.
        """
        if not any(self.patients):
            return None
        gap = next((w for w, p in zip(self.where, self.patients, strict=True) if not p), None)
        if gap is not None:
            raise BadFile(f"a patient in {gap}, as in other lines", "an empty cell", "Fill the column, or leave it out.")
        return self.patients

    def one_label_each(self, option: str) -> tuple[str, ...]:
        """The labels, where each case has one.

        Raises:
            BadFile: a case without a label, or with several.
        """
        for where, label in zip(self.where, self.labels, strict=True):
            if not label or ";" in label:
                fix = f"{option} takes a table with the columns image and label, one label a line."
                raise BadFile(f"one label in {where}", "several" if label else "none", fix)
        return self.labels

    def labelled(self, label: str | None) -> Cases:
        """The cases that bear this label, maybe among others; None: all.

        Raises:
            BadParameter: none does.
        """
        kept = [i for i, told in enumerate(self.labels) if label is None or label in told.split(";")]
        if not kept:
            there = sorted({one for told in self.labels for one in told.split(";") if one})
            raise BadParameter("a label of the table", repr(label), f"There are {', '.join(there[:8]) or 'none'}.")
        return self.at(kept)

    def at(self, places: Sequence[int]) -> Cases:
        """Those at some places."""
        columns = [tuple(column[i] for i in places) for column in (self.labels, self.patients, self.where)]
        return Cases(tuple(self.scans[i] for i in places), *columns)


def read_set(text: str) -> Cases:
    """A folder of images (or of folders, a series each), or a table with the columns image, label and patient, as studies read it.

    Raises:
        BadFile: neither, an empty folder, or a table that cannot be read.
    """
    from pellucid.study import read_cases

    path = Path(text)
    if path.is_dir():
        found = tuple(sorted(p for p in path.iterdir() if not p.name.startswith(".")))
        if not found:
            raise BadFile(f"images in {path}", "an empty folder", "Fill it, or name another.")
        nothing = ("",) * len(found)
        return Cases(found, nothing, nothing, tuple(f"image {n} of {path.name}" for n in range(1, len(found) + 1)))
    if path.suffix.lower() != ".csv" or not path.is_file():
        got = "no such file or folder" if not path.exists() else f"a file {path.suffix!r}"
        raise BadFile(f"a folder of images or a .csv table: {path}", got, "The columns of a table are image, label, patient.")
    cases = read_cases(path)
    labels = tuple(";".join(c.label) if isinstance(c.label, tuple) else str(c.label or "") for c in cases)
    return Cases(tuple(Path(str(c.image)) for c in cases), labels, tuple(c.patient for c in cases), tuple(c.where for c in cases))


def named_in(table: Path, columns: Sequence[str]) -> Cases:
    """The files that some columns of a table name, whether they are there or not; none where it cannot be read."""
    try:
        read = read_csv(table, "a table of files", fix="")
    except BadFile:
        return Cases((), (), (), ())
    rows = zip(read.lines, read.rows, strict=True)
    found = [(table.parent / row[c], f"line {n} of {table.name}") for n, row in rows for c in columns if row.get(c)]
    nothing = ("",) * len(found)
    return Cases(tuple(p for p, _ in found), nothing, nothing, tuple(w for _, w in found))


@contextmanager
def unnamed(*sets: Cases) -> Iterator[None]:
    """Errors about a case say where it stands, not what its file or its folders are called."""
    try:
        yield
    except PellucidError as error:
        files = [pair for cases in sets for pair in zip(cases.scans, cases.where, strict=True)]
        raise type(error)(*(_without(t, files) for t in (error.asked, error.got, error.fix))) from error


def _without(text: str, files: Sequence[tuple[Path, str]]) -> str:
    """A text in which paths, whole or from any of their folders on, and what lies in them are called something else; the whole ones first."""
    here = [(path.parts, where) for path, where in files if path.name in text]
    for at in range(max((len(parts) for parts, _ in here), default=0)):
        for parts, where in here:
            if at < len(parts):
                name = re.escape(str(Path(*parts[at:])))
                text = re.sub(rf"(?<![\w-]){name}(?![\w-])(/[^\s;,'\"]*)?", lambda _, w=where: w, text)  # type: ignore[misc]
    return text
