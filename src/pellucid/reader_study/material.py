"""What a reader study shows: cases with the network's probabilities, maps, similar cases and concepts, from one JSON file in a folder."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pellucid.errors import BadFile
from pellucid.reader_study.answers import ONE_LINE

Level = Literal["probabilities", "maps", "similar", "concepts"]
LEVELS: tuple[Level, ...] = ("probabilities", "maps", "similar", "concepts")  # each shows what those before it show, and more
WORDS = {
    "probabilities": "the network's probabilities",
    "maps": "probabilities and maps",
    "similar": "probabilities, maps and similar real cases",
    "concepts": "probabilities, maps, similar real cases and concepts in sentences",
}
FILE = "reader_study.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True)
class MapFile:
    """A map that ``Map.save`` wrote (``.npz``), in the study's folder, and what it is called on the page."""

    file: str
    name: str


@dataclass(frozen=True)
class SimilarCase:
    """A real case that resembles the one shown: its picture, what is known to be true of it, and how near it is, in words."""

    file: str
    truth: str
    says: str = ""


@dataclass(frozen=True)
class ReadingCase:
    """A case: its scan, the true answer, and what may be shown beside it. ``id`` is a name of the study, never the patient's."""

    id: str
    scan: str
    truth: str
    probabilities: Mapping[str, float] = field(default_factory=dict)
    maps: tuple[MapFile, ...] = ()
    similar: tuple[SimilarCase, ...] = ()
    concepts: tuple[str, ...] = ()
    series: str | None = None

    def holds(self, level: Level) -> bool:
        """Whether what this level adds is there."""
        return bool(getattr(self, level))


@dataclass(frozen=True)
class ReaderStudy:
    """Cases, the question, its answers, and which levels are shown.

    ``crossed``: every reader sees every case at every level, in blocks; else every reader sees every case once. ``left_out`` says of each level that
    is not shown why.
    """

    name: str
    question: str
    answers: tuple[str, ...]
    cases: tuple[ReadingCase, ...]
    levels: tuple[Level, ...]
    left_out: Mapping[str, str]
    crossed: bool = True
    seed: int = 0

    def __getitem__(self, case: str) -> ReadingCase:
        """A case by its id.

        Raises:
            BadFile: there is none.
        """
        for c in self.cases:
            if c.id == case:
                return c
        raise BadFile("a case of the study", f"{case[:40]!r}, which is not among them", "Reload the page.")


def read_reader_study(folder: str | Path) -> ReaderStudy:
    """The study in ``folder/reader_study.json``; levels whose material is missing for any case are left out, and ``left_out`` says so.

    Raises:
        BadFile: no such file, or one that says something else than ``docs/reading.md`` describes.
    """
    path = Path(folder) / FILE
    if not path.is_file():  # nor a pipe, which would keep whoever opens it
        raise BadFile(f"a study in {path}", "no such file", "See docs/reading.md.")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        cases = tuple(_case(c) for c in told["cases"])
        wanted = tuple(told.get("levels", LEVELS))
        study = (str(told["name"]), str(told["question"]), tuple(map(str, told["answers"])))
        crossed, seed = bool(told.get("crossed", True)), int(told.get("seed", 0))
        _check(*study, cases, wanted)
    except BadFile:
        raise
    except Exception as error:  # whatever else somebody wrote into it
        raise BadFile(f"a study in {FILE}", f"{type(error).__name__}: {error}"[:160], "See docs/reading.md.") from error
    left_out: dict[str, str] = {}
    for level in LEVELS:
        lacking = sum(not c.holds(level) for c in cases)
        if level not in wanted:
            left_out[level] = "not asked for"
        elif lacking:
            left_out[level] = f"{lacking} of {len(cases)} cases have none"
    levels = tuple(level for level in LEVELS if level not in left_out)
    if not levels:
        raise BadFile(
            "a study with a level to show", "; ".join(f"{k}: {v}" for k, v in left_out.items()), "Give each case its probabilities."
        )
    return ReaderStudy(*study, cases, levels, left_out, crossed, seed)


def _case(told: Mapping[str, Any]) -> ReadingCase:
    return ReadingCase(
        str(told["id"]), _inside(told["scan"]), str(told["truth"]),
        {str(k): float(v) for k, v in (told.get("probabilities") or {}).items()},
        tuple(MapFile(_inside(m["file"]), str(m["name"])) for m in told.get("maps") or ()),
        tuple(SimilarCase(_inside(s["file"]), str(s["truth"]), str(s.get("says", ""))) for s in told.get("similar") or ()),
        tuple(map(str, told.get("concepts") or ())), told.get("series"),
    )  # fmt: skip


def _inside(path: Any) -> str:
    parts = PurePosixPath(str(path)).parts
    if not parts or "\\" in str(path) or any(p in ("..", "/") or p.startswith(".") or ":" in p for p in parts):
        raise ValueError(f"{path!r} does not lie in the study's folder")
    return "/".join(parts)


def _check(name: str, question: str, answers: tuple[str, ...], cases: tuple[ReadingCase, ...], levels: tuple[str, ...]) -> None:
    ids = [c.id for c in cases]
    scans = {c.scan for c in cases}
    odd = sorted({lv for lv in levels if lv not in LEVELS})
    wrong = (
        "no name" if NAME.fullmatch(name) is None
        else "no question" if not question
        else f"answers {answers}" if len(set(answers)) < 2 or len(set(answers)) != len(answers)
        else "an answer that is not one line of at most 1000 characters" if not all(map(ONE_LINE.fullmatch, answers))
        else "no cases" if not cases
        else "two cases of one id" if len(set(ids)) != len(ids)
        else f"levels {odd}" if odd
        else next((f"the id {i!r}" for i in ids if NAME.fullmatch(i) is None), "")
        or next((f"the truth {c.truth!r} of {c.id}" for c in cases if c.truth not in answers), "")
        or next((f"a case of the study ({s.file}) among the similar ones, with its truth" for c in cases for s in c.similar if s.file in scans), "")
        or next((f"probabilities of {c.id}" for c in cases if any(not (math.isfinite(p) and 0 <= p <= 1) for p in c.probabilities.values())), "")
    )  # fmt: skip
    if wrong:
        raise BadFile(
            f"a study in {FILE}", wrong, "Names and ids are letters, digits, - and _; a truth is one of the answers; see docs/reading.md."
        )
