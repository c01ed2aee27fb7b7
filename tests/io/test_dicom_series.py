"""Folders of slices: order, affine, and what is refused."""

from __future__ import annotations

import shutil

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import torch
from tests.io.dicoms import AXIAL, CR, bare, oblique, save, write_series

from pellucid.errors import BadFile
from pellucid.io import read, series, write

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 3000, (7, 9, 11)).astype(np.int16)


@pytest.mark.parametrize(
    "axes", [AXIAL, oblique(), oblique(-63, 41), ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)), ((-1.0, 0.0, 0.0), (0.0, 0.0, -1.0))]
)
def test_shuffled_series_lies_where_two_other_readers_put_it(tmp_path, volume, axes):
    truth = write_series(tmp_path / "s", volume, axes)
    scan = read(tmp_path / "s")
    assert scan.values.shape == (1, 9, 11, 7)
    assert np.array_equal(scan.values[0].numpy(), volume.transpose(1, 2, 0) - 1024.0)
    other = highdicom.get_volume_from_series([pydicom.dcmread(p) for p in (tmp_path / "s").iterdir()])
    for k, i, j in [(0, 0, 0), (6, 8, 10), (3, 2, 9)]:
        here = np.array(scan.grid.world((i, j, k)))
        assert np.allclose(here, (TO_RAS @ truth @ [k, i, j, 1])[:3], atol=1e-4)
        back = np.linalg.inv(other.affine) @ TO_RAS @ [*here, 1]  # where highdicom has this point, and what it holds there
        nearest = tuple(np.round(back[:3]).astype(int))
        assert np.allclose(back[:3], nearest, atol=1e-3)
        assert other.array[nearest] == scan.values[0, i, j, k].item()


@pytest.mark.parametrize("axes", [AXIAL, oblique(33, -20)])
def test_saved_nifti_lies_on_the_scan_voxel_for_voxel(tmp_path, volume, axes):
    truth = write_series(tmp_path / "s", volume, axes)
    scan = read(tmp_path / "s")
    path = write(tmp_path / "map.nii.gz", scan.values, scan.grid, image=scan)
    other = nibabel.load(path)
    array = np.asarray(other.dataobj)
    for k, i, j in np.ndindex(volume.shape):
        if (k + i + j) % 5:
            continue
        place = np.linalg.inv(other.affine) @ TO_RAS @ truth @ [k, i, j, 1]
        assert np.allclose(place[:3], np.round(place[:3]), atol=1e-3)
        assert array[tuple(np.round(place[:3]).astype(int))] == volume[k, i, j] - 1024
    header = other.header
    assert np.allclose(header.get_qform(), header.get_sform(), atol=1e-4)
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)
    assert np.allclose(read(path).grid.matrix, scan.grid.matrix, atol=1e-4)


def test_an_anisotropic_series_keeps_its_spacing_and_frame(tmp_path, volume):
    write_series(tmp_path / "s", volume, oblique())
    scan = read(tmp_path / "s")
    assert scan.grid.spacing == pytest.approx((0.7, 0.9, 2.5), abs=1e-5)
    assert scan.grid.frame is not None
    assert "1.2.3.9" not in scan.grid.frame
    assert len(scan.grid.frame) == 12
    write_series(tmp_path / "t", volume, AXIAL)
    assert read(tmp_path / "t").grid.frame == scan.grid.frame


def test_rescale_is_applied_slice_by_slice(tmp_path, volume):
    write_series(tmp_path / "s", volume, modality="MR", per_slice={2: {"WindowCenter": 99}})
    for path in (tmp_path / "s").iterdir():
        ds = pydicom.dcmread(path)
        ds.RescaleSlope, ds.RescaleIntercept = 1 + int(ds.InstanceNumber), 0
        ds.save_as(path)
    names = np.random.default_rng(0).permutation(7)
    scan = read(tmp_path / "s")
    assert np.allclose(scan.values[0].numpy(), (volume * (1 + names)[:, None, None]).transpose(1, 2, 0))
    assert any("different windows" in n for n in scan.notes)


def test_missing_slices_are_counted_and_refused(tmp_path, volume):
    write_series(tmp_path / "s", volume, skip=(3,))
    with pytest.raises(BadFile, match="1 missing slices: spacing 2.5 mm, 6 slices, first hole after slice 3 .5 mm"):
        read(tmp_path / "s")
    write_series(tmp_path / "t", volume, oblique(), skip=(2, 3, 5))
    with pytest.raises(BadFile, match="3 missing slices"):
        read(tmp_path / "t")


def test_uneven_gaps_are_refused_from_one_percent(tmp_path, volume):
    for name, wrong, refused in (("a", 0.02, False), ("b", 0.04, True)):
        write_series(tmp_path / name, volume)
        path = next(p for p in sorted((tmp_path / name).iterdir()) if abs(pydicom.dcmread(p).ImagePositionPatient[2] - 62.5) < 1e-6)
        ds = pydicom.dcmread(path)
        ds.ImagePositionPatient[2] += wrong
        ds.save_as(path)
        if refused:
            with pytest.raises(BadFile, match=r"uneven gaps: 2\.46 to 2\.54 mm, median 2\.5 mm"):
                read(tmp_path / name)
        else:
            assert read(tmp_path / name).values.shape[-1] == 7


