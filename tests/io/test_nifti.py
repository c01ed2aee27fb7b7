from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from pellucid.errors import BadFile
from pellucid.grid import Grid, as_affine
from pellucid.io import read, write

OBLIQUE = np.array([[-1.9, 0.3, 0.1, 12.0], [0.31, 0.9, -0.2, -30.0], [0.02, 0.15, 3.1, 7.5], [0, 0, 0, 1]])


def shipped(name: str) -> Path:
    return Path(nibabel.__file__).parent / "tests" / "data" / name


def make(path: Path, values: np.ndarray, affine: np.ndarray | None, s: int = 1, q: int = 0, qform: np.ndarray | None = None) -> Path:
    scan = nibabel.Nifti1Image(values, affine if s else None)  # nibabel would set a code of its own
    scan.header.set_sform(affine, s)
    scan.header.set_qform(qform, q)
    nibabel.save(scan, path)
    return path


@pytest.mark.parametrize("name", ["anatomical.nii", "example_nifti2.nii.gz", "example4d.nii.gz", "functional.nii"])
def test_values_and_places_agree_with_nibabel(name):
    scan, other = read(shipped(name)), nibabel.load(shipped(name))
    want = other.get_fdata()
    want = np.moveaxis(want, 3, 0) if want.ndim == 4 else want[None]
    assert np.allclose(scan.values.numpy(), want)
    assert np.allclose(scan.grid.matrix, other.affine)
    assert any("channels" in n for n in scan.notes) == (want.shape[0] > 1)


def test_sform_wins_if_its_code_is_set_and_a_conflict_is_noted(tmp_path):
    values = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    moved = np.diag([2.0, 2.0, 2.0, 1.0])
    both = read(make(tmp_path / "a.nii", values, OBLIQUE, 2, 1, moved))
    assert np.allclose(both.grid.matrix, OBLIQUE, atol=1e-5)
    assert any("differ by up to" in n for n in both.notes)
    only_q = read(make(tmp_path / "b.nii", values, OBLIQUE, 0, 1, moved))
    assert np.allclose(only_q.grid.matrix, moved, atol=1e-5)
    assert not only_q.notes
    none = read(make(tmp_path / "c.nii", values, moved, 0, 0, moved))
    assert none.grid == Grid.spaced((4, 5, 6), (2.0, 2.0, 2.0))
    assert none.facts["sided"] is False
    assert any("left and right are unknown" in n for n in none.notes)


def test_meters_and_micrometers_become_millimeters(tmp_path):
    for unit, factor in (("micron", 1e-3), ("meter", 1e3)):
        scan = nibabel.Nifti1Image(np.ones((2, 3, 4), np.float32), np.diag([2.0, 3.0, 4.0, 1.0]))
        scan.header.set_xyzt_units(unit)
        nibabel.save(scan, tmp_path / "a.nii")
        assert read(tmp_path / "a.nii").grid.spacing == pytest.approx((2 * factor, 3 * factor, 4 * factor))


def test_scaled_integers(tmp_path):
    scan = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    scan.header.set_slope_inter(0.25, -3)
    nibabel.save(scan, tmp_path / "a.nii")
    assert np.allclose(read(tmp_path / "a.nii").values[0].numpy(), nibabel.load(tmp_path / "a.nii").get_fdata())


