"""Single DICOM files: values, geometry, color, padding, privacy."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file
from tests.io.dicoms import AXIAL, CR, PT, SECRET, bare, enhanced, group, oblique, save

from pellucid.errors import BadFile
from pellucid.image import Image
from pellucid.io import read

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def shipped(name: str) -> Path:
    return Path(str(get_testdata_file(name, download=False)))


def test_ct_slice_in_hounsfield_units_where_the_header_says():
    scan = read(shipped("CT_small.dcm"))
    ds = pydicom.dcmread(shipped("CT_small.dcm"))
    assert scan.quantity == "HU"
    assert scan.values.shape == (1, 128, 128)
    assert np.array_equal(scan.values[0].numpy(), ds.pixel_array * np.float32(ds.RescaleSlope) + np.float32(ds.RescaleIntercept))
    assert scan.grid.unit == "mm"
    assert scan.grid.orientation == "PL"
    at = RAS[:3, :3] @ np.array(ds.ImagePositionPatient, float)
    assert np.allclose(scan.grid.world((0, 0)), at)
    far = at + RAS[:3, :3] @ (10 * 0.661468 * np.array([1.0, 0, 0]))  # ten columns on: to the patient's left
    assert np.allclose(scan.grid.world((0, 10)), far)
    assert scan.facts["sided"] is True


@pytest.mark.parametrize("name", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"])
def test_every_transfer_syntax_gives_the_same_numbers(name):
    plain, coded = read(shipped("MR_small.dcm")), read(shipped(f"MR_small_{name}.dcm"))
    assert torch.equal(plain.values, coded.values)
    assert plain.grid == coded.grid


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("693_J2KI.dcm", (1, 512, 512)),
        ("JPEG2000.dcm", (1, 1024, 256)),
        ("JPEGLSNearLossless_16.dcm", (1, 50, 10)),
        ("SC_rgb_jpeg_dcmtk.dcm", (3, 100, 100)),
        ("SC_rgb_rle_16bit.dcm", (3, 100, 100)),
        ("SC_ybr_full_422_uncompressed.dcm", (3, 100, 100)),
        ("SC_rgb_gdcm_KY.dcm", (3, 100, 100)),
        ("examples_palette.dcm", (3, 350, 800)),
        ("examples_ybr_color.dcm", (3, 240, 320, 30)),
        ("image_dfl.dcm", (1, 512, 512)),
        ("rtdose_rle.dcm", (1, 10, 10, 15)),
    ],
)
def test_codecs_and_color_models(name, shape):
    scan = read(shipped(name))
    assert tuple(scan.values.shape) == shape
    assert scan.values.std() > 0


def test_color_is_rgb_whatever_the_file_held():
    # one picture of colored stripes as RGB, YBR and JPEG: the stripes keep their colors
    rgb, ybr = read(shipped("SC_rgb_jpeg_dcmtk.dcm")), read(shipped("SC_rgb_rle.dcm"))
    assert rgb.channels == ("red", "green", "blue")
    assert (rgb.values - ybr.values).abs().mean() < 3
    assert ybr.values[:, 5, 50].tolist() == [255, 0, 0]


def test_a_color_table_is_applied():
    scan = read(shipped("examples_palette.dcm"))
    ds = pydicom.dcmread(shipped("examples_palette.dcm"))
    stored = ds.pixel_array
    table = np.frombuffer(ds.RedPaletteColorLookupTableData, "<u2")
    assert np.array_equal(scan.values[0].numpy(), table[stored].astype(np.float32))
    assert any("ultrasound with 2" in n for n in scan.notes)


def test_cine_frames_are_time_not_space():
    scan = read(shipped("examples_ybr_color.dcm"))
    assert scan.grid.unit == "px"
    assert any("frame number" in n for n in scan.notes)


def test_dose_grid_lies_at_its_offsets():
    ds = pydicom.dcmread(shipped("rtdose.dcm"))
    scan = read(shipped("rtdose.dcm"))
    offsets = [float(v) for v in ds.GridFrameOffsetVector]
    assert scan.grid.spacing[2] == pytest.approx(offsets[1] - offsets[0])
    want = ds.pixel_array[3, 4, 5] * float(ds.DoseGridScaling)
    assert scan.values[0, 4, 5, 3] == pytest.approx(want)


def test_monochrome1_is_told_and_not_inverted(tmp_path):
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8)
    scan = read(save(bare(pixels, CR, "CR", PhotometricInterpretation="MONOCHROME1"), tmp_path / "a"))
    assert np.array_equal(scan.values[0].numpy(), pixels)
    assert scan.facts["photometric"] == "MONOCHROME1"
    assert any("not inverted" in n for n in scan.notes)


def test_radiograph_spacing_is_that_of_the_detector_if_nothing_better_is_known(tmp_path):
    pixels = np.zeros((6, 8), np.uint16) + np.arange(8, dtype=np.uint16)
    elements = {"ImagerPixelSpacing": [0.2, 0.3], "FrameOfReferenceUID": None}
    scan = read(save(bare(pixels, CR, "CR", **elements), tmp_path / "a"))
    assert scan.grid.spacing == (0.2, 0.3)
    assert any("detector" in n for n in scan.notes)
    assert scan.facts["sided"] is False
    both = read(save(bare(pixels, CR, "CR", PixelSpacing=[0.1, 0.15], **elements), tmp_path / "b"))
    assert both.grid.spacing == (0.1, 0.15)
    assert not any("detector" in n for n in both.notes)
    neither = read(save(bare(pixels, CR, "CR"), tmp_path / "c"))
    assert neither.grid.unit == "px"


def test_patient_orientation_of_a_radiograph_is_in_the_grid(tmp_path):
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8)
    scan = read(save(bare(pixels, CR, "CR", PixelSpacing=[0.1, 0.2], PatientOrientation=["L", "F"]), tmp_path / "a"))
    assert scan.grid.orientation == "IL"  # rows go to the feet, columns to the patient's left
    assert scan.grid.spacing == pytest.approx((0.1, 0.2))
    assert scan.facts["sided"] is True


# toward what each letter points, in RAS: right, front and top of the patient count up
TOWARD = {"L": (-1, 0, 0), "R": (1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
NAMED = {"L": "L", "R": "R", "A": "A", "P": "P", "H": "S", "F": "I"}


@pytest.mark.parametrize(("across", "down"), [(a, d) for a in TOWARD for d in TOWARD if not np.any(np.multiply(TOWARD[a], TOWARD[d]))])
def test_every_letter_of_a_radiograph_points_where_it_says(tmp_path, across, down):
    """The first word of PatientOrientation is where a row goes, left to right, the second where a column goes, top to bottom (PS3.3 C.7.6.1.1.1)."""
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8)
    scan = read(save(bare(pixels, CR, "CR", PixelSpacing=[0.1, 0.2], PatientOrientation=[across, down]), tmp_path / "a"))
    first, right, below = (np.array(scan.grid.world(i)) for i in ((0, 0), (0, 1), (1, 0)))
    assert np.allclose(right - first, 0.2 * np.array(TOWARD[across]))
    assert np.allclose(below - first, 0.1 * np.array(TOWARD[down]))
    assert scan.grid.orientation == NAMED[down] + NAMED[across]


def test_padding_becomes_background(tmp_path):
    pixels = np.full((5, 6), 100, np.int16)
    pixels[0], pixels[1] = -2000, -1999
    scan = read(save(bare(pixels, PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=-24), tmp_path / "a"))
    assert scan.background is not None
    assert scan.background.sum() == 6
    assert bool(scan.background[0].all())
    wide = bare(pixels, RescaleSlope=1, RescaleIntercept=0, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1999)
    assert read(save(wide, tmp_path / "b")).background.sum() == 12
    assert read(save(bare(np.abs(pixels).astype(np.int16), PixelPaddingValue=-2000), tmp_path / "c")).background is None


def test_ct_without_rescale_is_not_called_hounsfield(tmp_path):
    scan = read(save(bare(np.full((4, 4), 7, np.int16)), tmp_path / "a"))
    assert scan.quantity == "a.u."
    assert any("Hounsfield" in n for n in scan.notes)


def test_window_is_kept_and_not_applied(tmp_path):
    pixels = np.arange(16, dtype=np.int16).reshape(4, 4) * 100
    scan = read(save(bare(pixels, RescaleSlope=2, RescaleIntercept=-5, WindowCenter=[40, 300], WindowWidth=[400, 1500]), tmp_path / "a"))
    assert scan.facts["window"] == (40.0, 400.0)
    assert np.array_equal(scan.values[0].numpy(), pixels * 2.0 - 5)


def test_modality_lut_is_applied(tmp_path):
    lut = group(LUTDescriptor=[4, 0, 16], ModalityLUTType="US", LUTData=np.array([10, 20, 40, 80], "<u2").tobytes())
    pixels = np.array([[0, 1], [2, 3]], np.uint16)
    scan = read(save(bare(pixels, CR, "CR", ModalityLUTSequence=lut), tmp_path / "a"))
    assert scan.values[0].tolist() == [[10, 20], [40, 80]]


def pet(**changes: object) -> object:
    drug = group(
        RadionuclideTotalDose=3.7e8, RadionuclideHalfLife=6586.2, RadiopharmaceuticalStartTime=changes.pop("injected", "100000.00")
    )
    elements = {
        "RadiopharmaceuticalInformationSequence": drug,
        "PatientWeight": 74.0,
        "Units": "BQML",
        "DecayCorrection": "START",
        "CorrectedImage": ["ATTN", "DECY"],
        "SeriesDate": "20200102",
        "SeriesTime": "110000",
        "AcquisitionDate": "20200102",
        "AcquisitionTime": "110130.5",
        "RescaleSlope": 0.5,
        "RescaleIntercept": 0,
    }
    return bare(np.full((3, 3), 8000, np.int16), PT, "PT", **{**elements, **changes})


def test_pet_becomes_suv_with_the_dose_decayed_to_the_scan(tmp_path):
    scan = read(save(pet(), tmp_path / "a"))
    dose = 3.7e8 * 0.5 ** (3600 / 6586.2)
    assert scan.quantity == "SUV"
    assert scan.values[0, 0, 0].item() == pytest.approx(8000 * 0.5 * 74000 / dose, rel=1e-6)
    late = read(save(pet(injected="233000", SeriesTime="003000", AcquisitionTime="003000"), tmp_path / "b"))
    assert torch.allclose(late.values, scan.values)  # past midnight
    done = read(save(pet(DecayCorrection="ADMIN"), tmp_path / "c"))
    assert done.values[0, 0, 0].item() == pytest.approx(8000 * 0.5 * 74000 / 3.7e8, rel=1e-6)


@pytest.mark.parametrize("changes", [{"PatientWeight": None}, {"DecayCorrection": "NONE"}, {"SeriesTime": "120000"}, {"Units": "CNTS"}])
def test_pet_stays_in_its_units_where_suv_cannot_be_known(tmp_path, changes):
    scan = read(save(pet(**changes), tmp_path / "a"))
    assert scan.quantity == changes.get("Units", "BQML")
    assert any("SUV cannot be computed" in n for n in scan.notes)
    assert scan.values[0, 0, 0] == 4000


def test_enhanced_multiframe_uses_each_frames_own_place_and_rescale(tmp_path):
    volume = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.uint16)
    axes, spacing, origin, slopes = oblique(), (3.0, 0.5, 0.8), (4.0, -9.0, 20.0), [1.0, 2.0, 0.5, 1.5, 3.0]
    scan = read(save(enhanced(volume, axes, spacing, origin, [3, 0, 4, 1, 2], slopes), tmp_path / "a"))
    want = (volume * np.array(slopes)[:, None, None]).transpose(1, 2, 0)
    assert np.allclose(scan.values[0].numpy(), want)
    assert scan.grid.spacing == pytest.approx((0.5, 0.8, 3.0), abs=1e-5)
    row, column = (np.array(a) for a in axes)
    lps = np.array(origin) + 2 * 0.5 * column + 3 * 0.8 * row + 4 * 3.0 * np.cross(row, column)
    assert np.allclose(scan.grid.world((2, 3, 4)), RAS[:3, :3] @ lps, atol=1e-5)
    assert scan.facts["window"] == (100.0, 50.0)


def test_enhanced_time_points_at_one_place_are_refused_by_name(tmp_path):
    ds = enhanced(np.arange(64, dtype=np.uint16).reshape(4, 4, 4), AXIAL, (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), [0, 1, 2, 3], [1.0] * 4)
    for n, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 3.0 * (n % 2)]
        frame.MREchoSequence = group(EchoTime=10.0 * (n // 2))
    with pytest.raises(BadFile, match=r"2 stacks \(0: 2 slices \(EchoTime 0\); 1: 2 slices \(EchoTime 10\)\)"):
        read(save(ds, tmp_path / "a"))


def test_float_pixels(tmp_path):
    values = np.array([[-1.5, 2.25], [0.0, 1e-6]], np.float32)
    ds = bare(
        np.zeros((2, 2), np.uint16),
        "1.2.840.10008.5.1.4.1.1.30",
        "MR",
        BitsAllocated=32,
        BitsStored=None,
        HighBit=None,
        PixelRepresentation=None,
    )
    del ds.PixelData
    ds.FloatPixelData = values.tobytes()
    assert np.array_equal(read(save(ds, tmp_path / "a")).values[0].numpy(), values)


def test_no_identifier_leaves_the_file_unless_asked(tmp_path, caplog, capfd):
    ds = bare(np.zeros((4, 4), np.int16) + np.arange(4, dtype=np.int16), PatientSex="F", AccessionNumber="ACC77", PatientAge="044Y")
    path = save(ds, tmp_path / "a")
    with caplog.at_level(logging.DEBUG):
        scan = read(path)
    seen = repr(scan) + repr(dict(scan.facts)) + repr(scan.notes) + repr(scan.grid) + caplog.text + "".join(capfd.readouterr())
    for secret in ("Doe", "4711", "19610203", "20200102", "Secret", "1.2.3", "ACC77", "044Y"):
        assert secret not in seen
    asked = read(path, keep_phi=True).facts["phi"]
    assert asked["PatientName"] == SECRET
    assert asked["SeriesInstanceUID"] == "1.2.3.4"


def test_neither_errors_nor_logs_quote_the_header(tmp_path, caplog, capfd):
    ds = bare(np.zeros((4, 4), np.int16) + np.arange(4, dtype=np.int16), PixelSpacing=[1, 1], WindowCenter=40, WindowWidth=400)
    data = save(ds, tmp_path / "a").read_bytes()
    for n, (good, bad) in enumerate([(b"1\\1 ", b"Doe^"), (b"400 ", b"Doe^"), (b"ISO", b"Doe"), (b"19610203", b"3.2.1961")]):
        broken = tmp_path / f"{n}"
        broken.write_bytes(data.replace(good, bad))
        said = ""
        try:
            read(broken, keep_phi=True)
        except BadFile as error:
            said = "".join(traceback.format_exception(error))
        seen = said + caplog.text + "".join(capfd.readouterr())
        assert "Doe" not in seen
        assert "1961" not in seen


def test_wrong_kinds_are_refused_with_a_way_out():
    for name, match in [
        ("rtplan.dcm", "without pixels"),
        ("MR_truncated.dcm", "8130 vs 8192"),
        ("SC_rgb_jpeg_gdcm.dcm", r"JPEG Lossless.*pip install pellucid\[dicom\]|gdcm"),
    ]:
        with pytest.raises(BadFile, match=match):
            read(shipped(name))


def test_a_gzipped_file_is_read_by_content():
    assert isinstance(read(shipped("zipMR.gz")), Image)