def test_gantry_tilt_is_refused_with_its_angle(tmp_path, volume):
    write_series(tmp_path / "s", volume, shift=(0.0, 2.5 * np.tan(np.radians(15)), 0.0))
    with pytest.raises(BadFile, match=r"sideways by 0\.6699 mm \(tilt 15\.00 degrees"):
        read(tmp_path / "s")


def test_copies_are_dropped_and_rivals_refused(tmp_path, volume):
    write_series(tmp_path / "s", volume)
    first = sorted((tmp_path / "s").iterdir())[0]
    shutil.copy(first, tmp_path / "s" / "copy.dcm")
    scan = read(tmp_path / "s")
    assert np.array_equal(scan.values[0].numpy(), volume.transpose(1, 2, 0) - 1024.0)
    assert any("1 slices occur twice" in n for n in scan.notes)
    ds = pydicom.dcmread(first)
    ds.PixelData = bytes(len(ds.PixelData))
    ds.EchoTime = 80
    save(ds, tmp_path / "s" / "rival.dcm")
    with pytest.raises(BadFile, match="1 more pictures where one already lies .they differ in EchoTime"):
        read(tmp_path / "s")


def test_several_series_are_listed_and_one_is_picked(tmp_path, volume):
    write_series(tmp_path / "x" / "a", volume, seed=1)
    write_series(tmp_path / "x" / "b", volume[:4], oblique(), seed=2, modality="MR", SeriesInstanceUID="1.2.3.5")
    with pytest.raises(BadFile, match=r"2 series \(0: CT 7 slices 9x11 1\.2\.3\.4; 1: MR 4 slices 9x11 1\.2\.3\.5\)"):
        read(tmp_path / "x")
    assert read(tmp_path / "x", series="1").values.shape == (1, 9, 11, 4)
    assert read(tmp_path / "x", series="1.2.3.4").values.shape == (1, 9, 11, 7)
    with pytest.raises(BadFile, match="no such series"):
        read(tmp_path / "x", series="7")
    with pytest.raises(BadFile, match="no such series"):
        read(next((tmp_path / "x" / "a").iterdir()), series="1.2.3.5")
    found = series(tmp_path / "x")
    assert [(s.uid, s.modality, s.slices, s.shape) for s in found] == [
        ("1.2.3.4", "CT", 7, (9, 11, 7)),
        ("1.2.3.5", "MR", 4, (9, 11, 4)),
    ]
    assert {s.description for s in found} == {""}
    assert {s.description for s in series(tmp_path / "x", keep_phi=True)} == {"SecretDescription"}


def test_a_scout_inside_the_series_is_told_apart(tmp_path, volume):
    write_series(tmp_path / "s", volume)
    scout = bare(volume[0], ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=[0, 1, 0, 0, 0, -1], PixelSpacing=[1, 1])
    save(scout, tmp_path / "s" / "scout.dcm")
    assert [s.uid for s in series(tmp_path / "s")] == ["1.2.3.4", "1.2.3.4#2"]
    assert read(tmp_path / "s", series="1.2.3.4").values.shape == (1, 9, 11, 7)
    assert read(tmp_path / "s", series="1.2.3.4#2").values.shape == (1, 9, 11)


def test_other_files_are_left_out_and_counted(tmp_path, volume):
    write_series(tmp_path / "s", volume)
    (tmp_path / "s" / "notes.txt").write_text("hello")
    (tmp_path / "s" / "empty").touch()
    assert any("2 files in the folder are no DICOM images" in n for n in read(tmp_path / "s").notes)


def test_a_damaged_slice_is_never_left_out_in_silence(tmp_path, volume):
    write_series(tmp_path / "s", volume)
    last = sorted((tmp_path / "s").iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-40])
    with pytest.raises(BadFile, match="less than expected"):
        read(tmp_path / "s")
    last.write_bytes(last.read_bytes()[:150] + b"\xff" * 40)
    with pytest.raises(BadFile):
        read(tmp_path / "s")


def test_views_without_position_are_no_volume(tmp_path):
    for n in range(2):
        save(bare(np.full((4, 5), n, np.uint16), CR, "CR"), tmp_path / f"{n}")
    with pytest.raises(BadFile, match="2 CR images without a position"):
        read(tmp_path)


def test_one_slice_in_a_folder_is_flat(tmp_path, volume):
    write_series(tmp_path / "s", volume[:1])
    scan = read(tmp_path / "s")
    assert scan.values.shape == (1, 9, 11)
    assert torch.equal(scan.values, read(next((tmp_path / "s").iterdir())).values)


def test_the_hash_of_a_series_does_not_depend_on_names(tmp_path, volume):
    write_series(tmp_path / "s", volume)
    before = read(tmp_path / "s").facts["sha256"]
    for n, path in enumerate(sorted((tmp_path / "s").iterdir(), reverse=True)):
        path.rename(tmp_path / "s" / f"z{n}")
    assert read(tmp_path / "s").facts["sha256"] == before
