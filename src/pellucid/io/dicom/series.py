"""Which DICOM series lie in a folder, and the files of one of them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from pellucid.errors import BadFile
from pellucid.io.content import Source, decoding, kind_of, load
from pellucid.io.dicom.frames import DIMENSIONS, frames_of, marks_of, piles, unmixed
from pellucid.io.dicom.geometry import Plane, code, plane_of
from pellucid.io.dicom.parsing import parsed

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
    "GridFrameOffsetVector",
    "DimensionIndexSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *DIMENSIONS,
]


# transfer syntaxes whose pixels are not packed frame by frame; none is implicit little endian
BARE = ("", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
DEFLATES = 1032  # the most to which a byte can unpack


@dataclass(frozen=True)
class Series:
    """One DICOM series, or the part of it with one orientation, size and time point: ``uid`` is what ``read(..., series=uid)`` takes.

    ``shape`` is (rows, columns, slices); ``apart`` tells a part from the others of its series (``"EchoTime 80"``); ``description`` is
    empty unless identifiers were asked for.
    """

    uid: str
    modality: str
    slices: int
    shape: tuple[int, ...]
    description: str = ""
    apart: str = ""


@dataclass(frozen=True)
class Entry:
    """The header of one image file, or of one stack in it: then ``picks`` are the numbers of its frames."""

    path: Source
    uid: str
    modality: str
    rows: int
    columns: int
    picks: tuple[int, ...] | None
    plane: Plane | None
    frame: str
    description: str
    marks: Mapping[str, Any]
    apart: str = ""

    @property
    def frames(self) -> int:
        """How many pictures it stands for."""
        return 1 if self.picks is None else len(self.picks)

    def fits(self, other: Entry) -> bool:
        """Whether two files belong to one stack: series, size, frame of reference, orientation and pixel spacing agree."""
        alike = (self.uid, self.rows, self.columns, self.frame, self.plane is None)
        if alike != (other.uid, other.rows, other.columns, other.frame, other.plane is None) or self.picks or other.picks:
            return False
        return self.plane is None or other.plane is None or self.plane.parallel(other.plane)


def entries_of(path: Source) -> list[Entry]:
    """The header of a DICOM image, one entry for each stack in it; none where the file is no DICOM or holds no picture.

    Raises:
        BadFile: a DICOM file whose header cannot be read: leaving a slice out in silence would be worse.
    """
    try:
        with path.open("rb") as file:
            head = file.read(348)
    except OSError as error:
        raise BadFile(f"read {path}", error.strerror or type(error).__name__, "Check its permissions.") from error
    packed = load(path)[0] if head.startswith(b"\x1f\x8b") else None
    if kind_of(packed or head) != "DICOM":
        return []
    with decoding("DICOM", path, private=True), path.open("rb") if packed is None else BytesIO(packed) as file:
        ds: Any = parsed(file, path, HEADER)
        if not ds.get("Rows") or not ds.get("Columns"):
            return []  # a report, a presentation state, a DICOMDIR
        count = int(ds.get("NumberOfFrames", 1) or 1)
        _check_frames(ds, count, file.seek(0, os.SEEK_END), path)
        uid, kind = _uid(str(ds.get("SeriesInstanceUID", ""))), code(ds, "Modality") or "?"
        frame, description = str(ds.get("FrameOfReferenceUID", "")), str(ds.get("SeriesDescription", ""))
        one = Entry(path, uid, kind, int(ds.Rows), int(ds.Columns), None, None, frame, description, {})
        if count == 1 and not ds.get("PerFrameFunctionalGroupsSequence"):
            return [replace(one, plane=plane_of(ds, ds, ds, str(path)), marks=marks_of(ds))]
        frames = frames_of(ds, count, str(path))
        return [replace(one, picks=p.members, plane=frames[p.members[0]].plane, apart=p.apart) for p in piles(frames)]


def _check_frames(ds: Any, count: int, size: int, path: Source) -> None:
    """Whether a file of ``size`` bytes can hold so many frames: bare ones have a bit for each sample at least, packed ones an item of 8 bytes.

    Raises:
        BadFile: it cannot, so nothing is made for each of them.
    """
    syntax = str(getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", ""))
    least = int(ds.Rows) * int(ds.Columns) / 8 if syntax in BARE else 8
    if not 0 < count * least <= size * (DEFLATES if syntax == BARE[-1] else 1):
        raise BadFile(f"read {path}", f"{count} frames in {size} bytes", "The header is corrupt: export it again.")


def _uid(text: str) -> str:
    """A UID as it is; whatever else a damaged header holds there as its hash."""
    return text if re.fullmatch(r"[0-9.]{1,64}", text) else f"no-uid-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def scan(path: Path | Sequence[Source]) -> tuple[list[list[Entry]], int]:
    """The stacks in a folder (searched to the bottom), of one file or of given files, in a fixed order; and how many files were left out.

    Raises:
        BadFile: the folder is empty or holds no DICOM image.
    """
    files: Sequence[Source]
    if isinstance(path, Path):
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        if not files:
            raise BadFile(f"read the folder {path}", "no files in it", "Give the folder that holds the slices.")
    else:
        files = path
    found = [entries_of(f) for f in files]
    if not any(found):
        fix = "Give the folder that holds the slices, or name one file."
        raise BadFile(f"read a DICOM series from {shown(path)}", f"{len(files)} files, none of them a DICOM image", fix)
    groups = [part for group in _fitting(e for entries in found for e in entries) for part in _unmixed(group)]
    groups.sort(key=lambda g: (g[0].uid, -len(g)))
    return groups, sum(not entries for entries in found)


def shown(path: Path | Sequence[Source]) -> str:
    """A folder or a list of files, for a message."""
    return str(path) if isinstance(path, Path) else str(path[0])


def _fitting(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Files that belong to one stack together, in the order of the first of each."""
    groups: list[list[Entry]] = []
    open_groups: dict[str, list[list[Entry]]] = {}
    for e in entries:
        home = next((g for g in open_groups.get(e.uid, []) if g[0].fits(e)), None)
        if home is None:
            home = []
            groups.append(home)
            open_groups.setdefault(e.uid, []).append(home)
        home.append(e)
    return groups


