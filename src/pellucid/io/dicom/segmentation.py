"""Segmentation: where the map is strong, above and below zero, as two binary segments."""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.io.dicom.derived import Derived, fit

COLORS = ((214, 96, 22), (46, 98, 190))  # above and below zero, as in the overlay


def segmentation(derived: Derived) -> Any:
    """Samples of at least ``threshold`` times the largest |value| as a binary DICOM Segmentation; a sign that does not occur has no segment."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
    from highdicom.seg import Segmentation as Made
    from pydicom.sr.codedict import codes

    origin = derived.origin
    how = {"method": derived.method, "threshold": f"{derived.threshold:g} of the largest |value| ({derived.threshold * derived.top:.6g})"}
    algorithm = AlgorithmIdentificationSequence(
        name=fit(f"Pellucid {derived.name}"), family=codes.DCM.ArtificialIntelligence, version=fit(derived.version),
        source="Pellucid", parameters=how,
    )  # fmt: skip
    described = [
        SegmentDescription(
            segment_number=n,
            segment_label=f"{fit(f'{sign} {derived.target}', 46)} ({derived.verdict})",
            segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
            segmented_property_type=derived.region(sign),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=derived.uid("segment", sign),
            tracking_id=fit(f"{derived.name} {sign} {derived.target}"),
            anatomic_regions=[derived.anatomy()],
            display_color=CIELabColor.from_rgb(*COLORS[derived.signs.index(sign)]),
        )
        for n, sign in enumerate(derived.regions, 1)
    ]
    masks = np.empty((*derived.values.shape, len(described)), np.uint8)
    for n, mask in enumerate(derived.regions.values()):
        masks[list(origin.order), ..., n] = mask
    made = Made(
        list(origin.headers),
        masks,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        content_label="SALIENCY",
        content_description=fit(
            f"{derived.verdict}: {derived.name} of {derived.target}, from {derived.threshold:g} of the largest |value|"
        ),
        coding_schemes=derived.scheme(),
        **derived.series("segmentation", 9902),
        **derived.equipment(),
    )
    return derived.finish(made)
