"""The model as a whole: findings of effects and prototypes that were named at the start."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from pellucid.viewer import findings
from pellucid.viewer.routes.reach import PROBLEMS, AtDesk
from pellucid.viewer.shapes import Problem

router = APIRouter(prefix="/api/findings", tags=["the model as a whole"], responses=PROBLEMS)
Name = Annotated[str, Query(max_length=400)]
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}, "image/svg+xml": {}}, "description": "The picture; of a tree SVG."}
}


class Line(BaseModel):
    """A finding; ``mood`` is the sign of its verdict; ``problem``: why it says nothing of this network."""

    id: str
    title: str
    verdict: str
    mood: str
    problem: Problem | None


class Checked(BaseModel):
    """A number that was checked, in words."""

    name: str
    value: str
    against: str
    status: str
    text: str


class Told(BaseModel):
    """All that is told of a finding: sentences, ``limit`` (what it cannot tell), evidence with reasons, rules of a tree, the first rows of its table
    (``more``: what is left out), its record. ``picture``: it can be shown; ``tree``: as SVG."""

    id: str
    title: str
    sentences: list[str]
    limit: str
    remarks: list[str]
    rules: list[str]
    verdict: str
    mood: str
    reasons: list[str]
    checks: list[Checked]
    columns: list[str]
    rows: list[list[str]]
    more: str
    record: list[list[str]]
    picture: bool
    tree: bool


@router.get("", response_model=list[Line])
def listing(desk: AtDesk, model: Name) -> list[dict[str, Any]]:
    """Findings that were named at the start."""
    return findings.offered(desk, model)


@router.get("/one", response_model=Told)
def one(desk: AtDesk, model: Name, id: Name) -> dict[str, Any]:
    """A finding with all that is told of it."""
    return findings.one(desk, model, id)


@router.get("/picture", response_class=Response, responses=PICTURE)
def picture(desk: AtDesk, model: Name, id: Name, ground: Literal["light", "dark"] = "light") -> Response:
    """A finding's picture."""
    data, kind = findings.figure(desk, model, id, dark=ground == "dark")
    return Response(data, media_type=kind)
