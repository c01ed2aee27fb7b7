"""What a reader drew as a DICOM Segmentation: a binary segment for each finding, on the grid of the scan's own files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import BadFile
from pellucid.io.dicom.derived import Derived, concept, fit
from pellucid.io.dicom.origin import Origin

SEGMENTS = 65535  # Segment Number is an unsigned short
COLOR = (92, 200, 120)


@dataclass(frozen=True, eq=False)
class Drawn(Derived):
    """As ``Derived``, but made by a reader: the words of the series say so."""

    @property
    def description(self) -> str:
        return fit(f"ANNOTATION, NOT FOR DIAGNOSIS: {self.said['method']}")


def write_drawn(folder: str | Path, origin: Origin, parts: Mapping[int, tuple[str, bool, np.ndarray]], *, made: str) -> Path:
    """Write ``segmentation.dcm`` into ``folder``: for each number a label, whether it was drawn without a map, and its mask (slices, rows, columns).

    Raises:
        BadFile: several frames without positions in space, no such folder, or nothing in any mask.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadFile(f"write into {folder}", "no such folder", "Create it first.")
    if not origin.placed and origin.grid.ndim == 3:
        raise BadFile("a DICOM Segmentation", "several frames without positions in space, which no segment can refer to", "Save NIfTI.")
    kept = {n: p for n, p in parts.items() if p[2].any()}
    if not 0 < len(kept) <= SEGMENTS:
        raise BadFile(f"from one finding to {SEGMENTS} on the scan", str(len(kept)), "Save NIfTI.")
    path = folder / "segmentation.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the source's own words; they may name the patient
        _segmentation(_derived(origin, kept, made), kept).save_as(path, enforce_file_format=True)
    return path


def _derived(origin: Origin, parts: Mapping[int, tuple[str, bool, np.ndarray]], made: str) -> Drawn:
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version("pellucid")
    except PackageNotFoundError:
        ours = "source"
    numbered = sum(n * mask.astype(np.float32) for n, (_, _, mask) in parts.items())
    told = [[n, label, by_hand] for n, (label, by_hand, _) in parts.items()]
    provenance = {
        "method": "findings of a reader",
        "target": "findings",
        "classes": (),
        "versions": {"pellucid": ours},
        "made": made,
        "segments": told,
    }
    facts = {"provenance": provenance, "evidence": {"measurements": []}, "score": None}
    return Drawn(origin, np.asarray(numbered), facts, 1.0)


def _segmentation(derived: Drawn, parts: Mapping[int, tuple[str, bool, np.ndarray]]) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
    from highdicom.seg import Segmentation as Made
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentificationSequence(
        name="Pellucid: proposals of a map", family=codes.DCM.ArtificialIntelligence, version=fit(derived.version), source="Pellucid"
    )
    described = [
        SegmentDescription(
            segment_number=n,
            segment_label=fit(f"{label} {number}"),
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=concept(f"FINDING_{label}".upper(), label or "finding"),
            algorithm_type=SegmentAlgorithmTypeValues.MANUAL if by_hand else SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
            algorithm_identification=None if by_hand else algorithm,
            tracking_uid=derived.uid("segment", str(number)),
            tracking_id=fit(f"finding {number}"),
            anatomic_regions=[derived.anatomy()],
            display_color=CIELabColor.from_rgb(*COLOR),
        )
        for n, (number, (label, by_hand, _)) in enumerate(parts.items(), 1)
    ]
    masks = np.empty((*derived.values.shape, len(described)), np.uint8)
    for n, (_, _, mask) in enumerate(parts.values()):
        masks[list(derived.origin.order), ..., n] = mask
    made = Made(
        list(derived.origin.headers),
        masks,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        content_label="ANNOTATION",
        content_description="Findings that a reader accepted, moved or added",
        coding_schemes=derived.scheme(),
        **derived.series("annotation", 9905),
        **derived.equipment(),
    )
    return derived.finish(made)
