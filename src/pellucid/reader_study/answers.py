"""The answer sheet: one line of CSV an answer, appended and forced to disk; a line that was cut off by a crash is dropped when read."""

from __future__ import annotations

import csv
import io
import math
import os
import re
import threading
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from pellucid.errors import BadFile, BadParameter

READER = re.compile(r"R[0-9]{1,3}")  # a code that names nobody
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
        if not 0 <= self.confidence <= 1:
            raise BadParameter("a confidence from 0 to 1", repr(self.confidence), "0.5 is: as likely wrong as right.")
        if not (math.isfinite(self.seconds) and self.seconds >= 0 and self.away >= 0):
            raise BadParameter("seconds of at least 0", f"{self.seconds}, {self.away} away", "Show the case first.")


@dataclass(eq=False)
class AnswerSheet:
    """A CSV file of answers, to which is only ever appended."""

    path: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, answer: Answer) -> None:
        """Append an answer; it is on the disk when this returns.

        Raises:
            BadParameter: this reader has answered at this position.
        """
        with self._lock:
            if any((a.reader, a.position) == (answer.reader, answer.position) for a in self.read()):
                raise BadParameter("an answer to a new case", f"a second one at position {answer.position}", "An answer stands once given.")
            new = not self.path.exists() or self.path.stat().st_size == 0
            row = _line(list(asdict(answer).values()))
            with self.path.open("r+b" if not new else "wb") as file:
                data = b"" if new else file.read()
                file.seek(data.rfind(b"\n") + 1)  # what a crash cut off is written over
                file.truncate()
                file.write((_line(list(COLUMNS)) + row if file.tell() == 0 else row).encode())
                file.flush()
                os.fsync(file.fileno())

    def read(self) -> list[Answer]:
        """All answers so far.

        Raises:
            BadFile: a file that is no answer sheet.
        """
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        rows = list(csv.reader(io.StringIO(whole)))
        if rows and tuple(rows[0]) != COLUMNS:
            raise BadFile(f"an answer sheet at {self.path.name}", f"columns {rows[0][:4]}", "Choose another file.")
        kinds = {f.name: {"int": int, "float": float}.get(str(f.type), str) for f in fields(Answer)}
        try:
            return [Answer(**{name: kinds[name](v) for name, v in zip(COLUMNS, row, strict=True)}) for row in rows[1:]]
        except (TypeError, ValueError) as error:
            raise BadFile(f"an answer sheet at {self.path.name}", str(error)[:120], "Look at its lines.") from error


def _line(values: list[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
