"""DICOM to Image: one file, one multi-frame file, or the files of one series."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid.errors import BadFile
from pellucid.grid import Affine, Grid
from pellucid.image import Image
from pellucid.io.content import decoding, load, tensor
from pellucid.io.dicom.geometry import Plane, Stack, code, flat_affine, numbers, plane_of, stack
from pellucid.io.dicom.pixels import Scaling, apply_modality, decode, padding, quantity, scaling, suv_factor
from pellucid.io.dicom.series import chosen

# technical elements that say nothing about who was scanned
CODED = {
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "view": "ViewPosition",
    "laterality": "ImageLaterality",
    "presentation": "PresentationLUTShape",
}
MEASURED = {"field": "MagneticFieldStrength", "kvp": "KVP"}
WORDED = {"manufacturer": "Manufacturer", "model": "ManufacturerModelName"}
IDENTIFYING = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "StudyDate",
    "SeriesDate",
    "AccessionNumber",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "StudyDescription",
    "SeriesDescription",
    "InstitutionName",
    "ReferringPhysicianName",
]
# what can differ between pictures taken at one place
DIMENSIONS = [
    "EchoTime",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "DiffusionBValue",
    "TriggerTime",
    "ImageType",
    "FlipAngle",
    "InversionTime",
    "SegmentNumber",
    "AcquisitionTime",
]
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


@dataclass(frozen=True)
class Frame:
    """One picture of a file, before its samples are scaled: where it lies, how it is scaled, how it is meant to be windowed."""

    plane: Plane | None
    scaling: Scaling
    window: tuple[float, float] | None
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A decoded file: pictures (n, rows, columns[, 3]) in modality units, its padding, frames and header."""

    ds: Any
    values: np.ndarray
    padded: np.ndarray | None
    frames: list[Frame]
    photometric: str
    digest: str


def read_file(data: bytes, digest: str, path: Path, keep_phi: bool) -> Image:
    """One DICOM file: a slice or projection (row, column), or a multi-frame file (row, column, frame)."""
    return _assemble([_part(data, digest, path)], path, keep_phi, [])


def read_folder(path: Path, series: str | None, keep_phi: bool) -> Image:
    """The one DICOM series in a folder, as (row, column, slice), sorted by position."""
    entries, ignored = chosen(path, series)
    many = [e for e in entries if e.frames > 1]
    if many and len(entries) > 1:
        got = f"{len(entries)} files in the series, {len(many)} of them with several frames"
        raise BadFile(f"read one volume from {path}", got, "Give one of the files.")
    if len(entries) > 1 and entries[0].plane is None:
        got = f"{len(entries)} {entries[0].modality} images without a position in space"
        raise BadFile(f"read one volume from {path}", got, "They are views, not slices: give one of the files.")
    notes = [f"{ignored} files in the folder are no DICOM images and were left out"] if ignored else []
    return _assemble([_part(*load(e.path), e.path) for e in entries], path, keep_phi, notes)


def _part(data: bytes, digest: str, path: Path) -> Part:
    """Parse and decode one file."""
    import pydicom

    with decoding("DICOM", path, private=True):
        ds: Any = pydicom.dcmread(BytesIO(data), force=True)
        kind = str(ds.get("SOPClassUID", "")) or str(ds.file_meta.get("MediaStorageSOPClassUID", ""))
        pixels = any(k in ds for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))
        modality = code(ds, "Modality") or "unknown"
    if not pixels:
        raise BadFile(
            f"read {path} as an image", f"a DICOM object without pixels (modality {modality})", "Give the images, not a report or index."
        )
    if kind == WHOLE_SLIDE:
        raise BadFile(f"read {path}", "a whole-slide image (tiles)", "Export the region of interest as TIFF or PNG.")
    stored, photometric = decode(ds, path)
    with decoding("DICOM", path, private=True):
        frames = _frames(ds, len(stored), path)
        padded = padding(stored, ds)
        if photometric == "RGB":
            values = stored
        else:
            values = np.stack([apply_modality(s, f.scaling, ds, path) for s, f in zip(stored, frames, strict=True)])
        for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
            ds.pop(keyword, None)  # a series would hold its pixels twice
    return Part(ds, values, padded, frames, photometric, digest)


