"""The mode *annotate*: sessions, what the reader does in them, and their files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from pellucid.annotation import coco, write_labels, write_segmentation
from pellucid.errors import BadFile
from pellucid.viewer import annotating
from pellucid.viewer.routes.reach import PROBLEMS, AtDesk
from pellucid.viewer.shapes import Key, Number, Strict, Text

router = APIRouter(prefix="/api/annotations", tags=["annotate"], responses=PROBLEMS)
BYTES: dict[str, Any] = {
    "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, "required": True}
}
FILES = ("application/json", "application/gzip", "application/zip", "application/dicom")
FILE: dict[int | str, dict[str, Any]] = {200: {"content": {t: {} for t in FILES}, "description": "The file."}}
Place = Annotated[list[Annotated[int, Field(ge=0, le=10**6)]], Field(max_length=3)]
Name = Annotated[str, Field(max_length=60)]
Which = Annotated[int, Field(ge=1, le=10**6)]


class Begin(Strict):
    """Where proposals come from: a map and how it is cut; without a map nothing is proposed."""

    scan: Key
    map: Key | None = None
    kind: Literal["boxes", "mask"] = "boxes"
    of: Literal["positive", "absolute"] = "positive"
    threshold: Annotated[float, Field(ge=0, le=1)] | Literal["otsu", "adaptive"] = "otsu"
    smooth: Text = "0"
    smallest: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    most: Annotated[int, Field(ge=1, le=200)] = 20
    label: Name = "finding"


class Act(Strict):
    """What the reader did; boxes in samples as shown, ``stop`` exclusive."""

    action: Literal["open", "accept", "reject", "reset", "move", "resize", "add", "label", "undo"]
    number: Which | None = None
    start: Place = []
    stop: Place = []
    label: Name = ""


class Box(BaseModel):
    """A finding as shown; ``mask``: its samples are known one by one."""

    number: int
    state: Literal["proposed", "accepted", "rejected"]
    origin: Literal["map", "reader"]
    touched: bool
    score: Number
    label: str
    start: list[int]
    stop: list[int]
    size: float
    unit: str
    mask: bool


class Session(BaseModel):
    """A session: findings, how many proposals are open, the effort so far; ``verdict``: of the map when it proposed."""

    id: str
    scan: str
    map: str | None
    verdict: str | None
    name: str
    made: str
    began: str
    findings: list[Box]
    open: int
    accepted: int
    actions: int
    seconds: float
    undo: bool


@router.get("", response_model=list[Session])
def listing(desk: AtDesk, scan: Key) -> list[dict[str, Any]]:
    """Sessions of a scan, the oldest first."""
    return [annotating.told(desk, k) for k, r in desk.store.all(annotating.KIND) if r["scan"] == scan]


@router.post("", response_model=Session)
def begin(desk: AtDesk, asked: Begin) -> dict[str, Any]:
    """Begin a session."""
    cut = {k: getattr(asked, k) for k in ("kind", "of", "threshold", "smooth", "smallest", "most")}
    return annotating.told(desk, annotating.begin(desk, asked.scan, asked.map, asked.label, **cut))


@router.get("/{id}", response_model=Session)
def one(desk: AtDesk, id: str) -> dict[str, Any]:
    """A session as it stands."""
    return annotating.told(desk, id)


@router.post("/{id}/actions", response_model=Session)
def act(desk: AtDesk, id: str, asked: Act) -> dict[str, Any]:
    """Do something; it is on the disk when the answer comes."""
    annotating.act(desk, id, asked.action, asked.number, start=asked.start, stop=asked.stop, label=asked.label)
    return annotating.told(desk, id)


@router.post("/{id}/paint", response_model=Session, openapi_extra=BYTES)
async def paint(desk: AtDesk, id: str, request: Request, number: Annotated[int | None, Query(ge=1, le=10**6)] = None) -> dict[str, Any]:
    """A finding's mask as it was painted, one byte a sample shown; without a number a new finding."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/octet-stream":
        got = repr(request.headers.get("content-type", ""))[:80]
        raise BadFile("a mask of type application/octet-stream", got, "Send the bytes alone.")
    drawn = await request.body()
    await run_in_threadpool(annotating.paint, desk, id, number, drawn)
    return annotating.told(desk, id)


@router.get("/{id}/samples", response_class=Response, responses={200: {"content": {"application/octet-stream": {}}}})
def samples(desk: AtDesk, id: str, number: Annotated[int | None, Query(ge=1, le=10**6)] = None) -> Response:
    """Masks of all findings, or of one, one byte a sample shown."""
    return Response(annotating.samples(desk, id, number), media_type="application/octet-stream")


@router.get("/{id}/file", response_class=Response, responses=FILE)
def file(desk: AtDesk, id: str, kind: Literal["coco", "nii.gz", "npz", "json"]) -> Response:
    """What the reader stands by: COCO, or labels on the scan's own grid; ``json``: the session with every action and its time."""
    record, annotation = desk.store.get(annotating.KIND, id), annotating.session(desk, id)
    if kind == "coco":
        return _sent(json.dumps(coco([(str(record["name"]), annotation)])).encode(), f"{id}-coco.json", "application/json")
    if kind == "json":
        return _sent(json.dumps(record, indent=1).encode(), f"{id}.json", "application/json")
    image = desk.scans.image(record["scan"])
    data = _made(lambda folder: write_labels(folder / f"findings.{kind}", annotation, image))
    return _sent(data, f"{id}-findings.{kind}", "application/gzip" if kind == "nii.gz" else "application/zip")


@router.get("/{id}/dicom", response_class=Response, responses=FILE)
def dicom(desk: AtDesk, id: str, keep_phi: bool = False) -> Response:
    """A DICOM Segmentation over the scan's own files; under a pseudonym unless ``keep_phi`` files it in the patient's own study."""
    record, annotation = desk.store.get(annotating.KIND, id), annotating.session(desk, id)
    image = desk.scans.image(record["scan"])
    source = desk.scans.where(desk.store.get("scans", record["scan"]))
    data = _made(lambda folder: write_segmentation(folder, annotation, image, source, keep_phi=keep_phi))
    return _sent(data, f"{id}-segmentation.dcm", "application/dicom")


@router.delete("/{id}", status_code=204, response_class=Response)
def drop(desk: AtDesk, id: str) -> Response:
    """Remove a session with all that was done in it."""
    desk.store.drop(annotating.KIND, id)
    return Response(status_code=204)


def _made(make: Callable[[Path], Path]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="pellucid-") as folder:
        return make(Path(folder)).read_bytes()


def _sent(data: bytes, name: str, kind: str) -> Response:
    return Response(data, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})
