"""Which DICOM series lie in a folder, and the files of one of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.errors import BadFile
from pellucid.io.content import decoding, kind_of
from pellucid.io.dicom.geometry import Plane, code, plane_of

HEADER = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesDescription",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "FrameOfReferenceUID",
]


@dataclass(frozen=True)
class Series:
    """One DICOM series (or the part of it with one orientation and size): ``uid`` is what ``read(..., series=uid)`` takes.

    ``shape`` is (rows, columns, slices); ``description`` is empty unless identifiers were asked for.
    """

    uid: str
    modality: str
    slices: int
    shape: tuple[int, ...]
    description: str = ""


@dataclass(frozen=True)
class Entry:
    """The header of one image file."""

    path: Path
    uid: str
    modality: str
    rows: int
    columns: int
    frames: int
    plane: Plane | None
    frame: str
    description: str

    def fits(self, other: Entry) -> bool:
        """Whether two files belong to one stack: series, size, frame of reference, orientation and pixel spacing agree."""
        alike = (self.uid, self.rows, self.columns, self.frame, self.plane is None)
        if alike != (other.uid, other.rows, other.columns, other.frame, other.plane is None):
            return False
        return self.plane is None or other.plane is None or self.plane.parallel(other.plane)


def entry(path: Path) -> Entry | None:
    """The header of a DICOM image, or None where the file is no DICOM or holds no picture.

    Raises:
        BadFile: a DICOM file whose header cannot be read: leaving a slice out in silence would be worse.
    """
    import pydicom

    try:
        with path.open("rb") as file:
            head = file.read(348)
    except OSError as error:
        raise BadFile(f"read {path}", error.strerror or type(error).__name__, "Check its permissions.") from error
    if kind_of(head) != "DICOM":
        return None
    with decoding("DICOM", path, private=True):
        ds: Any = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(HEADER))
        if not ds.get("Rows") or not ds.get("Columns"):
            return None  # a report, a presentation state, a DICOMDIR
        return Entry(
            path,
            _uid(str(ds.get("SeriesInstanceUID", ""))),
            code(ds, "Modality") or "?",
            int(ds.Rows),
            int(ds.Columns),
            int(ds.get("NumberOfFrames", 1) or 1),
            plane_of(ds, ds, ds, str(path)),
            str(ds.get("FrameOfReferenceUID", "")),
            str(ds.get("SeriesDescription", "")),
        )


def _uid(text: str) -> str:
    """A UID as it is; whatever else a damaged header holds there as its hash."""
    return text if re.fullmatch(r"[0-9.]{1,64}", text) else f"no-uid-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def scan(path: Path) -> tuple[list[list[Entry]], int]:
    """The stacks in a folder (searched to the bottom) or of one file, in a fixed order, and how many files were left out.

    Raises:
        BadFile: the folder is empty or holds no DICOM image.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if not files:
        raise BadFile(f"read the folder {path}", "no files in it", "Give the folder that holds the slices.")
    entries = [e for e in map(entry, files) if e is not None]
    if not entries:
        fix = "Give the folder that holds the slices, or name one file."
        raise BadFile(f"read a DICOM series from {path}", f"{len(files)} files, none of them a DICOM image", fix)
    groups: list[list[Entry]] = []
    open_groups: dict[str, list[list[Entry]]] = {}
    for e in entries:
        home = next((g for g in open_groups.get(e.uid, []) if g[0].fits(e)), None)
        if home is None:
            home = []
            groups.append(home)
            open_groups.setdefault(e.uid, []).append(home)
        home.append(e)
    groups.sort(key=lambda g: (g[0].uid, -len(g)))
    return groups, len(files) - len(entries)


def described(groups: Sequence[Sequence[Entry]], keep_phi: bool = False) -> list[Series]:
    """Stacks as the user sees them; parts of one series are told apart as ``uid``, ``uid#2``, ..."""
    seen: dict[str, int] = {}
    out = []
    for g in groups:
        first = g[0]
        n = seen[first.uid] = seen.get(first.uid, 0) + 1
        slices = sum(e.frames for e in g)
        uid = first.uid if n == 1 else f"{first.uid}#{n}"
        out.append(Series(uid, first.modality, slices, (first.rows, first.columns, slices), first.description if keep_phi else ""))
    return out


def list_series(path: Path, keep_phi: bool) -> list[Series]:
    """What a folder holds."""
    return described(scan(path)[0], keep_phi)


def chosen(path: Path, series: str | None) -> tuple[list[Entry], int]:
    """The one stack that was meant, and how many files were left out as no DICOM image.

    Raises:
        BadFile: several series and no word which, or a word that fits none.
    """
    groups, ignored = scan(path)
    found = described(groups)
    listing = "; ".join(f"{i}: {s.modality} {s.slices} slices {s.shape[0]}x{s.shape[1]} {s.uid}" for i, s in enumerate(found))
    if series is None:
        if len(groups) > 1:
            raise BadFile(f"read one series from {path}", f"{len(groups)} series ({listing})", "Name one: series='0' or its uid.")
        return groups[0], ignored
    for i, s in enumerate(found):
        if series in (str(i), s.uid):
            return groups[i], ignored
    raise BadFile(f"read series {series!r} from {path}", f"no such series among {listing}", "Give its number or uid.")
