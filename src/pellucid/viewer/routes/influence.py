"""Training images that decided: what ``pellucid influence`` saved for a scan."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from pellucid.viewer import influence
from pellucid.viewer.routes.reach import PNG, PROBLEMS, AtDesk, drawn
from pellucid.viewer.shapes import Key, Number, Problem

router = APIRouter(prefix="/api/influence", tags=["training images that decided"], responses=PROBLEMS)
Name = Annotated[str, Query(max_length=400)]


class Trained(BaseModel):
    """A training image: its place in the table, label, influence in nats and as a share of the strongest; ``picture``: it can be
    shown, for an index knows where it lies; ``why`` not."""

    place: int
    label: str
    value: float
    shown: str
    share: float
    same: bool
    picture: bool
    why: str


class Decided(BaseModel):
    """What spoke for the target and against it; ``verdict`` and ``reasons``: whether retraining agrees; ``weight``: how much a single image weighs."""

    id: str
    target: str
    probability: Number
    images: int
    verdict: str
    reasons: list[str]
    weight: str
    caveats: list[str]
    means: str
    cannot: list[str]
    pro: list[Trained]
    against: list[Trained]


class Damaged(BaseModel):
    """A result that says nothing of this network, and why."""

    name: str
    problem: Problem


class Saved(BaseModel):
    """Saved results about a scan; ``others`` are about other scans."""

    found: list[Decided]
    problems: list[Damaged]
    others: int


@router.get("", response_model=Saved)
def listing(desk: AtDesk, scan: Key, model: Name, k: Annotated[int, Query(ge=1, le=24)] = 5) -> dict[str, Any]:
    """What saved results say of a scan and a network."""
    return influence.of_scan(desk, scan, model, k)


@router.get("/picture", response_class=Response, responses=PNG)
def picture(desk: AtDesk, scan: Key, model: Name, id: Name, place: int) -> Response:
    """The thumbnail of a training image."""
    return drawn(influence.picture(desk, scan, model, id, place))
