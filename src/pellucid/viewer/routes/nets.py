"""Networks on offer, what a look at one tells, and the methods with their forms."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from pellucid.viewer import asking, forms
from pellucid.viewer.jobs import OVER
from pellucid.viewer.routes.reach import PROBLEMS, AtDesk
from pellucid.viewer.shapes import Key, Look, MethodAsk, MethodForm, ModelFacts, ModelName, Priced

router = APIRouter(prefix="/api", tags=["networks and methods"], responses=PROBLEMS)
Name = Annotated[str, Query(max_length=400)]


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
