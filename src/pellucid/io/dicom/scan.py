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
from pellucid.grid import IDENTITY, Affine, Grid
from pellucid.image import Image
from pellucid.io.content import Source, decoding, load, tensor
from pellucid.io.dicom.frames import Frame, frames_of, piles
from pellucid.io.dicom.geometry import Stack, code, flat_affine, needed, numbers, stack
from pellucid.io.dicom.parsing import parsed
from pellucid.io.dicom.pixels import apply_modality, decode, padding, quantity, surplus, suv_factor
from pellucid.io.dicom.series import chosen
from pellucid.io.dicom.straighten import straighten

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
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


@dataclass(frozen=True)
class Reading:
    """What the caller wants: identifiers kept, a tilted or uneven stack resampled."""

    keep_phi: bool = False
    resample: bool = False


@dataclass(frozen=True)
class Part:
    """A decoded file: pictures (n, rows, columns[, 3]) in modality units, its padding, frames and header."""

    ds: Any
    values: np.ndarray
    padded: np.ndarray | None
    frames: list[Frame]
    photometric: str
    digest: str
    surplus: int


def read_file(data: bytes, digest: str, path: Source, how: Reading) -> Image:
    """One DICOM file: a slice or projection (row, column), or a multi-frame file (row, column, frame)."""
    return _assemble([_part(data, digest, path, None)], path, how, [])


def read_series(path: Path | Sequence[Source], series: str | None, how: Reading) -> Image:
    """The one DICOM series in a folder or among files, as (row, column, slice), sorted by position."""
    entries, ignored = chosen(path, series)
    name = path if isinstance(path, Path) else path[0]
    if len(entries) > 1 and entries[0].plane is None:
        got = f"{len(entries)} {entries[0].modality} images without a position in space"
        raise BadFile(f"read one volume from {name}", got, "They are views, not slices: give one of the files.")
    notes = [f"{ignored} files in the folder are no DICOM images and were left out"] if ignored else []
    return _assemble([_part(*load(e.path), e.path, e.picks) for e in entries], name, how, notes)


def _part(data: bytes, digest: str, path: Source, picks: tuple[int, ...] | None) -> Part:
    """Parse and decode one file, or the frames of one stack in it."""
    with decoding("DICOM", path, private=True):
        ds: Any = parsed(BytesIO(data), path)
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
    over = surplus(ds, stored)
    with decoding("DICOM", path, private=True):
        frames = frames_of(ds, len(stored), str(path))
        stored, frames = _picked(stored, frames, picks, path)
        padded = padding(stored, ds)
        if photometric == "RGB":
            values = stored
        else:
            values = np.stack([apply_modality(s, f.scaling, ds, path) for s, f in zip(stored, frames, strict=True)])
        for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
            ds.pop(keyword, None)  # a series would hold its pixels twice
    return Part(ds, values, padded, frames, photometric, digest, over)


def _picked(stored: np.ndarray, frames: list[Frame], picks: tuple[int, ...] | None, path: Source) -> tuple[np.ndarray, list[Frame]]:
    """The frames of one stack; a file with several of them is refused until one is named."""
    if picks is None and len(frames) > 1:
        found = piles(frames)
        if len(found) > 1:
            listing = "; ".join(f"{n}: {len(p.members)} slices{f' ({p.apart})' if p.apart else ''}" for n, p in enumerate(found))
            raise BadFile(f"read one volume from {path}", f"{len(found)} stacks ({listing})", "Name one: series='0'.")
    if picks is None or len(picks) == len(frames):
        return stored, frames
    return stored[list(picks)], [frames[n] for n in picks]


def _assemble(parts: list[Part], path: Source, how: Reading, notes: list[str]) -> Image:
    """Decoded files as one Image: order, affine, channels, meaning."""
    first = parts[0]
    if len({p.photometric for p in parts}) > 1 or len({p.values.shape[1:] for p in parts}) > 1:
        raise BadFile(f"read one volume from {path}", "slices of different size or photometric interpretation", "Read them one by one.")
    index = [(p, n) for p in parts for n in range(len(p.values))]
    frames = [p.frames[n] for p, n in index]
    with decoding("DICOM", path, private=True):
        grid, found, sided = _place(index, frames, first.ds, path, how, notes)
        units, factor = _meaning(parts, frames, first, path, notes)
    order = found.order
    if found.plan is None:
        picture = np.stack([_pixels(index[i]) for i in order], axis=2)  # (row, column, slice[, channel])
        background = _background(index, order)
    else:
        plan = found.plan
        picture, background = straighten(plan, lambda k: _pixels(index[order[k]]), lambda k: _padded(index[order[k]]))
        notes.append(f"resampled linearly to a regular grid because asked to; the file holds {plan.wrong}")
    if factor is not None:
        picture = (picture.astype(np.float64) * factor).astype(np.float32)
    color = first.photometric == "RGB"
    values = np.moveaxis(picture, -1, 0) if color else picture[None]
    values = values if grid.ndim == 3 else values[..., 0]
    if background is not None:
        background = np.ascontiguousarray(background if grid.ndim == 3 else background[..., 0])
    with decoding("DICOM", path, private=True):
        facts = _facts(parts, frames, order, sided, how.keep_phi)
        notes += _remarks(first.ds, frames, facts)
    if any(p.surplus for p in parts):
        notes.append(
            f"{max(p.surplus for p in parts)} bytes after the last sample were ignored: rows or columns may be wrong in the header"
        )
    if factor is not None:
        facts["suv_factor"] = factor
    if found.plan is not None:
        facts |= {"resampled": found.plan.wrong, "resampled_slices": len(order), "resampled_step_mm": found.plan.step}
    names = ("red", "green", "blue") if color else ()
    return Image(
        tensor(values, path), grid, units, names, None if background is None else torch.from_numpy(background), facts, tuple(notes)
    )


