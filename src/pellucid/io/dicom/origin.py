"""Origin: the DICOM files that a scan was read from, as far as objects derived from it must name them, with or without the patient."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import BadFile
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.io.content import Source, decoding, load
from pellucid.io.dicom.geometry import LPS_TO_RAS, code
from pellucid.io.dicom.series import Entry, described, scan

# what says where and what was scanned, not who
PLACE = ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"]
CODED = ["Modality", "BodyPartExamined", "Laterality", "ImageLaterality", "LossyImageCompression", "BurnedInAnnotation"]
IDENTIFIERS = ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"]
PATIENT = ["PatientID", "PatientName", "PatientBirthDate", "PatientSex"]
STUDY = ["AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"]  # of these even empty ones are written
OPTIONAL = ["IssuerOfPatientID", "PatientAge", "PatientSize", "PatientWeight", "StudyDescription", "PositionReferenceIndicator"]
OFF = 1e-2  # share of a slice by which a header may disagree with the grid


def uid(*parts: str) -> str:
    """A UID from content: the same parts give the same one (DICOM PS3.5 B.2: 2.25 and 128 bits)."""
    return f"2.25.{int.from_bytes(hashlib.sha256(chr(0).join(parts).encode()).digest()[:16], 'big')}"


@dataclass(frozen=True, eq=False)
class Origin:
    """The source of a scan: the scan read again, and what derived objects tell of each of its files, in the order of the slices.

    ``headers`` hold places, sizes and codes, and who was scanned only where ``named``; else new UIDs (made from the files' bytes) stand in
    for the source's. ``placed``: whether every picture has its position in space.
    """

    image: Image
    headers: tuple[Any, ...]
    order: tuple[int, ...]  # order[k]: which picture of the headers lies at slice k
    placed: bool
    named: bool
    readable: bool  # text burned into the pixels may name the patient

    @property
    def grid(self) -> Grid:
        """Where the source's own pixels lie."""
        return self.image.grid

    @property
    def directions(self) -> tuple[float, ...]:
        """ImageOrientationPatient of all slices."""
        return tuple(float(v) for v in _orientation(self.headers[0]))


def find_origin(source: str | Path | Sequence[str | Path], scan_of: Image, *, named: bool) -> Origin:
    """The series in a folder, a file or among files whose bytes are those that a scan was read from (its ``facts["sha256"]``).

    Raises:
        BadFile: none of the series there is the scan's, or it is one stack of several in one file.
    """
    from pellucid.io.dicom.scan import Reading, read_series

    given: list[Source] = [Path(p) for p in ([source] if isinstance(source, (str, Path)) else source)]
    where, digest = given[0], str(scan_of.facts["sha256"])
    missing = next((p for p in given if isinstance(p, Path) and not p.exists()), None)
    if missing is not None:
        raise BadFile(f"find the scan's DICOM files in {missing}", "no such file or folder", "Give the folder it was read from.")
    place = given[0] if len(given) == 1 and isinstance(given[0], Path) else given
    groups, _ = scan(place)
    found = []
    for group, series in zip(groups, described(groups), strict=True):
        digests = [load(e.path)[1] for e in group]
        if _joined(digests) == digest:
            found.append((group, series.uid, digests))
    if not found:
        got = f"{len(groups)} series, none with the bytes of the scan that was explained"
        raise BadFile(f"find the scan's DICOM files in {where}", got, "Give the folder or file it was read from, unchanged.")
    if len(found) > 1:
        got = f"{len(found)} stacks in the file that the scan was read from"
        raise BadFile(f"derive DICOM objects from {where}", got, "Write NIfTI: why.save('why.nii.gz').")
    group, uid_of, digests = found[0]
    try:
        image = read_series(place, uid_of, Reading())
    except BadFile as error:  # it was readable once, as another caller asked for it: resampled
        raise BadFile(f"derive DICOM objects from {where}", error.got, "Write NIfTI: why.save('why.nii.gz').") from error
    return _origin(image, group, digests, digest, named, str(where))


def _joined(digests: Sequence[str]) -> str:
    """As the reader names what it read."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def _origin(image: Image, group: Sequence[Entry], digests: Sequence[str], whole: str, named: bool, where: str) -> Origin:
    """Headers in the order of the slices of the image as it was read."""
    import pydicom

    headers, readable = [], False
    for entry, digest in zip(group, digests, strict=True):
        with decoding("DICOM", entry.path, private=True):
            ds = pydicom.dcmread(BytesIO(load(entry.path)[0]), force=True, stop_before_pixels=True)
            readable |= code(ds, "BurnedInAnnotation") == "YES"
            headers.append(_header(ds, digest, whole, named))
    positions = [p for h in headers for p in _positions(h)]
    placed = bool(positions) and None not in positions and "FrameOfReferenceUID" in headers[0]
    if not placed:
        return Origin(image, tuple(headers), tuple(range(len(positions))), False, named, readable)
    order = _order(positions, image.grid, where)
    if len(headers) == len(positions):  # one picture a file: copies left out, ascending
        return Origin(image, tuple(headers[i] for i in order), tuple(range(len(order))), True, named, readable)
    return Origin(image, tuple(headers), order, True, named, readable)


def _order(positions: Sequence[Any], grid: Grid, where: str) -> tuple[int, ...]:
    """Which picture lies at which slice of the grid.

    Raises:
        BadFile: pictures that do not lie on the slices of the grid: a tilted or uneven stack, which was resampled when it was read.
    """
    found: dict[int, int] = {}
    to_index = np.linalg.inv(grid.matrix) @ LPS_TO_RAS
    for i, position in enumerate(positions):
        at = to_index @ np.array([*position, 1.0])
        k = round(float(at[2]))
        if np.abs(at[:3] - [0, 0, k]).max() > OFF:
            got = f"picture {i + 1} lies at ({at[0]:.3g}, {at[1]:.3g}, {at[2]:.3g}) of its grid: a tilted or uneven stack"
            raise BadFile(f"derive DICOM objects from {where}", got, "Write NIfTI: why.save('why.nii.gz').")
        found.setdefault(k, i)
    slices = grid.shape[2] if grid.ndim == 3 else 1
    if sorted(found) != list(range(slices)):
        raise BadFile(f"derive DICOM objects from {where}", f"{len(found)} of {slices} slices", "Give the whole series.")
    return tuple(found[k] for k in range(slices))


def _positions(ds: Any) -> list[Any]:
    """Position of each picture of a header, None where it has none."""
    frames = ds.get("PerFrameFunctionalGroupsSequence") or []
    if not frames:
        many = int(ds.get("NumberOfFrames", 1) or 1)
        return [_floats(ds.get("ImagePositionPatient"))] if many == 1 else [None] * many
    shared = (ds.get("SharedFunctionalGroupsSequence") or [{}])[0]
    found = []
    for frame in frames:
        holder = (frame.get("PlanePositionSequence") or shared.get("PlanePositionSequence") or [{}])[0]
        found.append(_floats(holder.get("ImagePositionPatient")))
    return found


def _orientation(ds: Any) -> Any:
    if "ImageOrientationPatient" in ds:
        return ds.ImageOrientationPatient
    groups = (ds.PerFrameFunctionalGroupsSequence[0], ds.SharedFunctionalGroupsSequence[0])
    return next(g.PlaneOrientationSequence[0] for g in groups if g.get("PlaneOrientationSequence")).ImageOrientationPatient


def _floats(values: Any) -> tuple[float, ...] | None:
    return tuple(float(v) for v in values) if values is not None and len(values) == 3 else None


def _header(ds: Any, digest: str, whole: str, named: bool) -> Any:
    """What may be told of a file: nothing of it is copied but what the lists above name."""
    from pydicom.dataset import Dataset, FileMetaDataset

    out = Dataset()
    out.file_meta = FileMetaDataset()
    out.file_meta.TransferSyntaxUID = ds.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2.1")
    out.SpecificCharacterSet = "ISO_IR 192"
    out.SOPClassUID, out.Rows, out.Columns = ds.SOPClassUID, ds.Rows, ds.Columns
    for keyword in CODED:
        if text := code(ds, keyword):
            setattr(out, keyword, text)
    out.Modality = out.get("Modality", "OT")
    toward = [str(v) for v in ds.get("PatientOrientation") or []]
    if len(toward) == 2 and all(v and set(v) <= set("LRAPHF") for v in toward):
        out.PatientOrientation = toward
    for keyword in PLACE:
        if ds.get(keyword) not in (None, ""):
            setattr(out, keyword, ds.get(keyword))
    if int(ds.get("NumberOfFrames", 1) or 1) > 1 or "PerFrameFunctionalGroupsSequence" in ds:
        out.NumberOfFrames = int(ds.get("NumberOfFrames", 1) or 1)
        _copy_groups(ds, out)
    if "ImagePositionPatient" not in ds and "PerFrameFunctionalGroupsSequence" not in ds:
        ds.pop("FrameOfReferenceUID", None)  # a projection has no place in a frame
    return _with_patient(ds, out) if named else _without_patient(ds, out, digest, whole)


def _copy_groups(ds: Any, out: Any) -> None:
    """Functional groups: position, orientation and pixel measures alone."""
    from pydicom.dataset import Dataset

    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        items = []
        for group in ds.get(name) or []:
            item = Dataset()
            for sequence in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
                if group.get(sequence):
                    inner = Dataset()
                    for keyword in PLACE:
                        if keyword in group[sequence].value[0]:
                            setattr(inner, keyword, group[sequence].value[0].get(keyword))
                    setattr(item, sequence, [inner])
            items.append(item)
        if items:
            setattr(out, name, items)


def _with_patient(ds: Any, out: Any) -> Any:
    """The patient's own study: a PACS files the object there."""
    for keyword in IDENTIFIERS:
        if ds.get(keyword):
            setattr(out, keyword, str(ds.get(keyword)))
    for keyword in (*PATIENT, *STUDY):
        setattr(out, keyword, str(ds.get(keyword) or ""))
    for keyword in OPTIONAL:
        if ds.get(keyword) not in (None, ""):
            setattr(out, keyword, ds.get(keyword))
    return out


def _without_patient(ds: Any, out: Any, digest: str, whole: str) -> Any:
    """A new identity made from the bytes of the files: the same for every object of one scan, and not to be turned back.

    A hash of the patient's number or of a UID could be found by trying; of the bytes of a scan it cannot.
    """
    out.SOPInstanceUID, out.SeriesInstanceUID, out.StudyInstanceUID = uid("file", digest), uid("series", whole), uid("study", whole)
    if ds.get("FrameOfReferenceUID"):
        out.FrameOfReferenceUID = uid("frame", whole)
    for keyword in (*PATIENT, *STUDY):
        setattr(out, keyword, "")
    number = hashlib.sha256(whole.encode()).hexdigest()[:12].upper()
    out.PatientID, out.PatientName = f"PELLUCID-{number}", f"PELLUCID^{number}"
    out.PatientIdentityRemoved = "YES"
    out.DeidentificationMethod = "Pellucid: rebuilt, names and dates left out, UIDs new"
    return out
