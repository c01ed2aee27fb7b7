"""Asking: runs in the queue, their progress, cancelling, and the maps that they made."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from pellucid.explanation import Map
from pellucid.report.words import label, told
from pellucid.viewer import asking, way
from pellucid.viewer.desk import Desk
from pellucid.viewer.jobs import OVER
from pellucid.viewer.routes.reach import PACKED, PROBLEMS, AtDesk, finite, packed, row
from pellucid.viewer.shapes import Key, LayerFacts, Level, MethodAsk, Number, Problem, Row, Shown, State, Strict, Text
from pellucid.viewer.showing import Display, layer_facts

router = APIRouter(prefix="/api", tags=["runs and maps"], responses=PROBLEMS)


class Question(Strict):
    """Why does this model give this target for this scan, seen at these sites, by these methods? ``mark``: the mask of ``region(...)``."""

    scan: Key
    model: Text
    target: Text | None = None
    mark: Key | None = None
    sites: Annotated[list[Text | None], Field(max_length=24)] = []
    methods: Annotated[list[MethodAsk], Field(min_length=1, max_length=24)]
    evidence: Level = "quick"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    chunk: Annotated[int, Field(ge=1, le=1024)] | None = None


class MapLine(BaseModel):
    """A map of a run in a line; ``explained``: its target in short; ``way``: each step of its path was kept."""

    id: str
    name: str
    method: str
    target: str
    explained: str
    site: str
    score: Number
    verdict: str | None
    level: str
    way: bool


class RunRecord(BaseModel):
    """A run: its question, how far it is, its maps so far; ``stopping``: it was cancelled, and ends at the next pass of the network."""

    id: str
    state: State
    made: str
    phase: str
    done: int
    total: int | None
    ahead: int
    stopping: bool
    seconds: float
    question: Question
    error: Problem | None
    maps: list[MapLine]


class Ran(BaseModel):
    """The id of a run that was put into the queue."""

    id: str


class Class(BaseModel):
    """A class and its probability."""

    name: str
    p: float


class MapFacts(BaseModel):
    """A map in words and numbers."""

    id: str
    run: str
    scan: str
    name: str
    method: str
    target: str
    site: str
    score: Number
    classes: list[Class]
    said: str
    beside: str
    verdict: str
    sentence: str
    reasons: list[str]
    cannot: str
    caveats: list[str]
    level: str
    rows: list[Row]
    provenance: list[tuple[str, str]]
    layer: LayerFacts
    label: dict[str, Any]
    way: str | None
    kept: bool


class Way(BaseModel):
    """The path of a map's method: where each step lies, what it contributed, what the network said there."""

    kind: str
    at: list[float]
    unit: str
    contributions: list[float]
    scores: list[float]
    probabilities: list[list[float]]
    classes: list[str]
    kept: bool


class Frame(BaseModel):
    """The image at a step of a way, and the map so far; both packed in base64 as the report packs them."""

    display: Shown
    channels: list[str]
    layer: LayerFacts | None
    map: str | None


@router.post("/runs", response_model=Ran)
def begin(desk: AtDesk, question: Question) -> dict[str, str]:
    """Put a question into the queue. What is wrong with it is said at once."""
    return {"id": asking.begin(desk, question.model_dump())}


@router.get("/runs", response_model=list[RunRecord])
def runs(desk: AtDesk, scan: str | None = None) -> list[dict[str, Any]]:
    """All runs, or those of a scan, in the order in which they were asked."""
    return [_record(desk, key) for key, r in desk.store.all("runs") if scan is None or r["question"]["scan"] == scan]


@router.get("/runs/{run}", response_model=RunRecord)
def one(desk: AtDesk, run: str) -> dict[str, Any]:
    """How far a run is."""
    return _record(desk, run)


@router.post("/runs/{run}/cancel", response_model=RunRecord)
def cancel(desk: AtDesk, run: str) -> dict[str, Any]:
    """Stop a run; the network is as it was, and maps that are there stay."""
    asking.stop(desk, run)
    return _record(desk, run)