def test_rgb_and_5d(tmp_path):
    rgb = np.zeros((3, 4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"] = 7
    scan = read(make(tmp_path / "a.nii", rgb, np.eye(4)))
    assert scan.channels == ("red", "green", "blue")
    assert scan.values.amax((1, 2, 3)).tolist() == [0, 7, 0]
    with pytest.raises(BadFile, match=r"\(2, 3, 4, 2, 3\)"):
        read(make(tmp_path / "b.nii", np.zeros((2, 3, 4, 2, 3), np.float32), np.eye(4)))
    with pytest.raises(BadFile, match="complex64"):
        read(make(tmp_path / "c.nii", np.zeros((2, 3, 4), np.complex64), np.eye(4)))


def test_nan_voxels_are_refused_with_a_count(tmp_path):
    values = np.ones((2, 3, 4), np.float32)
    values[0, 0, :2] = np.nan
    with pytest.raises(BadFile, match=r"2 of 24 samples NaN or infinite.*nan_to_num"):
        read(make(tmp_path / "a.nii", values, np.eye(4)))


def test_big_label_numbers_are_not_rounded(tmp_path):
    values = np.full((2, 2, 2), 2**24 + 1, np.int32)
    assert read(make(tmp_path / "a.nii", values, np.eye(4))).values.max() == 2**24 + 1


def test_a_pair_and_a_short_file_are_refused(tmp_path):
    whole = make(tmp_path / "a.nii", np.ones((4, 5, 6), np.float32), np.eye(4)).read_bytes()
    (tmp_path / "b.nii").write_bytes(whole[:-8])
    with pytest.raises(BadFile, match="824 of the 832 bytes"):
        read(tmp_path / "b.nii")
    (tmp_path / "c.nii").write_bytes(whole.replace(b"n+1\0", b"ni1\0"))
    with pytest.raises(BadFile, match="pair"):
        read(tmp_path / "c.nii")
    packed = gzip.compress(whole)
    (tmp_path / "d.nii.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(BadFile, match="damaged stream"):
        read(tmp_path / "d.nii.gz")


def test_written_maps_come_back_in_place(tmp_path):
    values = torch.randn(2, 4, 5, 6)
    grid = Grid((4, 5, 6), as_affine(OBLIQUE), "mm")
    path = write(
        tmp_path / "m.nii.gz", values, grid, facts={"method": "integrated_gradients(steps=64)" * 5, "sided": True, "gap": float("nan")}
    )
    back = read(path)
    assert torch.equal(back.values, values)
    assert np.allclose(back.grid.matrix, OBLIQUE, atol=1e-5)
    other = nibabel.load(path)
    assert other.shape == (4, 5, 6, 2)
    assert other.get_data_dtype() == np.float32
    assert other.header["intent_name"].item() == b"saliency"
    assert len(other.header["descrip"].item()) <= 79
    beside = json.loads((tmp_path / "m.json").read_text())
    assert beside["facts"]["gap"] == "nan"
    assert beside["sides_known"] is True


def test_flat_maps_get_a_third_axis_and_lose_it_again(tmp_path):
    values = torch.randn(4, 5)
    grid = Grid((4, 5), as_affine(OBLIQUE), "mm")
    path = write(tmp_path / "m.nii", values, grid)
    assert nibabel.load(path).shape == (4, 5, 1)
    back = read(path)
    assert torch.equal(back.values[0], values)
    assert back.grid.shape == (4, 5)
    assert np.allclose(back.grid.matrix, OBLIQUE, atol=1e-5)
    assert back.facts["sided"] is False  # nobody said that the axes are the patient's


def test_pixels_claim_no_place_in_the_patient(tmp_path):
    path = write(tmp_path / "m.nii", torch.randn(4, 5), Grid((4, 5)))
    header = nibabel.load(path).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
    assert read(path).grid == Grid((4, 5))


@pytest.mark.parametrize("codes", [(0, 0), (1, 1), (2, 0), (0, 1)])
@pytest.mark.parametrize("name", ["m.nii.gz", "m.nii"])
def test_a_map_lies_on_its_scan_in_every_reader(tmp_path, codes, name):
    """Of a scan without orientation too, which no reader may take for one that has it."""
    scan = nibabel.Nifti1Image(np.random.default_rng(0).random((5, 6, 7), dtype=np.float32), None)
    scan.header.set_zooms((4, 5, 6))
    scan.header.set_xyzt_units("mm")
    for code, put in zip(codes, (scan.header.set_sform, scan.header.set_qform), strict=True):
        if code:
            put(np.array([[-4.0, 0, 0, 8], [0, 5, 0, -9], [0, 0, 6, 3], [0, 0, 0, 1]]), code)
    nibabel.Nifti1Image(np.asarray(scan.dataobj), None, scan.header).to_filename(tmp_path / "s.nii")
    image = read(tmp_path / "s.nii")
    path = write(tmp_path / name, image.values, image.grid, image=image)
    given, made = nibabel.load(tmp_path / "s.nii"), nibabel.load(path)
    assert np.allclose(given.affine, made.affine, atol=1e-5)
    assert given.header.get_zooms() == made.header.get_zooms()
    found = [int(made.header[k]) for k in ("sform_code", "qform_code")]
    assert found == ([0, 0] if codes == (0, 0) else [1, 1])
    assert read(path).grid == image.grid or np.allclose(read(path).grid.matrix, image.grid.matrix, atol=1e-5)
    assert read(path).facts["sided"] is image.facts["sided"]


def test_the_same_map_gives_the_same_bytes(tmp_path):
    values, grid = torch.randn(4, 5, 6), Grid.spaced((4, 5, 6), (1, 1, 2))
    a, b = (write(tmp_path / f"{n}.nii.gz", values, grid).read_bytes() for n in "ab")
    assert a == b


def test_mni_template():
    nilearn = pytest.importorskip("nilearn.datasets")
    path = Path(nilearn.__file__).parent / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    if not path.exists():
        pytest.skip("this nilearn ships no MNI template under the known name")
    scan, other = read(path), nibabel.load(path)
    assert scan.values.shape == (1, *other.shape)
    assert np.array_equal(scan.grid.matrix, other.affine)
    assert scan.facts["sided"] is True
