"""Real cases beside the scan: indexes on offer, the search in the queue, and a thumbnail of each case."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from pellucid.viewer import similar
from pellucid.viewer.routes.reach import PNG, PROBLEMS, AtDesk, drawn
from pellucid.viewer.shapes import Begun, Going, Key, Number, Problem, Strict, Text

router = APIRouter(prefix="/api/similar", tags=["similar cases"], responses=PROBLEMS)
Name = Annotated[str, Query(max_length=400)]


class Labelled(BaseModel):
    """How many cases of an index bear a label."""

    label: str
    among: int


class IndexLine(BaseModel):
    """An index that was named at the start; ``problem``: why this network cannot ask it."""

    id: str
    cases: int
    measure: str
    labels: list[Labelled]
    patients: bool
    problem: Problem | None


class Ask(Strict):
    """The cases of an index most like a scan; ``patient``: whose cases are left out, as the index calls them."""

    scan: Key
    model: Text
    index: Key
    k: Annotated[int, Field(ge=1, le=similar.MOST)] = 5
    patient: Text = ""


class Case(BaseModel):
    """A case that was found: its place in the index, label, likeness and distance; ``why`` it has no picture. ``name``: if asked for at the start."""

    n: int
    place: int
    label: str
    likeness: Number
    likeness_shown: str
    distance: str
    same: bool
    picture: bool
    why: str
    name: str


class Share(BaseModel):
    """A label among the cases found, among all that were compared, and how often chance would have drawn it."""

    label: str
    here: int
    among: int
    chance: str


class Found(BaseModel):
    """What was found, by which measure, and what its numbers mean and do not mean."""

    sentence: str
    measure: str
    compared: str
    searched: int
    left_out: int
    means: str
    cannot: list[str]
    notes: list[str]
    labels: list[Share]
    matches: list[Case]


class Search(Going):
    """How far a search in an index is for a scan and a network, and what it found."""

    scan: str
    model: str
    index: str
    found: Found | None


@router.get("", response_model=list[IndexLine])
def listing(desk: AtDesk, model: Name) -> list[dict[str, Any]]:
    """Indexes that were named at the start, and whether this network can ask them."""
    return similar.offered(desk, model)


@router.post("", response_model=Begun)
def begin(desk: AtDesk, asked: Ask) -> dict[str, str]:
    """Put a search into the queue. What is wrong with it is said at once."""
    return {"id": similar.begin(desk, asked.scan, asked.model, asked.index, asked.k, asked.patient.strip())}


@router.get("/{id}", response_model=Search)
def one(desk: AtDesk, id: Key) -> dict[str, Any]:
    """How far a search is, and what it found."""
    return similar.told(desk, id)


@router.post("/{id}/cancel", response_model=Search)
def cancel(desk: AtDesk, id: Key) -> dict[str, Any]:
    """Stop a search; the network is as it was."""
    similar.answer_of(desk, id)
    desk.queue.stop(id)
    return similar.told(desk, id)


@router.get("/{id}/{n}/picture", response_class=Response, responses=PNG)
def picture(desk: AtDesk, id: Key, n: int) -> Response:
    """The thumbnail of a case."""
    return drawn(similar.picture(desk, id, n))
