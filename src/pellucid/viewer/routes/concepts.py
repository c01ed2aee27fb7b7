"""Concepts in words: results on offer, the images of a concept, and what the concepts do in a scan."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from pellucid.viewer import concepts
from pellucid.viewer.routes.reach import PNG, PROBLEMS, AtDesk, drawn
from pellucid.viewer.shapes import Begun, Going, Key, Number, Problem, Strict, Text

router = APIRouter(prefix="/api/concepts", tags=["concepts"], responses=PROBLEMS)
Name = Annotated[str, Query(max_length=400)]


class ConceptLine(BaseModel):
    """A concept at a site for a target: verdict and sentence over many images. ``of``: the class that the target is about; ``beside``: more numbers
    in words; ``holm``: what is left of it as one of several tests; ``dropped``: nothing is said of it; ``examples``: how many of its images can be shown."""

    concept: str
    site: str
    target: str
    of: str
    verdict: str
    status: str
    dropped: bool
    sentence: str
    score: Number
    low: Number
    high: Number
    random: Number
    random_low: Number
    random_high: Number
    p: Number
    beside: str
    holm: str
    examples: int


class ConceptFile(BaseModel):
    """A result that was named at the start; ``problem``: why it says nothing of this network."""

    id: str
    rows: list[ConceptLine]
    notes: list[str]
    means: str
    cannot: list[str]
    problem: Problem | None


class Ask(Strict):
    """What do the concepts of a result do in this scan?"""

    scan: Key
    model: Text
    id: Key


class Here(BaseModel):
    """A concept in this scan, in a sentence that says no more than the finding over many images."""

    concept: str
    site: str
    target: str
    beyond: bool
    sentence: str


class Looked(Going):
    """How far the look is, and what it found."""

    found: list[Here] | None


@router.get("", response_model=list[ConceptFile])
def listing(desk: AtDesk, model: Name) -> list[dict[str, Any]]:
    """Results that were named at the start, with all that they say of this network."""
    return concepts.offered(desk, model)


@router.get("/picture", response_class=Response, responses=PNG)
def picture(desk: AtDesk, id: Key, concept: Name, n: int) -> Response:
    """An image of a concept's."""
    return drawn(concepts.picture(desk, id, concept, n))


@router.post("/here", response_model=Begun)
def begin(desk: AtDesk, asked: Ask) -> dict[str, str]:
    """Put a look at the concepts in a scan into the queue."""
    return {"id": concepts.begin(desk, asked.scan, asked.model, asked.id)}


@router.get("/here/{id}", response_model=Looked)
def one(desk: AtDesk, id: Key) -> dict[str, Any]:
    """How far a look is, and what it found."""
    return concepts.told(desk, id)


@router.post("/here/{id}/cancel", response_model=Looked)
def cancel(desk: AtDesk, id: Key) -> dict[str, Any]:
    """Stop a look; the network is as it was."""
    concepts.told(desk, id)
    desk.queue.stop(id)
    return concepts.told(desk, id)