def _first(groups: Sequence[Any], sequence: str, default: Any) -> Any:
    """The item of a functional group: per frame, else shared, else the default."""
    for group in groups:
        item = group.get(sequence)
        if item:
            return item[0]
    return default


def _frames(ds: Any, count: int, path: Path) -> list[Frame]:
    """Position, scaling and window of each frame: from functional groups where there are any, else from the file."""
    from pydicom.dataset import Dataset

    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    each = ds.get("PerFrameFunctionalGroupsSequence") or []
    if each and len(each) != count:
        raise BadFile(f"read {path}", f"{count} frames and {len(each)} frame descriptions", "The header is corrupt: export it again.")
    offsets = numbers(ds, "GridFrameOffsetVector", count) if count > 1 else None
    frames = []
    for n in range(count):
        groups = [each[n], shared] if each else [shared]
        # the top level of a multi-frame file may describe one frame at most, so it places none of them
        rest = ds if count == 1 else Dataset()
        place, turn = _first(groups, "PlanePositionSequence", rest), _first(groups, "PlaneOrientationSequence", rest)
        plane = plane_of(place, turn, _first(groups, "PixelMeasuresSequence", rest), str(path))
        if offsets is not None:
            plane = _dose_plane(ds, offsets[n], path)
        how = scaling(_first(groups, "PixelValueTransformationSequence", ds), ds)
        marks = tuple(f"{k}={item.get(k)}" for item in _items(groups) for k in DIMENSIONS if k in item)
        frames.append(Frame(plane, how, _window(_first(groups, "FrameVOILUTSequence", ds)), marks if each else _marks(ds)))
    return frames


def _items(groups: Sequence[Any]) -> list[Any]:
    """Every functional-group item of a frame."""
    return [item for group in groups for element in group if element.VR == "SQ" for item in element.value]


def _marks(ds: Any) -> tuple[str, ...]:
    return tuple(f"{k}={ds.get(k)}" for k in DIMENSIONS if k in ds)


def _dose_plane(ds: Any, offset: float, path: Path) -> Plane | None:
    """A dose grid: frames lie at offsets along the normal (DICOM PS3.3 C.8.8.3.2, relative offsets)."""
    plane = plane_of(ds, ds, ds, str(path))
    if plane is None:
        return None
    place = np.array(plane.position) + offset * plane.normal
    return Plane(tuple(place.tolist()), plane.along_row, plane.along_column, plane.spacing, plane.thickness)


def _window(holder: Any) -> tuple[float, float] | None:
    """The first window (center, width) that the file proposes."""
    from pydicom.multival import MultiValue

    found = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = holder.get(keyword)
        value = value[0] if isinstance(value, MultiValue) and len(value) else value
        if value is None or value == "" or isinstance(value, MultiValue):
            return None
        found.append(float(value))
    return (found[0], found[1]) if np.isfinite(found).all() and found[1] > 0 else None


def _assemble(parts: list[Part], path: Path, keep_phi: bool, notes: list[str]) -> Image:
    """Decoded files as one Image: order, affine, channels, meaning."""
    first = parts[0]
    if len({p.photometric for p in parts}) > 1 or len({p.values.shape[1:] for p in parts}) > 1:
        raise BadFile(f"read one volume from {path}", "slices of different size or photometric interpretation", "Read them one by one.")
    index = [(p, n) for p in parts for n in range(len(p.values))]
    frames = [p.frames[n] for p, n in index]
    with decoding("DICOM", path, private=True):
        grid, order, sided = _place(index, frames, first.ds, path, notes)
        units, factor = _meaning(parts, frames, first, path, notes)
    picture = np.stack([index[i][0].values[index[i][1]] for i in order], axis=2)  # (row, column, slice[, channel])
    if factor is not None:
        picture = (picture.astype(np.float64) * factor).astype(np.float32)
    color = first.photometric == "RGB"
    values = np.moveaxis(picture, -1, 0) if color else picture[None]
    values = values if grid.ndim == 3 else values[..., 0]
    background = _background(index, order, grid)
    with decoding("DICOM", path, private=True):
        facts = _facts(parts, frames, order, sided, keep_phi)
        notes += _remarks(first.ds, frames, facts)
    if factor is not None:
        facts["suv_factor"] = factor
    names = ("red", "green", "blue") if color else ()
    return Image(tensor(values, path), grid, units, names, background, facts, tuple(notes))


