"""What makes a stack: several in one file, echoes and time points, tilted gantries, uneven gaps, and resampling when asked for."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from tests.io.dicoms import AXIAL, bare, enhanced, group, oblique, save, write_series

from pellucid.errors import BadFile
from pellucid.io import read, series

LPS = np.diag([-1.0, -1.0, 1.0])
ENHANCED_PET, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.2.1"
SPACING, ORIGIN = (2.5, 0.7, 0.9), (-31.0, 12.0, 55.0)


def field(lps: np.ndarray) -> np.ndarray:
    """Linear in the world: linear interpolation must reproduce it."""
    return 500 + lps @ np.array([3.0, -4.0, 5.0])


def field_series(folder, axes, offsets, shift=(0.0, 0.0, 0.0), slope=0.01, **elements):
    """Slices at the given mm along the normal, each moved by ``shift`` per mm, holding the field."""
    row, column = (np.array(a) for a in axes)
    normal = np.cross(row, column)
    folder.mkdir()
    for n, mm in enumerate(offsets):
        origin = np.array(ORIGIN) + mm * (normal + np.array(shift))
        i, j = np.mgrid[:16, :18]
        lps = origin + i[..., None] * SPACING[1] * column + j[..., None] * SPACING[2] * row
        stored = np.round(field(lps) / slope).astype(np.int32)
        place = {
            "ImagePositionPatient": [float(f"{v:.9f}") for v in origin],
            "ImageOrientationPatient": [float(f"{v:.9f}") for v in (*row, *column)],
        }
        ds = bare(
            stored.astype(np.uint16), PixelSpacing=[SPACING[1], SPACING[2]], RescaleSlope=slope, RescaleIntercept=0, **place, **elements
        )
        ds.BitsAllocated = ds.BitsStored = 32
        ds.HighBit, ds.PixelRepresentation, ds.PixelData = 31, 1, stored.astype("<i4").tobytes()
        save(ds, folder / f"{n}.dcm")


def check_field(scan, share):
    """Every voxel that is no background holds the field at its own place in the world."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in scan.grid.shape), indexing="ij"), -1)
    ras = index @ scan.grid.matrix[:3, :3].T + scan.grid.matrix[:3, 3]
    inside = np.ones(scan.grid.shape, bool) if scan.background is None else ~scan.background.numpy()
    assert inside.mean() > share
    assert np.abs(scan.values[0].numpy() - field(ras @ LPS))[inside].max() < 0.02
    turn = scan.grid.matrix[:3, :3] / np.array(scan.grid.spacing)
    assert np.allclose(turn.T @ turn, np.eye(3), atol=1e-5)


@pytest.mark.parametrize(("axes", "along"), [(AXIAL, 1), (AXIAL, 0), (oblique(), 1)])
@pytest.mark.parametrize("degrees", [15.0, -22.5])
def test_a_tilted_gantry_is_refused_and_straightened_on_request(tmp_path, axes, along, degrees):
    sideways = np.tan(np.radians(degrees)) * np.array(axes[along])
    field_series(tmp_path / "s", axes, 2.5 * np.arange(7), tuple(sideways))
    with pytest.raises(BadFile, match=rf"tilt {abs(degrees):.2f} degrees.*resample=True"):
        read(tmp_path / "s")
    scan = read(tmp_path / "s", resample=True)
    assert scan.grid.shape[2] == 7
    assert scan.grid.shape[1 - along] > (18, 16)[along]
    check_field(scan, 0.5)
    assert scan.facts["resampled_slices"] == 7
    assert "tilt" in scan.facts["resampled"]
    assert any("resampled linearly" in n for n in scan.notes)
    assert scan.values[0][scan.background].unique().numel() == 1


@pytest.mark.parametrize("axes", [AXIAL, oblique(33, -20)])
def test_uneven_gaps_are_refused_and_evened_on_request(tmp_path, axes):
    field_series(tmp_path / "s", axes, [0, 2.5, 4.4, 7.4, 10, 12.5])
    with pytest.raises(BadFile, match=r"uneven gaps: 1\.9 to 3 mm, median 2\.5 mm.*resample=True"):
        read(tmp_path / "s")
    scan = read(tmp_path / "s", resample=True)
    assert scan.background is None or not scan.background.any()
    assert scan.grid.spacing == pytest.approx((0.7, 0.9, 12.5 / 7), abs=1e-5)
    check_field(scan, 0.999)


def test_two_spacings_in_one_scan(tmp_path):
    field_series(tmp_path / "s", AXIAL, [0, 2, 4, 6, 10, 14, 18])  # thin at the base of the skull, thick above
    with pytest.raises(BadFile, match="3 missing slices"):
        read(tmp_path / "s")
    scan = read(tmp_path / "s", resample=True)
    assert scan.grid.shape == (16, 18, 10)
    check_field(scan, 0.999)


