"""The pictures of a DICOM file: where each lies, how it is scaled, and which of them make one stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from pellucid.errors import BadFile
from pellucid.io.dicom.geometry import TOGETHER, Plane, needed, numbers, plane_of
from pellucid.io.dicom.pixels import Scaling, scaling

# what can differ between pictures taken at one place
DIMENSIONS = (
    "EchoTime",
    "EffectiveEchoTime",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "DiffusionBValue",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "InversionTime",
    "FlipAngle",
    "AcquisitionNumber",
    "ImageType",
    "FrameType",
    "SegmentNumber",
    "ReferencedSegmentNumber",
    "AcquisitionTime",
)
SPATIAL = ("StackID", "InStackPositionNumber", "ImagePositionPatient", "ImageOrientationPatient")


@dataclass(frozen=True)
class Frame:
    """One picture of a file, before its samples are scaled: where it lies, how it is scaled, how it is meant to be windowed.

    ``pile`` is the stack that the file puts it into; ``marks`` is what may tell it from another picture at the same place.
    """

    plane: Plane | None
    scaling: Scaling
    window: tuple[float, float] | None
    pile: str
    marks: Mapping[str, Any]


def frames_of(ds: Any, count: int, what: str) -> list[Frame]:
    """Position, scaling and window of each picture: from functional groups where there are any, else from the file."""
    from pydicom.dataset import Dataset

    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    each = ds.get("PerFrameFunctionalGroupsSequence") or []
    if each and len(each) != count:
        raise BadFile(f"read {what}", f"{count} frames and {len(each)} frame descriptions", "The header is corrupt: export it again.")
    offsets = needed(ds, "GridFrameOffsetVector", count, what) if count > 1 else None
    names = _index_names(ds) if each else []
    frames: list[Frame] = []
    for n in range(count):
        if frames and not each and offsets is None:  # nothing is said of one that is not said of all
            return frames * count
        groups = [each[n], shared] if each else [shared]
        # the top level of a multi-frame file may describe one frame at most, so it places none of them
        rest = ds if count == 1 else Dataset()
        place, turn = _first(groups, "PlanePositionSequence", rest), _first(groups, "PlaneOrientationSequence", rest)
        plane = plane_of(place, turn, _first(groups, "PixelMeasuresSequence", rest), what)
        if offsets is not None:
            plane = _dose_plane(ds, offsets[n], what)
        how = scaling(_first(groups, "PixelValueTransformationSequence", ds), ds, what)
        content = _first(groups, "FrameContentSequence", Dataset())
        marks = marks_of(*_items(groups)) | _indices(content, names) if each else marks_of(ds)
        frames.append(Frame(plane, how, _window(_first(groups, "FrameVOILUTSequence", ds)), str(content.get("StackID", "")), marks))
    return frames


def marks_of(*items: Any) -> dict[str, Any]:
    """What the given datasets say of the DIMENSIONS: a number where it is one, else its text, which is never shown."""
    return {k: _value(item.get(k)) for item in items for k in DIMENSIONS if k in item}


def _value(found: Any) -> Any:
    try:
        return float(found)
    except (TypeError, ValueError):
        return str(found)


def _first(groups: Sequence[Any], sequence: str, default: Any) -> Any:
    """The item of a functional group: per frame, else shared, else the default."""
    for group in groups:
        item = group.get(sequence)
        if item:
            return item[0]
    return default


def _items(groups: Sequence[Any]) -> list[Any]:
    """Every functional-group item of a frame."""
    return [item for group in groups for element in group if element.VR == "SQ" for item in element.value]


def _index_names(ds: Any) -> list[str]:
    """What each number of DimensionIndexValues counts; spatial ones are empty: planes tell them better."""
    from pydicom.datadict import keyword_for_tag

    words = [keyword_for_tag(item.get("DimensionIndexPointer", 0) or 0) for item in ds.get("DimensionIndexSequence") or []]
    return ["" if word in SPATIAL or not word else f"index of {word}" for word in words]


def _indices(content: Any, names: Sequence[str]) -> dict[str, float]:
    values = numbers(content, "DimensionIndexValues", len(names)) if names else None
    return {name: v for name, v in zip(names, values or ()) if name}


def _dose_plane(ds: Any, offset: float, what: str) -> Plane | None:
    """A dose grid: frames lie at offsets along the normal (DICOM PS3.3 C.8.8.3.2, relative offsets)."""
    plane = plane_of(ds, ds, ds, what)
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


@dataclass(frozen=True)
class Part:
    """Pictures that make one stack, by number; ``apart`` says in words what tells it from the others at its place."""

    members: tuple[int, ...]
    apart: str = ""


def piles(frames: Sequence[Frame]) -> list[Part]:
    """The stacks of a multi-frame file: frames of one StackID, orientation and spacing, then one echo, time or b-value each."""
    groups: list[list[int]] = []
    for n, frame in enumerate(frames):
        home = next((g for g in groups if _alike(frames[g[0]], frame)), None)
        if home is None:
            groups.append([n])
        else:
            home.append(n)
    found = []
    for members in groups:
        inner = unmixed([frames[n].plane for n in members], [frames[n].marks for n in members])
        found += [Part(tuple(members[i] for i in part.members), part.apart) for part in inner]
    return found


def _alike(a: Frame, b: Frame) -> bool:
    if a.pile != b.pile or (a.plane is None) != (b.plane is None):
        return False
    return a.plane is None or b.plane is None or a.plane.parallel(b.plane)


def unmixed(planes: Sequence[Plane | None], marks: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Parallel pictures as stacks with one picture a place, where one or two of the DIMENSIONS divide them so; else as they are.

    Every part must fill the same places: a lone rival of one slice is no stack and is left for ``stack`` to refuse.
    """
    whole = [Part(tuple(range(len(planes))))]
    first = next((p for p in planes if p is not None), None)
    if first is None or any(p is None for p in planes):
        return whole
    depth = np.array([p.position for p in planes if p is not None]) @ first.normal
    if len(_places(depth)) == len(depth):
        return whole
    keys = [k for k in dict.fromkeys(k for m in marks for k in m) if k != "AcquisitionTime" and len({m.get(k) for m in marks}) > 1]
    keys.sort(key=lambda k: DIMENSIONS.index(k) if k in DIMENSIONS else len(DIMENSIONS))
    for chosen in [*combinations(keys, 1), *combinations(keys, 2)]:
        parts: dict[tuple[Any, ...], list[int]] = {}
        for n, m in enumerate(marks):
            parts.setdefault(tuple(m.get(k) for k in chosen), []).append(n)
        places = [_places(depth[members]) for members in parts.values()]
        fit = all(len(p) == len(m) == len(places[0]) for p, m in zip(places, parts.values()))
        if fit and all(np.allclose(p, places[0], atol=TOGETHER) for p in places):
            ordered = sorted(parts.items(), key=lambda kv: [(isinstance(v, str), v is None, v if v is not None else 0) for v in kv[0]])
            return [Part(tuple(members), ", ".join(map(_said, chosen, values))) for values, members in ordered]
    return whole


def _places(depth: np.ndarray) -> np.ndarray:
    """Depths in ascending order, those nearer than TOGETHER taken as one."""
    ordered = np.sort(depth)
    return ordered[np.concatenate([[True], np.diff(ordered) >= TOGETHER])]


def _said(key: str, value: Any) -> str:
    """A number may be shown; text of the header may not."""
    return f"{key} {value:g}" if isinstance(value, float) else key