def _place(index: list[tuple[Part, int]], frames: list[Frame], ds: Any, path: Path, notes: list[str]) -> tuple[Grid, Sequence[int], bool]:
    """The grid, the order of the pictures, and whether left and right are known."""
    rows, columns = index[0][0].values.shape[1:3]
    planes = [f.plane for f in frames if f.plane is not None]
    if len(planes) == len(frames):
        hint = _differing(frames)
        found: Stack = stack(planes, lambda a, b: np.array_equal(_pixels(index[a]), _pixels(index[b])), str(path), hint)
        if found.dropped:
            notes.append(f"{found.dropped} slices occur twice (same place, same pixels); the copies were dropped")
        shape = (rows, columns) if len(frames) == 1 else (rows, columns, len(found.order))
        shape = shape if len(found.order) > 1 else (rows, columns)
        uid = str(ds.get("FrameOfReferenceUID", "") or "")
        return Grid(shape, found.affine, "mm", hashlib.sha256(uid.encode()).hexdigest()[:12] if uid else None), found.order, True
    if planes:
        got = f"{len(planes)} of {len(frames)} frames with a position in space"
        raise BadFile(f"place {path}", got, "The header is corrupt: export the scan again.")
    if len(frames) > 1:
        notes.append(f"{len(frames)} frames without positions: the third axis is the frame number (time or view), the grid is in pixels")
        return Grid((rows, columns, len(frames))), range(len(frames)), False
    grid, sided = _flat_grid(ds, (rows, columns), path, notes)
    return grid, [0], sided


def _pixels(at: tuple[Part, int]) -> np.ndarray:
    return at[0].values[at[1]]


def _differing(frames: list[Frame]) -> str:
    """Which elements tell apart the pictures of a stack, for the message that refuses them."""
    marks = [dict(m.split("=", 1) for m in f.marks) for f in frames]
    differ = [k for k in DIMENSIONS if len({m.get(k) for m in marks}) > 1 and k != "AcquisitionTime"]
    return f" (they differ in {', '.join(differ)})" if differ else ""


def _flat_grid(ds: Any, shape: tuple[int, int], path: Path, notes: list[str]) -> tuple[Grid, bool]:
    """A projection: pixel spacing in the patient, else at the detector or film (noted), else pixels."""
    spots = {
        "PixelSpacing": "",
        "ImagerPixelSpacing": "lengths are those at the detector plane, larger than in the patient (ImagerPixelSpacing)",
        "NominalScannedPixelSpacing": "lengths are those on the scanned film (NominalScannedPixelSpacing)",
    }
    for keyword, remark in spots.items():
        spacing = numbers(ds, keyword, 2)
        if spacing is None:
            continue
        if min(spacing) <= 0:
            raise BadFile(f"place {path}", f"{keyword} {spacing}", "The header is corrupt: export the image again.")
        notes += [remark] if remark else []
        affine: Affine | None = flat_affine(ds, (spacing[0], spacing[1]))
        return (Grid.spaced(shape, spacing), False) if affine is None else (Grid(shape, affine, "mm"), True)
    return Grid(shape), False


