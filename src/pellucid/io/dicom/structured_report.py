"""Structured report: verdict, measurements and regions of an explanation as Comprehensive 3D SR after TID 1500."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pellucid.io.dicom.derived import Derived, concept, fit


def structured_report(derived: Derived, segmented: Any) -> Any:
    """Evidence as numbers with the verdict, and each region of the Segmentation ``segmented`` with its size and peak; never verified.

    Private codes (scheme 99PELLUCID) name what the standard has no code for.
    """
    from highdicom.sr import (
        Comprehensive3DSR,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )  # fmt: skip
    from pydicom.sr.codedict import codes

    device = ObserverContext(
        codes.DCM.Device,
        DeviceObserverIdentifyingAttributes(
            uid=derived.uid("observer"), name=fit(f"Pellucid {derived.version}"), manufacturer_name="Pellucid", model_name=fit(derived.name)
        ),
    )
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=device),
        procedure_reported=concept("EXPLANATION", "Explanation of a network's answer"),
        imaging_measurements=[_whole(derived), *_regions(derived, segmented)],
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=list(derived.origin.headers) if "PixelSpacing" in derived.origin.headers[0] else None,
    )
    sr = Comprehensive3DSR(
        evidence=[*derived.origin.headers, segmented],
        content=report[0],
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=derived.scheme(),
        **derived.series("report", 9904),
        **derived.equipment(),
    )
    return derived.finish(sr)


def _algorithm(derived: Derived) -> Any:
    from highdicom.sr import AlgorithmIdentification

    told = [derived.method, f"target {derived.target}", f"weights {derived.said.get('weights', '')}", f"site {derived.said['site']}"]
    return AlgorithmIdentification(name=fit(f"Pellucid {derived.name}"), version=fit(derived.version), parameters=told)


def _whole(derived: Derived) -> Any:
    """The whole map: the score, what was measured of it, and the verdict."""
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, QualitativeEvaluation, RelationshipTypeValues, TextContentItem
    from highdicom.sr import TrackingIdentifier as Tracked

    evidence = derived.facts["evidence"]
    verdict = derived.verdict
    found = [_measured("SCORE", "Score of the explained target", derived.facts["score"])]
    found += [_measured(m["name"].upper(), _named(m), m["value"]) for m in evidence["measurements"] if math.isfinite(m["value"])]
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=Tracked(uid=derived.uid("whole"), identifier=fit(f"{derived.name} of {derived.target}")),
        finding_type=concept("EXPLANATION", "Explanation of a network's answer"),
        algorithm_id=_algorithm(derived),
        measurements=found,
        qualitative_evaluations=[
            QualitativeEvaluation(concept("VERDICT", "Verdict on the explanation"), concept(verdict.upper().replace(" ", "_"), verdict))
        ],
    )
    notes = [("REASON", "Reason of the verdict", r) for r in evidence["reasons"]]
    notes += [("CAVEAT", "Caveat", c) for c in derived.said["caveats"]]
    for value, meaning, text in notes:
        item = TextContentItem(concept(value, meaning), text, RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(item)
    return group


def _named(m: Mapping[str, Any]) -> str:
    """A measurement's name with its unit and what it was found to be."""
    return fit(f"{m['name'].replace('_', ' ')} ({m['unit']}; {m['status']})")


def _measured(value: str, meaning: str, number: float) -> Any:
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    return Measurement(name=concept(value, meaning), value=float(f"{number:.9g}"), unit=codes.UCUM.NoUnits)


def _regions(derived: Derived, segmented: Any) -> list[Any]:
    """A group for each segment: its size in mm, its largest value, the share of the relevance in it."""
    from highdicom.sr import (
        FindingSite,
        Measurement,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        ReferencedSegment,
        ReferencedSegmentationFrame,
        SourceImageForSegmentation,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )  # fmt: skip
    from pydicom.sr.codedict import codes

    grid, total, found = derived.origin.grid, float(np.abs(derived.values).astype(np.float64).sum()), []
    for n, (sign, mask) in enumerate(derived.regions.items(), 1):
        inside = derived.values[mask].astype(np.float64)
        numbers = [
            _measured("PEAK", "Largest |value| in the region, with its sign", float(inside[np.abs(inside).argmax()])),
            _measured("SHARE", "Share of all |relevance| that lies in the region", float(np.abs(inside).sum()) / total),
        ]
        if grid.unit == "mm":
            size = (codes.SCT.Volume, codes.UCUM.CubicMillimeter) if grid.ndim == 3 else (codes.SCT.Area, codes.UCUM.SquareMillimeter)
            numbers.insert(0, Measurement(size[0], float(f"{mask.sum() * grid.voxel:.9g}"), size[1]))
        common = {
            "tracking_identifier": TrackingIdentifier(uid=derived.uid("segment", sign), identifier=fit(f"{derived.name} {sign}")),
            "finding_type": derived.region(sign),
            "finding_sites": [FindingSite(derived.anatomy())],
            "algorithm_id": _algorithm(derived),
            "measurements": numbers,
        }
        named = (str(segmented.SOPClassUID), str(segmented.SOPInstanceUID))
        first = derived.origin.headers[0]
        if len(derived.values) > 1:
            whole = ReferencedSegment(*named, segment_number=n, source_series=SourceSeriesForSegmentation(str(first.SeriesInstanceUID)))
            found.append(VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=whole, **common))
        else:
            image = SourceImageForSegmentation(str(first.SOPClassUID), str(first.SOPInstanceUID))
            frame = ReferencedSegmentationFrame(*named, frame_number=n, segment_number=n, source_image=image)
            found.append(PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=frame, **common))
            _drop_frames(found[-1][0])
    return found


def _drop_frames(group: Any) -> None:
    """A segment is named by its number alone, and a file with one picture without a frame number (PS3.3 C.17.3.5, table 10-3)."""
    for item in group.ContentSequence:
        for reference in item.get("ReferencedSOPSequence", ()):
            reference.pop("ReferencedFrameNumber", None)
