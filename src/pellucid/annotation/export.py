"""Annotations as files for others: COCO JSON, labels on the scan's own grid (NIfTI, NPZ), DICOM Segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid import io
from pellucid.annotation.finding import Finding, runs_of
from pellucid.annotation.session import Annotation
from pellucid.errors import BadFile, BadGrid
from pellucid.image import Image


def labels(annotation: Annotation) -> Tensor:
    """What the reader stands by, numbered by finding, (*space); where findings meet, the one with the lower number has the sample."""
    found = torch.zeros(annotation.shape, dtype=torch.int32)
    for f in reversed(annotation.accepted):
        here = found[f.place]
        here[f.inner] = f.number
    return found


def write_labels(path: str | Path, annotation: Annotation, image: Image) -> Path:
    """``.nii.gz``, ``.nii`` or ``.npz``: ``labels`` on the scan's own grid, with names and effort beside it.

    Raises:
        BadGrid: an annotation of another scan.
        BadFile: as ``io.write``.
    """
    _same(annotation, image)
    e = annotation.effort
    facts = {
        "kind": "annotation", "made": annotation.made, "sided": bool(image.facts.get("sided")),
        "findings": [{"number": f.number, "label": f.label, "origin": f.origin, "touched": f.touched} for f in annotation.accepted],
        "effort": {"actions": e.actions, "seconds": round(e.seconds, 1), "by_kind": dict(e.by_kind)},
    }  # fmt: skip
    return io.write(path, labels(annotation).float(), image.grid, facts=facts)


def coco(annotations: Sequence[tuple[str, Annotation]]) -> dict[str, Any]:
    """COCO's JSON for several annotated scans, each with the name that its picture file has.

    ``bbox`` is [x, y, width, height] in samples, ``segmentation`` an uncompressed run-length code (column after column, as COCO has it). COCO knows
    flat pictures: of a volume each slice along its last axis that holds a finding is a picture of its own (``file_name#k``, x along the first axis,
    y along the second). Only what the reader stands by is written; a scan without findings is there as a picture without annotations.
    """
    names = sorted({f.label for _, a in annotations for f in a.accepted})
    number = {name: n for n, name in enumerate(names, 1)}
    pictures: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    for name, a in annotations:
        for k, parts in _pictures(a).items():
            tall, wide = a.shape if k is None else (a.shape[1], a.shape[0])
            picture = {"id": len(pictures) + 1, "file_name": name if k is None else f"{name}#{k}", "width": wide, "height": tall}
            pictures.append(picture if k is None else {**picture, "slice": k})
            for f in parts:
                plane = f.mask(a.shape) if k is None else f.mask(a.shape)[:, :, k].T
                if bool(plane.any()):
                    mark = {
                        "id": len(marks) + 1,
                        "image_id": picture["id"],
                        "category_id": number[f.label],
                        "iscrowd": 0,
                        **_flat(plane, f, k),
                    }
                    marks.append({**mark, "finding": f.number, "origin": f.origin, "touched": f.touched})
    told = {"description": "Pellucid: findings that a reader accepted, moved or added", "version": "1"}
    return {"info": told, "images": pictures, "annotations": marks, "categories": [{"id": n, "name": c} for c, n in number.items()]}


def _pictures(a: Annotation) -> dict[int | None, list[Finding]]:
    """The flat pictures of a scan and the findings in each."""
    if len(a.shape) == 2:
        return {None: list(a.accepted)}
    slices = sorted({k for f in a.accepted for k in range(f.start[2], f.stop[2])})
    return {k: [f for f in a.accepted if f.start[2] <= k < f.stop[2]] for k in slices}


def _flat(plane: Tensor, f: Finding, k: int | None) -> dict[str, Any]:
    at = plane.nonzero()
    (top, left), (bottom, right) = at.min(0).values.tolist(), (at.max(0).values + 1).tolist()
    if f.runs is None and k is None:
        top, left, bottom, right = (*f.start, *f.stop)
    runs = {"size": list(plane.shape), "counts": list(runs_of(plane.T.contiguous()))}
    return {"bbox": [left, top, right - left, bottom - top], "area": int(plane.sum()), "segmentation": runs}


def write_segmentation(folder: str | Path, annotation: Annotation, image: Image, source: str | Path, *, keep_phi: bool = False) -> Path:
    """A DICOM Segmentation, a segment for each finding, over the DICOM files that the scan was read from; ``segmentation.dcm`` in ``folder``.

    Nothing in it names the patient unless ``keep_phi`` files it in the patient's own study.

    Raises:
        BadFile: a scan that was not read from DICOM, other files than its own, no finding to write.
        BadGrid: an annotation of another scan.
    """
    _same(annotation, image)
    if image.facts.get("format") != "DICOM" or "sha256" not in image.facts:
        raise BadFile(
            "a DICOM Segmentation of a scan that was read from DICOM", f"one from {image.facts.get('format', 'memory')}", "Save NIfTI."
        )
    if not annotation.accepted:
        raise BadFile("a DICOM Segmentation of findings", "none that the reader stands by", "Accept or draw one.")
    origin = io.find_origin(source, image, named=keep_phi)
    parts = {}
    for f in annotation.accepted:
        on = Image(f.mask(annotation.shape)[None].float(), image.grid).on(origin.grid, nearest=True, fill=0.0).values[0] > 0.5
        parts[f.number] = (
            f.label,
            f.origin == "reader" and annotation.made == "",
            on.movedim(2, 0).numpy() if on.ndim == 3 else on[None].numpy(),
        )
    return io.write_drawn(folder, origin, parts, made=annotation.made or "drawn by hand")


def _same(annotation: Annotation, image: Image) -> None:
    if annotation.shape != image.grid.shape:
        raise BadGrid(f"an annotation of a scan {annotation.shape}", f"a scan {image.grid.shape}", "Give the scan that was annotated.")