def _unmixed(group: list[Entry]) -> list[list[Entry]]:
    """Echoes, time points or b-values of one place apart."""
    if len(group) == 1:
        return [group]
    parts = unmixed([e.plane for e in group], [e.marks for e in group])
    return [[replace(group[n], apart=part.apart) for n in part.members] for part in parts]


def described(groups: Sequence[Sequence[Entry]], keep_phi: bool = False) -> list[Series]:
    """Stacks as the user sees them; parts of one series are told apart as ``uid``, ``uid#2``, ..."""
    seen: dict[str, int] = {}
    out = []
    for g in groups:
        first = g[0]
        n = seen[first.uid] = seen.get(first.uid, 0) + 1
        slices = sum(e.frames for e in g)
        uid = first.uid if n == 1 else f"{first.uid}#{n}"
        text = first.description if keep_phi else ""
        out.append(Series(uid, first.modality, slices, (first.rows, first.columns, slices), text, first.apart))
    return out


def list_series(path: Path | Sequence[Source], keep_phi: bool) -> list[Series]:
    """What a folder holds."""
    return described(scan(path)[0], keep_phi)


def chosen(path: Path | Sequence[Source], series: str | None) -> tuple[list[Entry], int]:
    """The one stack that was meant, and how many files were left out as no DICOM image.

    Raises:
        BadFile: several series and no word which, or a word that fits none.
    """
    groups, ignored = scan(path)
    found = described(groups)
    listing = "; ".join(f"{i}: {_line(s)}" for i, s in enumerate(found))
    if series is None:
        if len(groups) > 1:
            raise BadFile(f"read one series from {shown(path)}", f"{len(groups)} series ({listing})", "Name one: series='0' or its uid.")
        return groups[0], ignored
    for i, s in enumerate(found):
        if series in (str(i), s.uid):
            return groups[i], ignored
    raise BadFile(f"read series {series!r} from {shown(path)}", f"no such series among {listing}", "Give its number or uid.")


def _line(s: Series) -> str:
    return f"{s.modality} {s.slices} slices {s.shape[0]}x{s.shape[1]} {s.uid}{f' ({s.apart})' if s.apart else ''}"
