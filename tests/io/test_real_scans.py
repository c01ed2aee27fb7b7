from __future__ import annotations

import nibabel
import numpy as np
import pydicom
import pytest

from pellucid.io import read, series, write

pytestmark = pytest.mark.realdata


def test_real_oblique_series_against_a_second_reader(realdata, tmp_path):
    import highdicom

    folder = realdata("dicom-mr")
    scan = read(folder)
    assert scan.values.shape == (1, 256, 256, 192)
    assert [s.slices for s in series(folder)] == [192]
    other = highdicom.get_volume_from_series([pydicom.dcmread(p) for p in folder.glob("*.dcm")])
    to_other = np.linalg.inv(other.affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    rng = np.random.default_rng(0)
    for _ in range(300):
        index = tuple(int(v) for v in rng.integers(scan.grid.shape))
        back = (to_other @ [*scan.grid.world(index), 1])[:3]
        assert np.allclose(back, np.round(back), atol=2e-3)
        assert other.array[tuple(np.round(back).astype(int))] == scan.values[(0, *index)].item()
    saved = nibabel.load(write(tmp_path / "m.nii", scan.values, scan.grid, image=scan))
    assert np.allclose(saved.affine, scan.grid.matrix, atol=1e-4)
    assert np.allclose(saved.header.get_qform(), saved.header.get_sform(), atol=1e-3)
    assert np.array_equal(np.asarray(saved.dataobj), scan.values[0].numpy())


@pytest.mark.parametrize("name", ["CT_AVM", "CT_pitch", "MR_Gd"])
def test_real_volumes_against_nibabel(realdata, name):
    path = realdata(f"volumes/{name}.nii.gz")
    scan, other = read(path), nibabel.load(path)
    assert np.allclose(scan.grid.matrix, other.affine, atol=1e-6)
    assert np.allclose(scan.values[0].numpy(), other.get_fdata(dtype=np.float32), rtol=1e-6)


def test_real_photograph_and_film(realdata):
    for folder, channels in (("fundus-idrid", 3), ("cxr", 1)):
        pictures = sorted(p for p in realdata(folder).rglob("*") if p.suffix in (".jpg", ".png"))
        assert read(pictures[0]).values.shape[0] in (channels, 1)
