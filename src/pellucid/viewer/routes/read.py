"""The mode *read*: studies, turns, answers, and what they say."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from pellucid.reader_study import results as statistics
from pellucid.report.words import label, told
from pellucid.viewer import reads
from pellucid.viewer.routes.reach import PACKED, PNG, PROBLEMS, AtDesk, packed
from pellucid.viewer.shapes import Key, LayerFacts, Strict, Text
from pellucid.viewer.showing import layer_facts

router = APIRouter(prefix="/api/readings", tags=["read"], responses=PROBLEMS)
Reader = Annotated[str, Query(max_length=8)]
Code = Annotated[str, Field(max_length=8)]
Position = Annotated[int, Field(ge=0, le=10**6)]
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}, "description": "A line for each answer."}}


class Study(BaseModel):
    """A study: how many cases and turns, which levels are shown and which are left out and why, answers by reader."""

    id: str
    folder: str
    name: str
    question: str
    cases: int
    levels: list[str]
    left_out: dict[str, str]
    turns: int
    readers: dict[str, int]
    problem: str


class Open(Strict):
    """A folder with a study."""

    folder: Annotated[str, Field(max_length=2000)]


class Opened(BaseModel):
    """The id of a study."""

    id: str


class AboutStudy(BaseModel):
    """The study of a turn."""

    name: str
    question: str
    cases: int
    levels: list[str]
    left_out: dict[str, str]
    turns: int


class Similar(BaseModel):
    """A similar case: what is true of it."""

    truth: str
    says: str


class CaseShown(BaseModel):
    """What a reader is shown: nothing beyond the level, and never the truth."""

    position: int
    case: str
    level: str
    words: str
    answers: list[str]
    scan: str
    probabilities: dict[str, float]
    maps: list[str]
    similar: list[Similar]
    concepts: list[str]


class Turn(BaseModel):
    """Whose turn, how far, and the case; None when all is read."""

    study: AboutStudy
    reader: str
    done: int
    of: int
    case: CaseShown | None


class Seen(Strict):
    """The case is on the screen."""

    reader: Code
    position: Position


class Clock(BaseModel):
    """The clock of a case runs; since when (seconds since 1970)."""

    position: int
    since: float


class Said(Strict):
    """An answer; ``confidence`` from 0 to 1; ``away``: seconds with the page out of sight."""

    reader: Code
    position: Position
    answer: Text
    confidence: Annotated[float, Field(ge=0, le=1)]
    away: Annotated[float, Field(ge=0, le=10**7)] = 0.0


class Statistics(BaseModel):
    """A study's numbers: columns and rows as text, every number, and what they cannot tell."""

    columns: list[str]
    rows: list[list[str]]
    numbers: dict[str, Any]


@router.get("", response_model=list[Study])
def listing(desk: AtDesk) -> list[dict[str, Any]]:
    """Studies in the served folder."""
    return reads.studies(desk)


@router.post("", response_model=Opened)
def begin(desk: AtDesk, asked: Open) -> dict[str, str]:
    """Open a study."""
    return {"id": reads.begin(desk, asked.folder)}


@router.get("/{id}/turn", response_model=Turn)
def turn(desk: AtDesk, id: str, reader: Reader) -> dict[str, Any]:
    """What a reader sees next."""
    return reads.turn(desk, id, reader)


@router.post("/{id}/shown", response_model=Clock)
def shown(desk: AtDesk, id: str, asked: Seen) -> dict[str, float]:
    """Start the clock of a case; later calls for the same case change nothing."""
    return {"position": asked.position, "since": reads.shown(desk, id, asked.reader, asked.position)}


@router.post("/{id}/answers", response_model=Turn)
def answer(desk: AtDesk, id: str, said: Said) -> dict[str, Any]:
    """Give an answer; it stands. The next turn is the answer to it."""
    reads.answer(desk, id, said.reader, said.position, said.answer, said.confidence, said.away)
    return reads.turn(desk, id, said.reader)


@router.get("/{id}/answers.csv", response_class=Response, responses=CSV)
def answer_sheet(desk: AtDesk, id: str) -> Response:
    """All answers as they lie on the disk."""
    reads.answers(desk, id)
    path = reads.sheet(desk, id).path
    name = f'attachment; filename="{desk.store.get(reads.KIND, id)["name"]}-answers.csv"'
    return Response(path.read_bytes() if path.exists() else b"", media_type="text/csv", headers={"content-disposition": name})


@router.get("/{id}/results", response_model=Statistics)
def results(desk: AtDesk, id: str) -> dict[str, Any]:
    """Accuracy, agreement, calibration and time at each level."""
    found = statistics(reads.answers(desk, id), draws=400)
    table = found.table()
    return {"columns": list(table.columns), "rows": [list(map(str, r)) for r in table.rows], "numbers": found.as_dict()}


class ReadMap(LayerFacts):
    """How a map's samples are read, and what its checks said when the study was prepared: no map is shown without."""

    label: dict[str, Any]
    sentence: str
    cannot: str


@router.get("/{id}/cases/{case}/maps/{n}", response_model=ReadMap)
def map_facts(desk: AtDesk, id: str, case: Key, n: int) -> dict[str, Any]:
    """How a map's samples are read, and what its checks said."""
    why, scan = reads.map_of(desk, id, case, n)
    said = told(why)
    return {**layer_facts(desk.display(scan).layer(why)), "label": label(said), "sentence": said["sentence"], "cannot": said["cannot"]}


@router.get("/{id}/cases/{case}/maps/{n}/samples", response_class=Response, responses=PACKED)
def samples(desk: AtDesk, id: str, case: Key, n: int) -> Response:
    """A map over its scan, in viewing order."""
    why, scan = reads.map_of(desk, id, case, n)
    return packed(desk.display(scan).layer(why).data)


@router.get("/{id}/cases/{case}/similar/{n}", response_class=Response, responses=PNG)
def similar(desk: AtDesk, id: str, case: Key, n: int) -> Response:
    """The picture of a similar case."""
    return Response(reads.similar(desk, id, case, n), media_type="image/png")
