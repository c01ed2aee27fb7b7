"""Maps with a known peak over synthetic DICOM scans, and what independent readers and validators make of the objects derived from them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from tests.io.dicoms import AXIAL, oblique

from pellucid.explanation import Evidence, Map, Measurement, Provenance
from pellucid.image import Image
from pellucid.method import Values

ORIENTATIONS = {"axial": AXIAL, "oblique": oblique(), "sagittal": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))}
PEAK, PIT = (3, 12, 9), (7, 20, 31)  # (slice, row, column) of the largest and of the smallest value
HIGH, LOW = 0.037, -0.03


def made_of(scan: Image, spots: dict[tuple[int, ...], float] | None = None, noise: float = 1e-3, **changes: object) -> Map:
    """A map over a scan: noise far below the threshold, and values at (row, column, slice)."""
    values = torch.randn(1, *scan.grid.shape, generator=torch.Generator().manual_seed(0)) * noise
    if spots is None:
        spots = {(p[1], p[2], p[0])[: scan.grid.ndim]: v for p, v in ((PEAK, HIGH), (PIT, LOW))}
    for at, value in spots.items():
        values[(0, *at)] = value
    found = (
        Measurement("deletion", 0.17, "share of the score's range", "up", "pass", "It falls faster."),
        Measurement("insertion", float("nan"), "share of the score's range", "up", "void", "Nothing to say."),
    )
    evidence = Evidence("quick", found, "questionable", ("It falls faster than chance.", "It rises no faster."))
    made = {
        "method": "integrated_gradients(baseline=Constant(0.0), steps=64)", "target": "logit('Ödem')", "site": "input", "image": "a", "model": "net",
        "classes": ("none", "Ödem"), "versions": {"pellucid": "0.1.0"}, "time": "2026-11-21T18:36:27+00:00", "caveats": ("A caveat.",),
        "values": Values.CONTRIBUTIONS.value,
    }  # fmt: skip
    provenance = Provenance(**{**made, **changes}, hash_weights=lambda: "ab" * 32)  # type: ignore[arg-type]
    return Map(scan.grid, provenance, evidence, values, scan, scan, 1.5, {}, (0.1, 0.9))


def tool(name: str) -> str:
    """The path of a program, or a skip that names it."""
    beside = Path(sys.executable).with_name(name)
    found = shutil.which(name) or (str(beside) if beside.exists() else None)
    if found is None:
        pytest.skip(f"needs {name} (Debian's dicom3tools and dcmtk, dcmqi from PyPI)")
    return found


def errors_in(path: Path) -> list[str]:
    """What dicom3tools finds wrong."""
    told = subprocess.run([tool("dciodvfy"), "-new", str(path)], capture_output=True, text=True, check=False)
    return [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]


def as_slicer(path: Path, into: Path) -> dict[str, nibabel.Nifti1Image]:
    """Volumes that the reader of 3D Slicer's core (dcmqi) finds in a Parametric Map or Segmentation; of segments with their numbers."""
    program = "paramap2itkimage" if path.name == "map.dcm" else "segimage2itkimage"
    into.mkdir()
    subprocess.run(
        [tool(program), "--inputDICOM", str(path), "--outputDirectory", str(into), "-t", "nifti"], check=True, capture_output=True
    )
    assert json.loads((into / "meta.json").read_text())
    return {f.name.split(".")[0]: nibabel.load(f) for f in sorted(into.glob("*.nii.gz"))}


def place(volume: nibabel.Nifti1Image, index: tuple[int, ...]) -> np.ndarray:
    """LPS mm of a voxel of a NIfTI volume."""
    return np.array([-1, -1, 1]) * (volume.affine @ [*index, 1.0])[:3]


def strongest(values: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(values.argmax()), values.shape))