def _meaning(parts: list[Part], frames: list[Frame], first: Part, path: Path, notes: list[str]) -> tuple[str, float | None]:
    """The quantity of the values, and the factor to SUV where it can be known."""
    kinds = {quantity(p.ds, f.scaling, p.photometric)[0] for p in parts for f in p.frames}
    if len(kinds) > 1:
        raise BadFile(f"read one volume from {path}", f"slices in different units {sorted(kinds)}", "Read them one by one.")
    units, remarks = quantity(first.ds, frames[0].scaling, first.photometric)
    notes += remarks
    if code(first.ds, "Modality") != "PT" or units == "SUV":
        return units, None
    factors = {suv_factor(p.ds) for p in parts}
    factor, missing = next(iter(factors))
    if len(factors) > 1 or factor is None:
        notes.append(f"SUV cannot be computed ({missing or 'the slices disagree'}); values are in {units}")
        return units, None
    return "SUV", factor


def _background(index: list[tuple[Part, int]], order: Sequence[int], grid: Grid) -> torch.Tensor | None:
    """Padding voxels as a mask, or None where there are none."""
    shape = index[0][0].values.shape[1:3]
    masks = [np.zeros(shape, bool) if p.padded is None else p.padded[n] for p, n in (index[i] for i in order)]
    if not any(m.any() for m in masks):
        return None
    mask = np.stack(masks, 2)
    return torch.from_numpy(np.ascontiguousarray(mask if grid.ndim == 3 else mask[..., 0]))


def _facts(parts: list[Part], frames: list[Frame], order: Sequence[int], sided: bool, keep_phi: bool) -> dict[str, Any]:
    """What the reader learned and may be shown; identifiers only on request, under ``phi``."""
    from pydicom.uid import UID

    ds = parts[0].ds
    facts: dict[str, Any] = {"format": "DICOM", "photometric": code(ds, "PhotometricInterpretation"), "sided": sided}
    facts |= {name: code(ds, keyword) for name, keyword in CODED.items()}
    facts |= {name: found[0] for name, keyword in MEASURED.items() if (found := numbers(ds, keyword, 1))}
    facts |= {name: text for name, keyword in WORDED.items() if (text := str(ds.get(keyword, "") or "")).isprintable() and len(text) <= 64}
    facts["laterality"] = facts["laterality"] or code(ds, "Laterality")
    syntax = UID(ds.file_meta.get("TransferSyntaxUID", ""))
    facts["transfer_syntax"] = syntax.name if syntax.is_transfer_syntax else ""
    facts["slices"] = len(order)
    window = frames[order[len(order) // 2]].window
    if window is not None:
        facts["window"] = window
    facts = {k: v for k, v in facts.items() if v != ""}
    digests = sorted(p.digest for p in parts)
    facts["sha256"] = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    if keep_phi:
        facts["phi"] = {k: str(ds.get(k)) for k in IDENTIFYING if ds.get(k) not in (None, "")}
        facts["phi"]["SOPInstanceUIDs"] = tuple(str(p.ds.get("SOPInstanceUID", "")) for p in parts)
    return facts


def _remarks(ds: Any, frames: list[Frame], facts: dict[str, Any]) -> list[str]:
    """What a person should know before trusting a map of this picture."""
    notes = []
    if facts.get("photometric") == "MONOCHROME1":
        notes.append("MONOCHROME1: high values are dark; values are as stored, not inverted")
    if facts.get("presentation") == "INVERSE" and facts.get("photometric") != "MONOCHROME1":
        notes.append("PresentationLUTShape INVERSE: high values are dark; values are not inverted")
    if len({f.window for f in frames}) > 1:
        notes.append("the slices propose different windows; that of the middle slice is kept")
    if ds.get("VOILUTSequence"):
        notes.append("the file proposes a VOI LUT for display; it is not applied to the values")
    regions = ds.get("SequenceOfUltrasoundRegions") or []
    if regions:
        notes.append(f"ultrasound with {len(regions)} marked regions: text and rulers outside of them may be burned in")
    if str(ds.get("BurnedInAnnotation", "")).upper() == "YES":
        notes.append("text is burned into the pixels and may identify the patient")
    if any(element.tag.group in range(0x6000, 0x6020, 2) for element in ds):
        notes.append("overlay planes are not part of the values")
    if ds.get("LossyImageCompression") == "01":
        notes.append("the image was compressed with loss")
    return notes
