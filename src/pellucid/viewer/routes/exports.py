"""Taking results along: maps as NIfTI, NPZ, PNG; marks as NIfTI or PNG; one report of several maps."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from pellucid.errors import BadParameter
from pellucid.io import write
from pellucid.report import write_report
from pellucid.viewer import asking, marks
from pellucid.viewer.routes.reach import PROBLEMS, AtDesk
from pellucid.viewer.shapes import Key

router = APIRouter(prefix="/api", tags=["exports"], responses=PROBLEMS)
TYPES = {"nii.gz": "application/gzip", "npz": "application/zip", "png": "image/png", "html": "text/html", "json": "application/json"}
FILE: dict[int | str, dict[str, Any]] = {200: {"content": {t: {} for t in sorted(set(TYPES.values()))}, "description": "The file."}}
Palette = Literal["blue-orange", "green-red"]
Dicom = Literal["map", "segmentation", "capture", "report"]


@router.get("/maps/{id}/file", response_class=Response, responses=FILE)
def map_file(desk: AtDesk, id: str, kind: Literal["nii.gz", "npz", "png", "json"], palette: Palette = "blue-orange") -> Response:
    """A map as a file: on the scan's own grid (NIfTI, PNG), or exact with all that was found out (NPZ); JSON: what lies beside a NIfTI."""
    why = asking.map_of(desk, id)
    name = f"{why.provenance.scan[:10]}-{why.provenance.method.partition('(')[0]}"

    def make(folder: Path) -> Path:
        suffix = "nii.gz" if kind == "json" else kind
        path = why.save(folder / f"map.{suffix}", palette=palette)
        return path.with_name("map.json") if kind == "json" else path

    return _sent(make, f"{name}.{kind}", TYPES[kind])


@router.get("/maps/{id}/dicom", response_class=Response, responses=FILE)
def map_dicom(desk: AtDesk, id: str, kinds: Annotated[list[Dicom] | None, Query(max_length=4)] = None, keep_phi: bool = False) -> Response:
    """A map of a DICOM scan as DICOM objects, zipped; under a pseudonym unless ``keep_phi`` files them in the patient's own study.

    ``kinds``: all that the scan can carry, if none is named.
    """
    why = asking.map_of(desk, id)
    source = desk.scans.where(desk.store.get("scans", asking.scan_of(desk, id)))

    def make(folder: Path) -> Path:
        filed = why.dicom(folder / "dicom", source=source, kinds=kinds, keep_phi=keep_phi)
        with zipfile.ZipFile(folder / "dicom.zip", "w", zipfile.ZIP_DEFLATED) as pack:
            for file in sorted((folder / "dicom").rglob("*")):
                if file.is_file():
                    pack.write(file, file.relative_to(folder / "dicom"))
            if filed.notes:
                pack.writestr("notes.txt", "\n".join(filed.notes))
        return folder / "dicom.zip"

    return _sent(make, f"{why.provenance.scan[:10]}-dicom.zip", TYPES["npz"])


@router.get("/marks/{mark}/file", response_class=Response, responses=FILE)
def mark_file(desk: AtDesk, mark: str) -> Response:
    """A mark as NIfTI on the scan's own grid."""
    found = marks.image(desk, mark)
    facts = {"sided": desk.scans.image(desk.store.get("marks", mark)["scan"]).facts.get("sided", False)}
    return _sent(lambda folder: write(folder / "mark.nii.gz", found.values, found.grid, facts=facts), "mark.nii.gz", TYPES["nii.gz"])


@router.get("/report", response_class=Response, responses=FILE)
def report(desk: AtDesk, maps: Annotated[list[Key], Query(min_length=1, max_length=24)]) -> Response:
    """One self-contained page of maps of one scan."""
    found = [asking.map_of(desk, m) for m in maps]
    if len({asking.scan_of(desk, m) for m in maps}) > 1:
        raise BadParameter("maps of one scan", "maps of several", "Write a report for each.")
    name = f"{found[0].provenance.scan[:10]}-report.html"
    return _sent(lambda folder: write_report(folder / "report.html", found), name, TYPES["html"])


def _sent(make: Callable[[Path], Path], name: str, kind: str) -> Response:
    """A file made for this answer, to be saved: never opened under the viewer's own address."""
    with tempfile.TemporaryDirectory(prefix="pellucid-") as folder:
        data = make(Path(folder)).read_bytes()
    return Response(data, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})
