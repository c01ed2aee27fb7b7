"""Regions and lesions drawn over a scan, and localization against them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from pellucid.errors import BadFile
from pellucid.explanation import Measurement
from pellucid.io import read
from pellucid.viewer import asking, marks
from pellucid.viewer.limits import weigh
from pellucid.viewer.routes.reach import PROBLEMS, AtDesk, row
from pellucid.viewer.shapes import Key, Row, Strict, Text

router = APIRouter(prefix="/api", tags=["marks and localization"], responses=PROBLEMS)
BYTES: dict[str, Any] = {
    "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, "required": True}
}
Name = Annotated[str, Query(max_length=120)]


class MarkLine(BaseModel):
    """A region that was drawn over a scan; ``size`` in mm², mm³ or samples."""

    id: str
    scan: str
    name: str
    samples: int
    size: float
    unit: str
    space: int


class MarkFile(Strict):
    """A mask that lies in the folder."""

    scan: Key
    path: Annotated[str, Field(max_length=2000)]
    name: Text = "mask"


class Measure(Strict):
    """Which maps are held against which mark, by which metrics (none: the usual ones)."""

    mark: Key
    maps: Annotated[list[Key], Field(min_length=1, max_length=24)]
    metrics: Annotated[list[Text], Field(max_length=24)] = []


class Measured(BaseModel):
    """Findings of each map."""

    rows: dict[str, list[Row]]


@router.get("/marks", response_model=list[MarkLine])
def listing(desk: AtDesk, scan: Key) -> list[dict[str, Any]]:
    """Marks of a scan."""
    return [marks.told(k, r) for k, r in desk.store.all("marks") if r["scan"] == scan]


@router.post("/marks", response_model=MarkLine, openapi_extra=BYTES)
async def keep(desk: AtDesk, request: Request, scan: Key, name: Name = "region", id: Key | None = None) -> dict[str, Any]:
    """Keep what was drawn, one byte a sample in viewing order; with ``id`` in place of an earlier drawing."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/octet-stream":
        raise BadFile(
            "a mark of type application/octet-stream", repr(request.headers.get("content-type", ""))[:80], "Send the bytes alone."
        )
    drawn = await request.body()
    key = await run_in_threadpool(marks.keep, desk, scan, name, drawn, id)
    return marks.told(key, desk.store.get("marks", key))


@router.post("/marks/file", response_model=MarkLine)
def take(desk: AtDesk, asked: MarkFile) -> dict[str, Any]:
    """Take a mask that lies in the served folder: what is not 0 belongs to it."""
    where = desk.shelf.find(asked.path)
    if not where.is_file():
        raise BadFile("the file of a mask", repr(asked.path[:120]), "Choose a file.")
    weigh(where, desk.limits)
    key = marks.take(desk, asked.scan, asked.name, read(where))
    return marks.told(key, desk.store.get("marks", key))


@router.get("/marks/{mark}/samples", response_class=Response, responses={200: {"content": {"application/octet-stream": {}}}})
def samples(desk: AtDesk, mark: str) -> Response:
    """A mark as it was sent."""
    return Response(marks.samples(desk, mark), media_type="application/octet-stream")


@router.delete("/marks/{mark}", status_code=204, response_class=Response)
def drop(desk: AtDesk, mark: str) -> Response:
    """Remove a mark."""
    desk.store.drop("marks", mark)
    return Response(status_code=204)


@router.post("/localization", response_model=Measured)
def localization(desk: AtDesk, asked: Measure) -> dict[str, Any]:
    """How well maps point at a mark, with the level of chance beside each number. The network is not asked."""
    maps = {m: asking.map_of(desk, m) for m in asked.maps}
    found = marks.numbers(maps, marks.image(desk, asked.mark), asked.metrics or marks.AT_ONCE)
    return {"rows": {name: [{**row(r), "unit": _unit(r)} for r in rows] for name, rows in found.items()}}


def _unit(r: Measurement) -> str:
    """What a number is counted in, as a person reads it: a metric that measures in the grid's unit says in its detail which that was."""
    unit = str(r.detail.get("unit", r.unit))
    return "samples" if unit == "px" else unit
