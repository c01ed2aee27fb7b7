"""Small scans with made-up maps, whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pellucid.explanation import Evidence, Map, Measurement, Provenance
from pellucid.grid import Grid, as_affine
from pellucid.image import Image

CLASSES = ("healthy", "early", "late")
CHECKED = Evidence(
    "standard",
    (
        Measurement("completeness_gap", 0.003, "", "zero", "pass", "The sum is right.", 0.01, "pass to 1%"),
        Measurement("deletion", 0.41, "of the range", "up", "fail", "Deletion is slow.", 0.5, "random orders", 0.3, 0.5),
        Measurement("insertion", float("nan"), "", "up", "inconclusive", "Not checked: no such thing."),
        Measurement("repetition", -2e-7, "", "down", "void", "Empty map."),
    ),
    "questionable",
    ("Deletion stays open.",),
)


def provenance(scan: Image, **changes: Any) -> Provenance:
    given: dict[str, Any] = {
        "method": "integrated_gradients(steps=8)", "target": "logit('late')", "site": "input", "image": scan.fingerprint, "model": "Net",
        "classes": CLASSES, "output": "logits", "time": "2026-11-21T10:14:32+00:00", "versions": {"pellucid": "0.1.0"}, "caveats": ("A caveat to read.",),
    }  # fmt: skip
    return Provenance(**{**given, **changes})


def explained(scan: Image, values: torch.Tensor, grid: Grid | None = None, evidence: Evidence = CHECKED, **changes: Any) -> Map:
    where = grid or scan.grid
    return Map(where, provenance(scan, **changes), evidence, values, scan, scan, 1.5, probabilities=(0.07, 0.0001, 0.9299))


# a head in RAS: 12 x 14 x 10 voxels of 1 x 1.5 x 2.5 mm; the strongest voxel right, front, high; a weaker negative one left, back, low
SHAPE, SPACING, FOR_AT, AGAINST_AT = (12, 14, 10), (1.0, 1.5, 2.5), (9, 11, 7), (2, 3, 1)


def head(tilt: float = 0.0, sided: bool = True) -> tuple[Image, torch.Tensor]:
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(SPACING)
    affine[:3, 3] = (-6, -10, -12)
    scan = Image(torch.full((1, *SHAPE), 0.3), Grid(SHAPE, as_affine(affine), "mm"), facts={"sided": sided})
    scan.values[0, 0, 0, 0] = 1.0
    values = torch.zeros(1, *SHAPE)
    values[(0, *FOR_AT)], values[(0, *AGAINST_AT)] = 2.0, -1.0
    return scan, values


def flat(**facts: Any) -> tuple[Image, torch.Tensor]:
    scan = Image(torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(0)), channels=("red", "green", "blue"), facts=facts)
    values = torch.zeros(3, 8, 12)
    values[0, 2, 9], values[1, 6, 1] = 1.0, -0.5
    return scan, values