@router.delete("/runs/{run}", status_code=204, response_class=Response)
def drop(desk: AtDesk, run: str) -> Response:
    """Remove a run and its maps."""
    asking.stop(desk, run)
    job = desk.queue.jobs.get(run)
    if job is not None and job.state not in OVER:
        job.finished.wait(20)
    desk.store.drop("runs", run)
    return Response(status_code=204)


@router.get("/maps/{id}", response_model=MapFacts)
def map_facts(desk: AtDesk, id: str) -> dict[str, Any]:
    """A map in words and numbers: verdict and reasons, evidence, provenance."""
    why, scan = asking.map_of(desk, id), asking.scan_of(desk, id)
    p, e = why.provenance, why.evidence
    said = told(why)
    names = [p.classes[k] if k < len(p.classes) else f"class {k}" for k in range(len(why.probabilities))]
    run, n = asking.split(id)
    return {
        "id": id, "run": run, "scan": scan, "name": said["name"], "method": p.method, "target": p.target, "site": p.site,
        "score": finite(why.score), "classes": [{"name": c, "p": v} for c, v in zip(names, why.probabilities, strict=True)],
        "said": f"{said['asked'].capitalize()} of {said['target']}: {said['score']}", "beside": said["beside"], "verdict": said["verdict"],
        "sentence": said["sentence"], "reasons": said["reasons"], "cannot": said["cannot"], "caveats": said["caveats"],
        "level": e.level, "rows": [row(r) for r in e], "provenance": _provenance(why), "layer": layer_facts(desk.display(scan).layer(why)),
        "label": label(said), "way": way.kind(why), "kept": (desk.store.folder("runs", run) / f"{n}.way.npz").exists(),
    }  # fmt: skip


@router.get("/maps/{id}/samples", response_class=Response, responses=PACKED)
def samples(desk: AtDesk, id: str) -> Response:
    """The map over its scan, in viewing order."""
    return packed(desk.display(asking.scan_of(desk, id)).layer(asking.map_of(desk, id)).data)


@router.get("/maps/{id}/way", response_model=Way)
def path(desk: AtDesk, id: str) -> dict[str, Any]:
    """The path that the map's method followed, in numbers."""
    why = asking.map_of(desk, id)
    run, n = asking.split(id)
    kept = (desk.store.folder("runs", run) / f"{n}.way.npz").exists()
    return {**way.told(why), "classes": list(why.provenance.classes), "kept": kept}


@router.get("/maps/{id}/way/{step}", response_model=Frame)
def frame(desk: AtDesk, id: str, step: int) -> dict[str, Any]:
    """The image at a step of the path, and the map as far as the path has gone."""
    run, n = asking.split(id)
    image, so_far = way.frame(desk.store.folder("runs", run) / f"{n}.way.npz", asking.map_of(desk, id), step)
    display = Display.of(image)
    layer = None if so_far is None else display.layer(so_far)
    return {
        "display": display.facts(), "channels": [base64.b64encode(c.data).decode() for c in display.channels],
        "layer": layer and layer_facts(layer), "map": layer and base64.b64encode(layer.data).decode(),
    }  # fmt: skip


def _record(desk: Desk, key: str) -> dict[str, Any]:
    record = asking.progress(desk, key)
    maps = [
        {"explained": m["target"], **m, "id": f"{key}.{m['n']}", "score": finite(m["score"])}
        for m in sorted(record["maps"], key=lambda m: m["n"])
    ]
    return {**record, "maps": maps}


def _provenance(why: Map) -> list[tuple[str, str]]:
    p = why.provenance
    rows = [
        ("Method", p.method), ("Target", p.target), ("Site", p.site), ("Network", p.model), ("Weights (SHA-256)", p.weights),
        ("Scan", p.scan), ("Preparation", p.prepare), ("Seed", str(p.seed)), ("Passes", f"{p.forward} forward, {p.backward} backward"),
        ("Time taken", f"{p.seconds:.3g} s on {p.device}"), ("Made", p.time), ("Source", p.cite),
    ]  # fmt: skip
    return [r for r in rows if r[1]]
