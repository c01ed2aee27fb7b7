"""The door for DICOM objects made from a map: a folder of them, whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import BadFile, BadImage, BadParameter
from pellucid.io.content import decoding, kind_of
from pellucid.io.dicom.derived import IMPLEMENTATION, Derived
from pellucid.io.dicom.origin import Origin
from pellucid.io.dicom.parametric_map import parametric_map
from pellucid.io.dicom.secondary_capture import captures, shown
from pellucid.io.dicom.segmentation import segmentation
from pellucid.io.dicom.structured_report import structured_report

KINDS = ("map", "segmentation", "capture", "report")
# CT, MR, PET and their enhanced forms, dose: without a frame of reference they are incomplete, and nothing can refer to a part of them
IN_SPACE = tuple(f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("2", "2.1", "4", "4.1", "128", "130", "481.2"))


@dataclass(frozen=True)
class Filed:
    """DICOM objects on disk: their files, and what a person should know before sending them on."""

    folder: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)


def file_dicom(folder: str | Path, derived: Derived, kinds: Sequence[str] | None) -> Filed:
    """Write the objects of these kinds (None: all that the source can carry); see ``Map.dicom``.

    Raises:
        BadParameter: an unknown kind, or a threshold that is no share.
        BadImage: a map without any relevance, or one that is not finite.
        BadFile: a kind that the source cannot carry, no such parent folder, or somebody else's files in the folder.
    """
    folder = Path(folder)
    _check(derived, kinds)
    refused = _refused(derived.origin)
    wanted = tuple(k for k in KINDS if k not in refused) if kinds is None else tuple(k for k in KINDS if k in kinds)
    for kind in wanted:
        if kind in refused:
            raise BadFile(f"write a DICOM {kind}", refused[kind], "Leave it out of kinds=, or save NIfTI or PNG.")
    if "report" in wanted and "segmentation" not in wanted:
        raise BadParameter("a report points at the segments of a segmentation", f"kinds={wanted}", "Add 'segmentation'.")
    _guard(folder)
    aside = folder.parent / f".{uuid.uuid4().hex}"
    aside.mkdir()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the source's own words, such as a name of one part; they may name the patient
            names = [_save(ds, aside / name) for name, ds in _made(derived, wanted)]
        _take_place(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    left_out = tuple(f"no {k}: {refused[k]}" for k in KINDS if kinds is None and k in refused)
    return Filed(folder, tuple(folder / n for n in names), (*_notes(derived, wanted), *left_out))


def _check(derived: Derived, kinds: Sequence[str] | None) -> None:
    unknown = [k for k in kinds or () if k not in KINDS]
    if unknown or (kinds is not None and (isinstance(kinds, str) or not kinds)):
        raise BadParameter(f"kinds are some of {KINDS}", repr(kinds), "Give a tuple of them, or None for all.")
    if not 0 < derived.threshold <= 1:
        raise BadParameter("a threshold is a share of the largest |value|", repr(derived.threshold), "Give more than 0 and at most 1.")
    if not np.isfinite(derived.values).all():
        raise BadImage("a map to write holds finite numbers", "NaN or infinite values", "Look at the evidence before saving.")
    if derived.top == 0:
        raise BadImage("a map to show holds relevance somewhere", "zeros on the whole scan", "Look at the map's caveats.")


def _refused(origin: Origin) -> dict[str, str]:
    """Kinds that this source cannot carry, and why."""
    many = origin.grid.ndim == 3
    found = {}
    if not origin.placed:
        found["map"] = "an image without a position in space, which viewers show no Parametric Map over"
        if many or str(origin.headers[0].SOPClassUID) in IN_SPACE:
            found |= dict.fromkeys(("segmentation", "report"), "frames without positions in space, which no segment can refer to")
    if origin.readable and not origin.named:
        found["capture"] = "pixels that may name the patient (BurnedInAnnotation); keep_phi=True writes them"
    return found


def _made(derived: Derived, kinds: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """File names and objects, one after another."""
    segmented = segmentation(derived) if "segmentation" in kinds else None
    makers: dict[str, Callable[[], Any]] = {"map": lambda: parametric_map(derived), "segmentation": lambda: segmented}
    for kind in kinds:
        if kind == "capture":
            for ds in captures(derived):
                yield f"capture-{int(ds.InstanceNumber):04d}.dcm", ds
        elif kind == "report":
            yield "report.dcm", structured_report(derived, segmented)
        else:
            yield f"{kind}.dcm", makers[kind]()


def _save(ds: Any, path: Path) -> str:
    ds.save_as(path, enforce_file_format=True)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path.name


def _guard(folder: Path) -> None:
    """Refuse a folder that holds anything but our own objects."""
    if not folder.parent.is_dir():
        raise BadFile(f"write {folder}", f"no folder {folder.parent}", "Create it first.")
    if folder.is_file():
        raise BadFile(f"write {folder}", "a file of that name", "Choose another name: the objects get a folder of their own.")
    foreign = next((f for f in sorted(folder.rglob("*")) if not is_ours(f)), None) if folder.exists() else None
    if foreign is not None:
        raise BadFile(f"write {folder}", f"{foreign.name!r} there, which Pellucid did not write", "Choose a new or an empty folder.")


def is_ours(path: Path) -> bool:
    """Whether an existing file is a DICOM object that was written here, so that it may be replaced."""
    import pydicom

    if not path.is_file() or path.is_symlink():
        return False
    with path.open("rb") as file:
        if kind_of(file.read(348)) != "DICOM":
            return False
    try:
        with decoding("DICOM", path, private=True):
            return bool(pydicom.filereader.read_file_meta_info(path).get("ImplementationClassUID") == IMPLEMENTATION)
    except BadFile:
        return False


def _take_place(made: Path, folder: Path) -> None:
    """The new folder takes the name of the old; should that fail, the old one gets it back."""
    if not folder.exists():
        os.replace(made, folder)
        return
    old = folder.with_name(f".{uuid.uuid4().hex}")
    os.replace(folder, old)
    try:
        os.replace(made, folder)
    except OSError:
        os.replace(old, folder)
        raise
    shutil.rmtree(old)


def _notes(derived: Derived, kinds: Sequence[str]) -> list[str]:
    """What a person should know of these objects."""
    origin, notes = derived.origin, []
    rows, columns = origin.grid.shape[:2]
    if not origin.named:
        notes.append("de-identified: a study of its own under a pseudonym; keep_phi=True files the objects in the patient's study")
    if "map" in kinds and rows * columns % 4:
        notes.append(f"OHIF cannot open the map: {rows} x {columns} samples are no multiple of 4; it shows segmentation and capture")
    if "segmentation" in kinds:
        level = derived.threshold * derived.top
        found = ", ".join(f"{sign} {int(m.sum())}" for sign, m in derived.regions.items())
        notes.append(f"segments hold |relevance| from {level:.4g} ({derived.threshold:g} of the largest): {found} samples")
    if "capture" in kinds and len(derived.values) > 1:
        seen = shown(derived)
        notes.append(f"captures show slices {seen[0] + 1} to {seen[-1] + 1} of {len(derived.values)}, those that the regions reach")
    return notes
