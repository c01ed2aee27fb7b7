"""Parametric Map: the signed map in float32, one frame for each slice of the source."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pellucid.io.dicom.derived import Derived, concept, fit


def parametric_map(derived: Derived) -> Any:
    """The map as DICOM Parametric Map: stored = value / 2^k, within [-1, 1]; the second real-world mapping gives the score's units, exactly.

    Viewers that ignore real-world values (OHIF) then still show the map, and those that take the first mapping see what is stored. OHIF and
    3D Slicer's reader also ignore where each frame says it lies and take frames as ascending along the normal, where highdicom writes
    them descending: hence the order here.
    """
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    origin = derived.origin
    scale = 2.0 ** math.ceil(math.log2(derived.top)) if derived.top > 0 else 1.0
    frames = np.empty_like(derived.values, dtype=np.float32)
    frames[list(origin.order)] = derived.values / scale  # as the pictures lie in the source
    low, high = float(frames.min()), float(frames.max())
    span = (low, max(high, low + 1e-6))
    mappings = [
        RealWorldValueMapping(
            label, fit(f"{derived.name} of {derived.target}, {meaning}"), codes.UCUM.NoUnits, span, slope=slope, intercept=0.0,
            quantity_definition=concept(derived.name, f"Relevance by {derived.name}, {meaning}"),
        )
        for label, meaning, slope in (("STORED", f"1 is {scale:g}", 1.0), ("SCORE", "as the map gives it", scale))
    ]  # fmt: skip
    pm = ParametricMap(
        list(origin.headers),
        frames,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=mappings,
        voi_lut_transformations=[VOILUTTransformation(window_center=0.0, window_width=2.0)],
        content_qualification="RESEARCH",
        image_flavor="VOLUME",
        derived_pixel_contrast="NONE",
        content_label="SALIENCY",
        content_description=fit(f"{derived.verdict}: {derived.method} of {derived.target}"),
        coding_schemes=derived.scheme(),
        **derived.series("map", 9901),
        **derived.equipment(),
    )
    anatomy = Dataset()
    anatomy.FrameLaterality, anatomy.AnatomicRegionSequence = "U", [derived.anatomy()]  # 3D Slicer's reader crashes without
    pm.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
    _ascend(pm, np.array(origin.directions))
    return derived.finish(pm)


def _ascend(pm: Any, directions: np.ndarray) -> None:
    """Frames in ascending position along the normal."""
    normal = np.cross(directions[:3], directions[3:])
    groups = list(pm.PerFrameFunctionalGroupsSequence)
    depth = [float(normal @ np.array(g.PlanePositionSequence[0].ImagePositionPatient, dtype=float)) for g in groups]
    order = np.argsort(depth, kind="stable")
    frames = np.frombuffer(pm.FloatPixelData, dtype="<f4").reshape(len(groups), -1)
    pm.PerFrameFunctionalGroupsSequence = [groups[i] for i in order]
    pm.FloatPixelData = np.ascontiguousarray(frames[order]).tobytes()