def test_slices_that_need_no_resampling_are_left_alone(tmp_path):
    field_series(tmp_path / "s", oblique(), 2.5 * np.arange(4))
    plain, asked = read(tmp_path / "s"), read(tmp_path / "s", resample=True)
    assert plain.fingerprint == asked.fingerprint
    assert "resampled" not in asked.facts


def test_padding_never_bleeds_into_resampled_values(tmp_path):
    field_series(tmp_path / "s", AXIAL, [0, 2.0, 5.0, 7.0], PixelPaddingValue=-32000)
    for path in (tmp_path / "s").iterdir():
        ds = pydicom.dcmread(path)
        stored = ds.pixel_array.copy()
        stored[:4] = -32000
        ds.PixelData = stored.astype("<i4").tobytes()
        ds.save_as(path)
    scan = read(tmp_path / "s", resample=True)
    assert scan.background[:4].all() and not scan.background[4:].any()
    check_field(scan, 0.7)


def two_stacks():
    volume = np.random.default_rng(3).integers(0, 900, (6, 5, 7)).astype(np.uint16)
    ds = enhanced(volume, AXIAL, (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), list(range(6)), [1.0, 1, 1, 2, 2, 2])
    for n, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        frame.FrameContentSequence = group(StackID="Doe" if n < 3 else "2", InStackPositionNumber=n % 3 + 1)
        if n >= 3:
            frame.PlaneOrientationSequence = group(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
            frame.PlanePositionSequence = group(ImagePositionPatient=[2.0 * n, 0, 0])
    return volume, ds


def test_stacks_of_one_file_are_listed_and_chosen(tmp_path):
    volume, ds = two_stacks()
    path = save(ds, tmp_path / "a.dcm")
    with pytest.raises(BadFile, match=r"2 stacks \(0: 3 slices; 1: 3 slices\)") as refused:
        read(path)
    assert "Doe" not in str(refused.value)
    assert [(s.uid, s.shape) for s in series(path)] == [("1.2.3.4", (5, 7, 3)), ("1.2.3.4#2", (5, 7, 3))]
    first, second = read(path, series="0"), read(tmp_path, series="1.2.3.4#2")
    assert np.array_equal(first.values[0].numpy(), volume[:3].transpose(1, 2, 0))
    assert np.array_equal(
        second.values[0].numpy(), 2 * volume[3:].transpose(1, 2, 0)[..., ::-1]
    )  # sagittal: the normal points to the right
    assert second.grid.spacing == pytest.approx((1, 1, 2))


@pytest.mark.parametrize("how", ["echo", "index"])
def test_echoes_or_time_points_of_one_file_are_told_apart(tmp_path, how):
    volume = np.random.default_rng(3).integers(0, 900, (6, 5, 7)).astype(np.uint16)
    ds = enhanced(volume, AXIAL, (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), list(range(6)), [1.0] * 6)
    for n, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 3.0 * (n // 2)]
        if how == "echo":
            frame.MREchoSequence = group(EffectiveEchoTime=90.0 - 80 * (n % 2))
        else:
            frame.FrameContentSequence = group(DimensionIndexValues=[1 + n // 2, 2 - n % 2])
    if how == "index":
        pointers = [Dataset(), Dataset()]
        pointers[0].DimensionIndexPointer, pointers[1].DimensionIndexPointer = 0x00200032, 0x00189087
        ds.DimensionIndexSequence = Sequence(pointers)
    path = save(ds, tmp_path / "a")
    assert [s.apart for s in series(path)] == (
        ["EffectiveEchoTime 10", "EffectiveEchoTime 90"] if how == "echo" else ["index of DiffusionBValue 1", "index of DiffusionBValue 2"]
    )
    assert np.array_equal(read(path, series="0").values[0].numpy(), volume[1::2].transpose(1, 2, 0))
    assert np.array_equal(read(path, series="1").values[0].numpy(), volume[::2].transpose(1, 2, 0))


def test_echoes_of_a_classic_series_are_told_apart(tmp_path):
    volume = np.random.default_rng(3).integers(0, 900, (2, 4, 5, 6)).astype(np.int16)
    for n, echo in enumerate((80.0, 20.0)):
        write_series(tmp_path / str(n), volume[n], oblique(), EchoTime=echo)
    assert [s.apart for s in series(tmp_path)] == ["EchoTime 20", "EchoTime 80"]
    with pytest.raises(BadFile, match=r"2 series .*\(EchoTime 20\)"):
        read(tmp_path)
    assert np.array_equal(read(tmp_path, series="0").values[0].numpy(), volume[1].transpose(1, 2, 0) - 1024.0)


def test_several_multiframe_files_of_a_series_are_stacks_of_their_own(tmp_path):
    for n in range(2):
        volume = np.full((3, 4, 5), n, np.uint16) + np.arange(5, dtype=np.uint16)
        save(enhanced(volume, AXIAL, (3.0, 1, 1), (0, 0, 0), [0, 1, 2], [1.0] * 3), tmp_path / f"{n}.dcm")
    assert [s.slices for s in series(tmp_path)] == [3, 3]
    assert read(tmp_path, series="1").values[0, 0, 0, 0] == 1


def test_enhanced_ct_in_hounsfield_units_with_padding(tmp_path):
    volume = np.random.default_rng(0).integers(0, 900, (3, 6, 7)).astype(np.int16)
    volume[:, 0] = -2000
    ds = enhanced(volume, oblique(), (3.0, 0.5, 0.8), (4.0, -9.0, 20.0), [2, 0, 1], [1.0] * 3)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ENHANCED_CT
    ds.Modality, ds.PixelPaddingValue = "CT", -2000
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.PixelValueTransformationSequence = group(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    scan = read(save(ds, tmp_path / "a"))
    assert scan.quantity == "HU"
    assert np.array_equal(scan.values[0].numpy(), volume.transpose(1, 2, 0) - 1024.0)
    assert scan.background.sum() == 3 * 7 and scan.background[0].all()


def test_enhanced_pet_becomes_suv(tmp_path):
    volume = np.full((2, 3, 4), 8000, np.uint16)
    ds = enhanced(volume, AXIAL, (3.0, 1, 1), (0, 0, 0), [1, 0], [0.5, 0.25])
    ds.SOPClassUID, ds.Modality, ds.PatientWeight = ENHANCED_PET, "PT", 74.0
    ds.AttenuationCorrected = ds.DecayCorrected = "YES"
    ds.DecayCorrectionDateTime = "20200102110000"
    drug = {"RadionuclideTotalDose": 3.7e8, "RadionuclideHalfLife": 6586.2, "RadiopharmaceuticalStartDateTime": "20200102100000.00"}
    ds.RadiopharmaceuticalInformationSequence = group(**drug)
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.PixelValueTransformationSequence[0].RescaleType = "BQML"
    scan = read(save(ds, tmp_path / "a"))
    dose = 3.7e8 * 0.5 ** (3600 / 6586.2)
    assert scan.quantity == "SUV"
    assert scan.values[0, 0, 0].tolist() == pytest.approx([4000 * 74000 / dose, 2000 * 74000 / dose], rel=1e-6)
    ds.DecayCorrectionDateTime = "20200102110000+0200"  # one clock with its offset, one without
    assert read(save(ds, tmp_path / "b")).quantity == "BQML"


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_color_in_either_layout(tmp_path, planar, photometric):
    color = np.zeros((4, 5, 3), np.uint8)
    color[:, :2], color[:, 2:4], color[:, 4] = (255, 0, 0), (0, 0, 255), (10, 200, 30)
    stored = color if photometric == "RGB" else pydicom.pixels.convert_color_space(color, "RGB", "YBR_FULL")
    ds = bare(np.zeros((4, 5), np.uint16), "1.2.840.10008.5.1.4.1.1.7", "OT", SamplesPerPixel=3, PhotometricInterpretation=photometric)
    ds.PlanarConfiguration, ds.BitsAllocated, ds.BitsStored, ds.HighBit = planar, 8, 8, 7
    ds.PixelData = (np.moveaxis(stored, -1, 0) if planar else stored).tobytes()
    scan = read(save(ds, tmp_path / "a"))
    assert scan.channels == ("red", "green", "blue")
    assert np.abs(scan.values.numpy() - np.moveaxis(color, -1, 0)).max() <= (0 if photometric == "RGB" else 2)


def test_a_color_table_with_a_first_entry(tmp_path):
    ds = bare(np.array([[10, 11], [12, 13]], np.uint16), "1.2.840.10008.5.1.4.1.1.7", "OT", PhotometricInterpretation="PALETTE COLOR")
    for n, name in enumerate(("Red", "Green", "Blue")):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [3, 11, 16])
        setattr(ds, f"{name}PaletteColorLookupTableData", (np.array([1, 2, 3], "<u2") * (n + 1) * 1000).tobytes())
    scan = read(save(ds, tmp_path / "a"))
    assert scan.values[:, 0, 0].tolist() == [1000, 2000, 3000]  # below the first entry: the first
    assert scan.values[:, 1, 1].tolist() == [3000, 6000, 9000]


def test_gzipped_slices_in_a_folder(tmp_path):
    import gzip

    volume = np.random.default_rng(1).integers(0, 3000, (3, 4, 5)).astype(np.int16)
    write_series(tmp_path / "s", volume)
    plain = read(tmp_path / "s")
    for path in list((tmp_path / "s").iterdir()):
        path.with_suffix(".dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert read(tmp_path / "s").fingerprint == plain.fingerprint