def _place(
    index: list[tuple[Part, int]], frames: list[Frame], ds: Any, path: Source, how: Reading, notes: list[str]
) -> tuple[Grid, Stack, bool]:
    """The grid, the order of the pictures, and whether left and right are known."""
    rows, columns = index[0][0].values.shape[1:3]
    planes = [f.plane for f in frames if f.plane is not None]
    if len(planes) == len(frames):
        hint = _differing(frames)
        found = stack(
            planes, lambda a, b: np.array_equal(_pixels(index[a]), _pixels(index[b])), str(path), hint=hint, resample=how.resample
        )
        if found.dropped:
            notes.append(f"{found.dropped} slices occur twice (same place, same pixels); the copies were dropped")
        shape: tuple[int, ...] = (rows, columns, len(found.order)) if found.plan is None else found.plan.shape(rows, columns)
        shape = shape if len(found.order) > 1 else (rows, columns)
        uid = str(ds.get("FrameOfReferenceUID", "") or "")
        return Grid(shape, found.affine, "mm", hashlib.sha256(uid.encode()).hexdigest()[:12] if uid else None), found, True
    if planes:
        got = f"{len(planes)} of {len(frames)} frames with a position in space"
        raise BadFile(f"place {path}", got, "The header is corrupt: export the scan again.")
    as_stored = Stack(tuple(range(len(frames))), 0, IDENTITY)
    if len(frames) > 1:
        notes.append(f"{len(frames)} frames without positions: the third axis is the frame number (time or view), the grid is in pixels")
        return Grid((rows, columns, len(frames))), as_stored, False
    grid, sided = _flat_grid(ds, (rows, columns), path, notes)
    return grid, as_stored, sided


def _pixels(at: tuple[Part, int]) -> np.ndarray:
    return at[0].values[at[1]]


def _padded(at: tuple[Part, int]) -> np.ndarray | None:
    return None if at[0].padded is None else at[0].padded[at[1]]


def _differing(frames: list[Frame]) -> str:
    """Which elements tell apart the pictures of a stack, for the message that refuses them."""
    keys = dict.fromkeys(k for f in frames for k in f.marks)
    differ = [k for k in keys if len({f.marks.get(k) for f in frames}) > 1 and k != "AcquisitionTime"]
    return f" (they differ in {', '.join(differ)})" if differ else ""


def _flat_grid(ds: Any, shape: tuple[int, int], path: Source, notes: list[str]) -> tuple[Grid, bool]:
    """A projection: pixel spacing in the patient, else at the detector or film (noted), else pixels."""
    spots = {
        "PixelSpacing": "",
        "ImagerPixelSpacing": "lengths are those at the detector plane, larger than in the patient (ImagerPixelSpacing)",
        "NominalScannedPixelSpacing": "lengths are those on the scanned film (NominalScannedPixelSpacing)",
    }
    for keyword, remark in spots.items():
        spacing = needed(ds, keyword, 2, str(path))
        if spacing is None:
            continue
        if min(spacing) <= 0:
            raise BadFile(f"place {path}", f"{keyword} {spacing}", "The header is corrupt: export the image again.")
        notes += [remark] if remark else []
        affine: Affine | None = flat_affine(ds, (spacing[0], spacing[1]))
        return (Grid.spaced(shape, spacing), False) if affine is None else (Grid(shape, affine, "mm"), True)
    return Grid(shape), False


def _meaning(parts: list[Part], frames: list[Frame], first: Part, path: Source, notes: list[str]) -> tuple[str, float | None]:
    """The quantity of the values, and the factor to SUV where it can be known."""
    kinds = {quantity(p.ds, f.scaling, p.photometric)[0] for p in parts for f in p.frames}
    if len(kinds) > 1:
        raise BadFile(f"read one volume from {path}", f"slices in different units {sorted(kinds)}", "Read them one by one.")
    units, remarks = quantity(first.ds, frames[0].scaling, first.photometric)
    notes += remarks
    if code(first.ds, "Modality") != "PT" or units == "SUV":
        return units, None
    factors = {suv_factor(p.ds, f.scaling) for p in parts for f in p.frames}
    factor, missing = next(iter(factors))
    if len(factors) > 1 or factor is None:
        notes.append(f"SUV cannot be computed ({missing or 'the slices disagree'}); values are in {units}")
        return units, None
    return "SUV", factor


def _background(index: list[tuple[Part, int]], order: Sequence[int]) -> np.ndarray | None:
    """Padding voxels as a mask, or None where there are none."""
    shape = index[0][0].values.shape[1:3]
    masks = [np.zeros(shape, bool) if (m := _padded(index[i])) is None else m for i in order]
    return np.stack(masks, 2) if any(m.any() for m in masks) else None


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
