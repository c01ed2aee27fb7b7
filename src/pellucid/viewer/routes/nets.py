"""Networks on offer, what a look at one tells, and the methods with their forms."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from pellucid.viewer import asking, forms
from pellucid.viewer.jobs import OVER
from pellucid.viewer.routes.reach import PROBLEMS, AtDesk
from pellucid.viewer.shapes import Key, MethodAsk, Problem, State

router = APIRouter(prefix="/api", tags=["networks and methods"], responses=PROBLEMS)
Name = Annotated[str, Query(max_length=400)]


class ModelName(BaseModel):
    """A network on offer; ``given``: named on the command line."""

    id: str
    given: bool


class ModelFacts(BaseModel):
    """What may be told of a network before it has run."""

    id: str
    name: str
    kind: str
    trust: str
    classes: list[str]
    sha256: dict[str, str]
    notes: list[str]


class Site(BaseModel):
    """A place in the network, and the shape of its activation (channels, *space)."""

    name: str
    shape: list[int]


class Look(BaseModel):
    """What a pass over the scan tells of the network, once ``state`` is done."""

    state: State
    ahead: int = 0
    error: Problem | None = None
    output: str = ""
    classes: list[str] = []
    probabilities: list[float] = []
    predicted: str = ""
    shape: list[int] = []
    sites: list[Site] = []
    remarks: list[str] = []


class FormField(BaseModel):
    """A parameter of a method: its kind, what it may be, its default as text (null: left open)."""

    name: str
    kind: str
    wants: str
    says: str
    optional: bool
    default: str | None
    choices: list[str]
    ideas: list[str]
    low: float | None
    high: float | None
    step: float | None


class MethodForm(BaseModel):
    """A method, its traps and its parameters."""

    name: str
    title: str
    says: str
    misleads: str
    source: str
    space: list[int]
    where: str
    gives: list[str]
    random: bool
    hears_weights: bool
    hears_target: bool
    fields: list[FormField]


class Priced(BaseModel):
    """A bound method as it is written, and the passes that it takes (null where that depends on the site)."""

    method: str
    forward: int | None
    backward: int | None
    at_most: bool


@router.get("/models", response_model=list[ModelName])
def models(desk: AtDesk) -> list[dict[str, object]]:
    """Networks on offer: those of the command line, and the shipped phantoms. None is ever uploaded."""
    return [{"id": key, "given": key in desk.nets.given} for key in desk.nets.ids()]


@router.get("/model", response_model=ModelFacts)
def model(desk: AtDesk, id: Name) -> dict[str, object]:
    """Name, kind, trust, classes, hashes and remarks of a network."""
    return desk.nets.facts(id)


@router.post("/look", response_model=Look)
def look(desk: AtDesk, scan: Key, model: Name) -> dict[str, object]:
    """What the network predicts for a scan, and its sites; asked again until ``state`` is done. It waits in the queue like a run."""
    before = desk.queue.jobs.get(f"look-{scan}-{model}")
    job = before if before is not None and before.state == "failed" else asking.look_at(desk, scan, model)
    found = desk.looks.get((scan, model))
    if found is not None:
        told = asdict(found)
        return {"state": "done", **told, "sites": [{"name": n, "shape": list(s)} for n, s in found.sites]}
    assert job is not None
    if job.state in OVER:
        del desk.queue.jobs[job.id]  # the next one who asks tries again
    return {"state": job.state, "ahead": desk.queue.ahead(job), "error": job.error}


@router.get("/methods", response_model=list[MethodForm])
def methods() -> list[dict[str, object]]:
    """Every method with its form, made from its signature."""
    return [asdict(f) for f in forms.forms()]


@router.post("/methods/price", response_model=Priced)
def price(desk: AtDesk, scan: Key, asked: MethodAsk) -> dict[str, object]:
    """A method with its parameters checked: how it is written, and how many passes it takes."""
    m = forms.bound(asked.name, asked.params)
    return {"method": repr(m), **asking.cost(desk, scan, m)}
