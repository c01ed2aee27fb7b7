"""One table for each direction: whoever adds a format adds a row, and these tests say what is missing."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from pellucid.errors import BadFile
from pellucid.grid import Grid
from pellucid.io import content, read, write
from pellucid.io.content import kind_of
from pellucid.io.reading import READERS
from pellucid.io.writing import FORMATS

FLAT = {".png"}  # pictures: every other format keeps a map's place in the world
WRITES = {".nii": "NIfTI", ".nii.gz": None, ".npz": "ZIP", ".png": "PNG"}  # by hand; gzip is looked into by load


def test_every_kind_that_is_told_has_a_reader():
    assert set(get_args(content.Kind)) == set(READERS) | {"DICOM"}
    assert {kind for _, kind in content.MAGIC} | {"DICOM", "NIfTI"} == set(get_args(content.Kind))
    assert all(kind_of(magic + bytes(400)) == kind for magic, kind in content.MAGIC)
    spelled = content.KNOWN.replace(".npy", "NPY").replace(".npz", "ZIP")
    assert all(kind in spelled for kind in get_args(content.Kind))


@pytest.mark.parametrize("suffix", list(FORMATS))
def test_every_suffix_writes_its_own_kind_and_knows_it_again(tmp_path, suffix):
    path = write(tmp_path / f"m{suffix.upper()}", torch.rand(1, 6, 5), Grid((6, 5)))
    assert kind_of(path.read_bytes()) == WRITES[suffix]
    assert kind_of(content.load(path)[0]) == (WRITES[suffix] or "NIfTI")
    assert FORMATS[suffix].is_ours(path)
    write(path, torch.rand(1, 6, 5), Grid((6, 5)))
    assert read(path).grid.ndim == 2
    if suffix not in FLAT:
        turned = Grid((4, 3, 5), ((0, 0, -2.5, 7), (0.7, 0.1, 0, -3), (0.1, -0.7, 0, 11), (0, 0, 0, 1)), "mm")
        values = torch.rand(1, 4, 3, 5)
        volume = read(write(path, values, turned))
        there = torch.tensor(volume.grid.world((3, 0, 2)))
        assert torch.allclose(there, torch.tensor(turned.world((3, 0, 2))), atol=1e-4) and volume.grid.unit == "mm"
        assert torch.allclose(volume.values, values, atol=1e-6)
    others = [f for s, f in FORMATS.items() if s.removesuffix(".gz") != suffix.removesuffix(".gz")]
    assert not any(f.is_ours(path) for f in others)
    path.write_bytes(b"mine")
    with pytest.raises(BadFile, match="did not write"):
        write(path, torch.rand(1, 6, 5), Grid((6, 5)))
