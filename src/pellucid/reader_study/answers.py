"""The answer sheet: one line of CSV an answer, appended under a lock and forced to disk; a line that a crash cut off is dropped when read."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from pellucid.errors import BadFile, BadParameter
from pellucid.files import lock, own

READER = re.compile(r"R[0-9]{1,3}")  # a code that names nobody
ONE_LINE = re.compile(r"[^\r\n\0\ud800-\udfff]{0,1000}")  # what a cell can hold: a line of the sheet is an answer
FORMULA = re.compile(r"'*[=+\-@\t]")  # what a spreadsheet would take for one, and what was kept from being one
COLUMNS = ("study", "reader", "position", "case", "level", "block", "answer", "truth", "confidence", "seconds", "away")


@dataclass(frozen=True)
class Answer:
    """One answer. ``confidence`` (0 to 1) is how likely the reader holds it to be right; ``seconds`` since the case was shown, ``away`` of these with the
    page out of sight.
    """

    study: str
    reader: str
    position: int
    case: str
    level: str
    block: int
    answer: str
    truth: str
    confidence: float
    seconds: float
    away: float = 0.0

    def __post_init__(self) -> None:
        if READER.fullmatch(self.reader) is None:
            raise BadParameter(
                "a reader's code, R and a number (R1, R07)", repr(self.reader)[:40], "A code names nobody; keep the list elsewhere."
            )
        for text in (self.study, self.case, self.level, self.answer, self.truth):
            if ONE_LINE.fullmatch(text) is None:
                raise BadParameter("text of one line, at most 1000 characters", repr(text)[:80], "Shorten it.")
        if not 0 <= self.confidence <= 1:
            raise BadParameter("a confidence from 0 to 1", repr(self.confidence), "0.5 is: as likely wrong as right.")
        if not (math.isfinite(self.seconds) and self.seconds >= 0 and self.away >= 0):
            raise BadParameter("seconds of at least 0", f"{self.seconds}, {self.away} away", "Show the case first.")


@dataclass(frozen=True)
class AnswerSheet:
    """A CSV file of answers, to which is only ever appended; processes may share it. Text that a spreadsheet would take for a formula gets an ' before it."""

    path: Path

    def add(self, answer: Answer) -> None:
        """Append an answer; it is on the disk when this returns.

        Raises:
            BadParameter: this reader has answered at this position.
            BadFile: a file that is no answer sheet, or a link.
        """
        with own(self.path) as file:
            lock(file)
            file.seek(0)
            data = file.read()
            if any((a.reader, a.position) == (answer.reader, answer.position) for a in self._parsed(data)):
                raise BadParameter("an answer to a new case", f"a second one at position {answer.position}", "An answer stands once given.")
            whole = data.rfind(b"\n") + 1
            if not whole and data and not _line(COLUMNS).startswith(data):
                raise BadFile(
                    f"an answer sheet at {self.path.name}", "another file", "Put back the file as it was written, or move it away."
                )
            file.truncate(whole)  # what a crash cut off is written over
            file.write(b"".join(map(_line, [astuple(answer)] if whole else [COLUMNS, astuple(answer)])))
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Answer]:
        """All answers so far.

        Raises:
            BadFile: a file that is no answer sheet.
        """
        try:
            return self._parsed(self.path.read_bytes())
        except FileNotFoundError:
            return []

    def _parsed(self, data: bytes) -> list[Answer]:
        kinds: dict[str, Callable[[str], Any]] = {f.name: {"int": int, "float": float}.get(str(f.type), _text) for f in fields(Answer)}
        try:
            first, *rows = csv.reader(io.StringIO(data[: data.rfind(b"\n") + 1].decode())) if b"\n" in data else [COLUMNS]
            if tuple(first) != COLUMNS:
                raise ValueError(f"columns {first[:4]}")
            return [Answer(*(kinds[name](v) for name, v in zip(COLUMNS, row, strict=True))) for row in rows]
        except Exception as error:  # whatever else was written into it, or how another program saved it
            got = f"{type(error).__name__}: {error}"[:160]
            raise BadFile(
                f"an answer sheet at {self.path.name}", got, "Put back the file as it was written: it is not to be edited."
            ) from error


def _line(values: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([f"'{v}" if isinstance(v, str) and FORMULA.match(v) else v for v in values])
    return text.getvalue().encode()


def _text(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
