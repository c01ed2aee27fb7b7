"""Listing, uploading and opening scans."""

from __future__ import annotations

import pathlib
import shutil
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from pellucid.errors import BadFile
from pellucid.report.words import scan_rows
from pellucid.viewer.desk import Desk
from pellucid.viewer.routes.reach import PACKED, PNG, PROBLEMS, AtDesk, packed
from pellucid.viewer.shapes import Key, Shown, Strict, Text
from pellucid.viewer.showing import thumbnail
from pellucid.viewer.store import missing

router = APIRouter(prefix="/api", tags=["scans"], responses=PROBLEMS)
Path = Annotated[str, Query(max_length=2000)]


class FileEntry(BaseModel):
    """A folder, a scan, or all DICOM files that lie in the listed folder."""

    path: str
    name: str
    kind: str
    size: int
    files: int


class Listing(BaseModel):
    """What lies directly in a folder. ``skipped`` files are no scans."""

    path: str
    parent: str | None
    entries: list[FileEntry]
    skipped: int


class SeriesEntry(BaseModel):
    """One DICOM series; ``uid`` is what opening it takes."""

    uid: str
    modality: str
    slices: int
    shape: list[int]


class OpenScan(Strict):
    """A file or folder of the shelf, or an upload."""

    path: Annotated[str, Field(max_length=2000)] = ""
    series: Text | None = None
    upload: Key | None = None


class Upload(BaseModel):
    """Files that were sent; opened by its id."""

    id: str
    name: str
    files: int
    size: int


class Scan(BaseModel):
    """An opened scan; ``rows`` tell what may be told of it, ``remarks`` what a person should read."""

    id: str
    name: str
    format: str
    dicom: bool
    rows: list[tuple[str, str]]
    remarks: list[str]
    display: Shown


@router.get("/files", response_model=Listing)
def files(desk: AtDesk, path: Path = "") -> dict[str, object]:
    """Folders and scans that lie directly in a folder of the shelf."""
    entries, skipped = desk.shelf.list(path)
    above = PurePosixPath(path.strip("/")).parent.as_posix()
    parent = None if not path.strip("/") else "" if above == "." else above
    return {"path": path.strip("/"), "parent": parent, "entries": [asdict(e) for e in entries], "skipped": skipped}


@router.get("/series", response_model=list[SeriesEntry])
def series(desk: AtDesk, path: Path = "", upload: Key | None = None) -> list[dict[str, object]]:
    """The DICOM series in a folder, to the bottom, or of an upload."""
    return [asdict(s) for s in desk.scans.series(path, upload)]


@router.post("/scans", response_model=Scan)
def open_scan(desk: AtDesk, asked: OpenScan) -> dict[str, object]:
    """Open a scan: read it, and give it an id that outlives a restart."""
    return _told(desk, desk.scans.open(asked.path, asked.series, asked.upload))


@router.get("/scans", response_model=list[dict[str, str]])
def scans(desk: AtDesk) -> list[dict[str, str]]:
    """Scans that were opened before."""
    return [{"id": key, "name": str(r["name"]), "format": str(r["format"])} for key, r in desk.store.all("scans")]


@router.get("/scans/{scan}", response_model=Scan)
def scan(desk: AtDesk, scan: str) -> dict[str, object]:
    """An opened scan: facts, remarks, and how it is laid out."""
    return _told(desk, scan)


@router.get("/scans/{scan}/channels/{n}", response_class=Response, responses=PACKED)
def channel(desk: AtDesk, scan: str, n: int) -> Response:
    """The samples of a channel in viewing order."""
    channels = desk.display(scan).channels
    if not 0 <= n < len(channels):
        raise missing("channels", str(n))
    return packed(channels[n].data)


@router.get("/scans/{scan}/picture", response_class=Response, responses=PNG)
def picture(desk: AtDesk, scan: str) -> Response:
    """A thumbnail of a scan; of a volume its middle slice."""
    return Response(thumbnail(desk.scans.image(scan)), media_type="image/png")


@router.post("/uploads", response_model=Upload, openapi_extra={"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, "required": True}})  # fmt: skip
async def upload(desk: AtDesk, request: Request, name: Annotated[str, Query(max_length=200)], into: Key | None = None) -> dict[str, object]:
    """Send a file of a scan; further files of one DICOM series go ``into`` the first one's id."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/octet-stream":
        raise BadFile(
            "an upload of type application/octet-stream", repr(request.headers.get("content-type", ""))[:80], "Send the bytes alone."
        )
    key, number = await run_in_threadpool(_reserved, desk, name, into)
    draft, size = desk.store.folder("uploads", key) / f"{number:05d}.part", 0
    try:
        with draft.open("xb") as file:
            async for part in request.stream():
                size += len(part)
                await run_in_threadpool(file.write, part)
        record = await run_in_threadpool(_taken, desk, key, draft, size)
    finally:
        draft.unlink(missing_ok=True)
    return {"id": key, **{k: record[k] for k in ("name", "files", "size")}}


def _reserved(desk: Desk, name: str, into: str | None) -> tuple[str, int]:
    """The upload that a file goes into, and a number that no other file of it has: files may come at the same time."""
    store, limits = desk.store, desk.limits
    label = "".join(c for c in PurePosixPath(name.replace("\\", "/")).name if c.isprintable())[:120] or "upload"
    key = into or store.new("uploads", {"name": label, "begun": 0, "files": 0, "size": 0})
    with store.changing("uploads", key) as record:
        number = int(record.get("begun", record["files"]))
        if number >= limits.files or shutil.disk_usage(store.root).free < 2 * limits.upload:
            raise BadFile(f"an upload of at most {limits.files} files, and room for it", f"{number} files", "Use the served folder.")
        record["begun"] = number + 1
    return key, number


def _taken(desk: Desk, key: str, draft: pathlib.Path, size: int) -> dict[str, Any]:
    """Put a file that has come in whole among those of its upload, under a name of ours: what it is called is only told."""
    with desk.store.changing("uploads", key) as record:
        total = record["size"] + size
        if size == 0 or total > desk.limits.upload:
            got = "none" if size == 0 else f"{total:,} bytes"
            raise BadFile(f"an upload of 1 to {desk.limits.upload:,} bytes", got, "Use the served folder.")
        target = draft.parent / "files" / draft.stem
        target.parent.mkdir(exist_ok=True)
        draft.replace(target)
        record |= {"files": record["files"] + 1, "size": total}
    return record


def _told(desk: AtDesk, key: str) -> dict[str, object]:
    record, image, display = desk.store.get("scans", key), desk.scans.image(key), desk.display(key)
    return {
        "id": key, "name": record["name"], "format": record["format"], "dicom": record["format"] == "DICOM", "rows": scan_rows(image),
        "remarks": list(display.remarks), "display": display.facts(),
    }  # fmt: skip
