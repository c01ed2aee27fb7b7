"""Damaged files: an image or a PellucidError, never anything else."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pil
from pydicom.data import get_testdata_file
from tests.io.dicoms import AXIAL, bare, enhanced, save

from pellucid.errors import PellucidError
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.io import read, write

ROUNDS = 60


def sources(folder: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    gray, color = rng.integers(0, 255, (12, 14)).astype(np.uint8), rng.integers(0, 255, (12, 14, 3)).astype(np.uint8)
    volume = rng.integers(0, 900, (3, 8, 9)).astype(np.uint16)
    made = {n: folder / n for n in ("g.png", "c.png", "c.jpg", "p.png", "z.tif", "r.tif", "a.npy", "v.nii", "v.nii.gz", "m.npz")}
    Pil.fromarray(gray).save(made["g.png"])
    Pil.fromarray(color).save(made["c.png"])
    Pil.fromarray(color).save(made["c.jpg"])
    Pil.fromarray(color).quantize(6).save(made["p.png"])
    tifffile.imwrite(made["z.tif"], volume, compression="zlib", photometric="minisblack")
    tifffile.imwrite(made["r.tif"], color)
    np.save(made["a.npy"], gray)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2.0, 1, 1, 1])), made["v.nii"])
    nibabel.save(nibabel.Nifti2Image(volume, np.diag([2.0, 1, 1, 1])), made["v.nii.gz"])
    write(made["m.npz"], torch.randn(8, 9), Grid((8, 9)))
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
    made["slice.dcm"] = save(bare(volume[0], RescaleSlope=1, RescaleIntercept=0, WindowCenter=1, WindowWidth=2, **place), folder / "s")
    made["enhanced.dcm"] = save(enhanced(volume, AXIAL, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), [2, 0, 1], [1.0] * 3), folder / "e")
    for name in ("MR_small_RLE.dcm", "SC_rgb_small_odd_jpeg.dcm", "MR_small_implicit.dcm"):
        made[name] = Path(str(get_testdata_file(name, download=False)))
    return made


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    kind = rng.choice(4, p=[0.5, 0.3, 0.1, 0.1])
    if kind == 0:  # some bytes anywhere
        for _ in range(rng.integers(1, 6)):
            out[rng.integers(len(out))] = rng.integers(256)
    elif kind == 1:  # a byte of the header
        for _ in range(rng.integers(1, 3)):
            out[rng.integers(min(len(out), 600))] = rng.integers(256)
    elif kind == 2:  # cut
        del out[rng.integers(len(out)) :]
    else:  # a run lost or doubled
        a = int(rng.integers(len(out)))
        b = min(len(out), a + int(rng.integers(1, 9)))
        out[a:b] = b"" if rng.integers(2) else bytes(out[a:b]) * 2
    return bytes(out)


def test_damaged_files_give_an_image_or_a_clear_refusal(tmp_path):
    made = sources(tmp_path)
    rng = np.random.default_rng(20)
    parsed, refused = 0, []
    for name, source in made.items():
        assert isinstance(read(source), Image)
        whole = source.read_bytes()
        for _ in range(ROUNDS):
            path = tmp_path / f"fuzz-{name}"
            path.write_bytes(damaged(whole, rng))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    found = read(path)
            except PellucidError as error:
                refused.append(str(error))
            else:
                parsed += 1
                assert bool(found.values.isfinite().all())
    assert parsed >= 0.3 * (parsed + len(refused))
    assert len(refused) > 100
    assert not [r for r in refused if "\n" in r or not r.isprintable()]  # one line, and no stray bytes of a header


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.7, 0.99])
def test_truncated_files_are_refused(tmp_path, keep):
    for name, source in sources(tmp_path).items():
        whole = source.read_bytes()
        path = tmp_path / f"short-{name}"
        path.write_bytes(whole[: int(len(whole) * keep)])
        # the last bytes of these hold nothing but an end mark or padding
        if keep == 0.99 and name.endswith((".png", ".jpg", "jpeg.dcm", "RLE.dcm", "implicit.dcm")):
            continue
        with pytest.raises(PellucidError):
            read(path)
