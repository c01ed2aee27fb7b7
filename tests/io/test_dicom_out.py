"""DICOM objects derived from maps: valid, in the right place for independent readers, and silent about the patient."""

from __future__ import annotations

import hashlib
import re

import highdicom
import numpy as np
import pydicom
import pytest
import torch
from tests.io.derived import HIGH, LOW, ORIENTATIONS, PEAK, PIT, as_slicer, errors_in, made_of, place, strongest, tool
from tests.io.dicoms import CR, CT, SECRET, bare, enhanced, oblique, save, write_series

import pellucid as pl
from pellucid.errors import BadFile, BadImage, BadParameter
from pellucid.explanation import Evidence
from pellucid.io.caption import ALARM
from pellucid.io.dicom import filing, secondary_capture
from pellucid.io.dicom.secondary_capture import _lines
from pellucid.method import Values

VOLUME = (np.random.default_rng(0).normal(0, 50, (12, 40, 48)) + 1000).astype(np.int16)
NEAR = 1e-3  # mm


@pytest.fixture(scope="module", params=list(ORIENTATIONS))
def filed(request, tmp_path_factory):
    """A series in one orientation, the objects of a map of it, and the true affine (slice, row, column) -> LPS mm."""
    home = tmp_path_factory.mktemp(request.param)
    affine = write_series(home / "scan", VOLUME, ORIENTATIONS[request.param], modality="MR", BodyPartExamined="BRAIN")
    why = made_of(pl.read(home / "scan"))
    return why, why.dicom(home / "out", source=home / "scan"), affine, home


def test_dicom3tools_finds_nothing_wrong(filed):
    _, out, _, _ = filed
    assert [f.name for f in out.files] == ["map.dcm", "segmentation.dcm", *(f"capture-{k:04d}.dcm" for k in range(4, 9)), "report.dcm"]
    assert {f.name: errors_in(f) for f in out.files} == {f.name: [] for f in out.files}


def test_the_objects_agree_with_each_other(filed):
    _, out, _, _ = filed
    import subprocess

    told = subprocess.run([tool("dcentvfy"), *map(str, out.files)], capture_output=True, text=True, check=False)
    assert not [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]


def test_highdicom_reads_the_exact_map_in_its_place(filed):
    why, out, affine, _ = filed
    image = highdicom.imread(out.folder / "map.dcm")
    volume = image.get_volume(apply_real_world_transform=True)
    assert np.abs((volume.affine @ [*strongest(volume.array), 1])[:3] - (affine @ [*PEAK, 1])[:3]).max() < NEAR
    assert np.abs((volume.affine @ [*strongest(-volume.array), 1])[:3] - (affine @ [*PIT, 1])[:3]).max() < NEAR
    ds = pydicom.dcmread(out.folder / "map.dcm")
    stored, score = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert (stored.RealWorldValueSlope, stored.RealWorldValueIntercept) == (1.0, 0.0)
    pixels = np.frombuffer(ds.FloatPixelData, "<f4").reshape(VOLUME.shape) * np.float32(score.RealWorldValueSlope)
    assert np.array_equal(pixels, why.values[0].movedim(2, 0).numpy())  # frames ascend along the normal, and no bit is lost
    assert 0.5 < np.abs(volume.array).max() <= 1


def test_frames_ascend_for_readers_that_ignore_where_they_lie(filed):
    _, out, _, _ = filed
    ds = pydicom.dcmread(out.folder / "map.dcm")
    turn = np.array(ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient, float)
    normal = np.cross(turn[:3], turn[3:])
    depth = [normal @ np.array(f.PlanePositionSequence[0].ImagePositionPatient, float) for f in ds.PerFrameFunctionalGroupsSequence]
    assert np.allclose(np.diff(depth), 2.5)


def test_the_reader_of_slicer_finds_peak_pit_and_segments_in_place(filed, tmp_path):
    _, out, affine, _ = filed
    truth = {True: (affine @ [*PEAK, 1])[:3], False: (affine @ [*PIT, 1])[:3]}
    volume = as_slicer(out.folder / "map.dcm", tmp_path / "map")["pmap"]
    values = np.asarray(volume.dataobj)
    assert np.abs(place(volume, strongest(values)) - truth[True]).max() < NEAR
    assert np.abs(place(volume, strongest(-values)) - truth[False]).max() < NEAR
    segments = as_slicer(out.folder / "segmentation.dcm", tmp_path / "segments")
    for number, sign in (("1", True), ("2", False)):
        inside = np.asarray(segments[number].dataobj)
        assert np.count_nonzero(inside) == 1
        assert np.abs(place(segments[number], strongest(inside)) - truth[sign]).max() < NEAR


def test_a_capture_lies_where_its_slice_lies(filed, tmp_path):
    why, _, affine, home = filed
    clean = made_of(why.scan, noise=0.0)
    clean.dicom(tmp_path / "out", source=home / "scan", kinds=("capture",))
    ds = pydicom.dcmread(tmp_path / "out/capture-0004.dcm")
    assert ds.PhotometricInterpretation == "RGB"
    pixels = ds.pixel_array[60:-110, 60:-130].astype(int)  # neither words nor bar
    warm = pixels[..., 0] - pixels[..., 2] > 40
    rows, columns = (np.average(np.indices(warm.shape)[a], weights=warm) + 60 for a in (0, 1))
    across, down = np.array(ds.ImageOrientationPatient[:3], float), np.array(ds.ImageOrientationPatient[3:], float)
    at = np.array(ds.ImagePositionPatient, float) + across * columns * ds.PixelSpacing[1] + down * rows * ds.PixelSpacing[0]
    assert np.abs(at - (affine @ [*PEAK, 1])[:3]).max() < 0.06  # a tenth of a sample
    assert ds.SourceImageSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.4"


def test_nothing_in_them_names_the_patient_or_the_day(filed):
    _, out, _, home = filed
    uids = {str(pydicom.dcmread(f).SOPInstanceUID) for f in (home / "scan").iterdir()}
    words = [SECRET, "ID-4711", "19610203", "20200102", "SecretHospital", "SecretDescription", "1.2.3", "2026", *uids]
    for f in out.files:
        ds = pydicom.dcmread(f)
        assert (ds.PatientIdentityRemoved, ds.StudyDate, ds.PatientBirthDate) == ("YES", "", "")
        told = " ".join(str(e.value) for e in ds.iterall() if e.VR not in ("OW", "OB", "OF", "SQ", "DS", "FD"))
        assert not [w for w in words if re.search(rf"(?<![0-9.]){re.escape(w)}(?![0-9])", told)], f.name
    assert "de-identified" in out.notes[0]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    home = tmp_path_factory.mktemp("plain")
    write_series(home / "scan", VOLUME, oblique(), modality="MR", BodyPartExamined="BRAIN")
    return home, made_of(pl.read(home / "scan"))


def test_the_same_explanation_gives_the_same_bytes_and_another_one_other_uids(plain, tmp_path):
    home, why = plain
    out = why.dicom(tmp_path / "out", source=home / "scan")
    again = why.dicom(tmp_path / "again", source=home / "scan")
    assert {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in again.files} == {
        f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in out.files
    }
    other = why.dicom(tmp_path / "again", source=home / "scan", threshold=0.6, kinds=("map",))
    assert [f.name for f in (tmp_path / "again").iterdir()] == ["map.dcm"]
    a, b = (pydicom.dcmread(f.files[0]) for f in (out, other))
    assert a.SOPInstanceUID != b.SOPInstanceUID and a.StudyInstanceUID == b.StudyInstanceUID


def test_with_phi_the_objects_are_filed_in_the_patients_study(plain, tmp_path):
    home, why = plain
    out = why.dicom(tmp_path / "out", source=home / "scan", keep_phi=True)
    source = {str(pydicom.dcmread(f).SOPInstanceUID) for f in (home / "scan").iterdir()}
    for f in out.files:
        ds = pydicom.dcmread(f)
        assert (str(ds.PatientName), ds.PatientID, ds.PatientBirthDate, ds.StudyInstanceUID) == (SECRET, "ID-4711", "19610203", "1.2.3")
        assert ds.SeriesInstanceUID.startswith("2.25.") and "PatientIdentityRemoved" not in ds
        assert ds.get("FrameOfReferenceUID", "1.2.3.9") == "1.2.3.9"
        assert errors_in(f) == []
        assert (ds.get("ContentDate"), ds.InstanceCreationTime) == ("20261121", "183627")
    pm = pydicom.dcmread(tmp_path / "out/map.dcm")
    named = {str(i.ReferencedSOPInstanceUID) for i in pm.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert named == source
    assert "Secret" not in " ".join(map(str, out.notes))


def test_what_the_objects_say(plain, tmp_path):
    home, why = plain
    why.dicom(tmp_path / "out", source=home / "scan")
    pm, seg, sr = (pydicom.dcmread(tmp_path / f"out/{n}.dcm") for n in ("map", "segmentation", "report"))
    for ds in (pm, seg, sr, pydicom.dcmread(tmp_path / "out/capture-0004.dcm")):
        assert ds.SeriesDescription.startswith("AI EXPLANATION - NOT FOR DIAGNOSIS (questionable): in")
    assert pm.ContentQualification == "RESEARCH" and pm.BitsAllocated == 32 and "FloatPixelData" in pm
    quantity = pm.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0].QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert quantity.CodingSchemeDesignator == "99PELLUCID" and "integrated_gradients" in quantity.CodeMeaning
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["for Ödem (questionable)", "against Ödem (questionable)"]
    algorithm = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert "0.5 of the largest |value|" in algorithm.AlgorithmParameters
    orange, blue = (s.RecommendedDisplayCIELabValue for s in seg.SegmentSequence)
    assert orange[2] > blue[2]
    assert (sr.CompletionFlag, sr.VerificationFlag) == ("COMPLETE", "UNVERIFIED")


@pytest.mark.parametrize(("output", "said"), [("regression", "output 0"), ("undeclared", "its number")])
def test_no_object_calls_a_measured_value_a_logit(plain, tmp_path, output, said):
    home, why = plain
    measured = made_of(why.scan, target="logit(0)", output=output, classes=())
    measured.dicom(tmp_path / "out", source=home / "scan", kinds=("segmentation", "capture"))
    seg = pydicom.dcmread(tmp_path / "out/segmentation.dcm")
    assert seg.SegmentSequence[0].SegmentLabel == f"for {said} (questionable)"
    assert all("logit" not in pydicom.dcmread(f).SeriesDescription for f in (tmp_path / "out").glob("*.dcm"))


@pytest.mark.parametrize("values", [*(v.value for v in Values), ""])
def test_for_and_against_are_words_of_methods_that_say_so(plain, tmp_path, monkeypatch, values):
    home, why = plain
    lines = []
    monkeypatch.setattr(secondary_capture, "_lines", lambda *given: lines.extend(said := _lines(*given)) or said)
    made_of(why.scan, values=values).dicom(tmp_path / "out", source=home / "scan", kinds=("segmentation", "capture", "report"))
    seg, sr = (pydicom.dcmread(tmp_path / f"out/{n}.dcm") for n in ("segmentation", "report"))
    told = " ".join([*lines, str(seg.SegmentSequence), str(sr.ContentSequence)])
    signed = values in (Values.CONTRIBUTIONS.value, Values.FEATURES.value)
    words = ["for Ödem", "against Ödem"] if signed else ["above zero Ödem", "below zero Ödem"]
    assert [s.SegmentLabel for s in seg.SegmentSequence] == [f"{w} (questionable)" for w in words]
    assert ("Orange for, blue against: " in told, "EVIDENCE_FOR" in told) == (signed, signed)
    assert ("Orange above zero, blue below: " in told, "ABOVE_ZERO" in told) == (not signed, not signed)
    assert f": {values or 'not declared'}" in told


@pytest.mark.parametrize("verdict", ["supported", "questionable", "not supported", "void", None])
def test_every_object_says_in_public_what_was_checked(plain, verdict, tmp_path):
    home, why = plain
    long = made_of(why.scan, target="logit('" + "a rather long name of a disease " * 3 + "')")
    for n, each in enumerate((why, long)):
        out = each.with_evidence(Evidence("quick", (), verdict, ())).dicom(tmp_path / str(n), source=home / "scan")
        word = verdict or "not examined"
        for path in out.files:
            ds = pydicom.dcmread(path)
            assert f"({word})" in ds.SeriesDescription
            assert f"({word})" not in ds.SeriesDescription.replace(f"({word})", "", 1)
            public = [ds.get("ContentDescription", ""), ds.get("ImageComments", "")]
            assert ds.Modality == "SR" or any(str(p).startswith(f"{word}: ") for p in public)
            for segment in ds.get("SegmentSequence", []):
                assert segment.SegmentLabel.endswith(f" ({word})") and len(segment.SegmentLabel.encode()) <= 64
        pixels = pydicom.dcmread(next(f for f in out.files if "capture" in f.name)).pixel_array
        assert ((pixels == ALARM).all(-1).sum() > 30) == (verdict in ("not supported", "void"))


def test_the_report_holds_verdict_numbers_and_sizes(plain, tmp_path):
    home, why = plain
    why.dicom(tmp_path / "out", source=home / "scan")
    report = highdicom.sr.srread(tmp_path / "out/report.dcm").content
    groups = report.get_volumetric_roi_measurement_groups()
    volume = 2.5 * 0.7 * 0.9
    for group, peak in zip(groups, (HIGH, LOW), strict=True):
        numbers = {m.name.meaning: m.value for m in group.get_measurements()}
        assert numbers["Volume"] == pytest.approx(volume, abs=1e-6)
        assert next(v for n, v in numbers.items() if n.startswith("Largest")) == pytest.approx(peak)
    assert groups[0].reference_type == highdicom.sr.CodedConcept.from_code(pydicom.sr.codedict.codes.DCM.ReferencedSegment)
    ds = pydicom.dcmread(tmp_path / "out/report.dcm")
    text = " ".join(str(e.value) for e in ds.iterall() if e.VR in ("UT", "LO") and not e.tag.is_private)
    for words in ("questionable", "It falls faster than chance.", "A caveat.", "deletion (share of the score's range; pass)"):
        assert words in text
    assert "insertion" not in text  # a void number is no number
    import subprocess

    shown = subprocess.run([tool("dsr2html"), str(tmp_path / "out/report.dcm")], capture_output=True, text=True, check=True).stdout
    assert "questionable" in shown and "mm3" in shown


def test_a_map_of_a_turned_or_coarser_image_comes_back_to_the_slices(plain, tmp_path):
    home, why = plain
    turned = why.scan.permute((2, 0, 1), (True, False, True))
    moved = made_of(turned, {tuple(int(i) for i in np.unravel_index(int(_moved(why, turned).argmax()), turned.grid.shape)): HIGH})
    moved.dicom(tmp_path / "out", source=home / "scan", kinds=("map",))
    got = highdicom.imread(tmp_path / "out/map.dcm").get_volume().array
    direct = highdicom.imread(why.dicom(tmp_path / "b", source=home / "scan", kinds=("map",)).files[0]).get_volume().array
    assert strongest(got) == strongest(direct)


def _moved(why, turned):
    return why.on(turned.grid).values[0]


def test_a_radiograph_goes_out_as_segmentation_and_capture(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 3000, (42, 51)).astype(np.uint16)
    save(bare(pixels, CR, "CR", FrameOfReferenceUID=None, PatientOrientation=["L", "F"], ImagerPixelSpacing=[0.4, 0.4], BodyPartExamined="CHEST"), tmp_path / "cr.dcm")  # fmt: skip
    why = made_of(pl.read(tmp_path / "cr.dcm"), {(30, 7): 1.0})
    out = why.dicom(tmp_path / "out", source=tmp_path / "cr.dcm")
    assert [f.name for f in out.files] == ["segmentation.dcm", "capture-0001.dcm", "report.dcm"]
    assert [errors_in(f) for f in out.files] == [[], [], []]
    assert np.argwhere(pydicom.dcmread(out.files[0]).pixel_array).tolist() == [[30, 7]]
    assert list(pydicom.dcmread(out.files[1]).PatientOrientation) == ["L", "F"]
    assert any(n.startswith("no map: an image without a position") for n in out.notes)
    with pytest.raises(BadFile, match="write a DICOM map; got an image without a position"):
        why.dicom(tmp_path / "out", source=tmp_path / "cr.dcm", kinds=("map", "capture"))
    assert [f.name for f in sorted((tmp_path / "out").iterdir())] == ["capture-0001.dcm", "report.dcm", "segmentation.dcm"]


def test_one_slice_and_a_multi_frame_file_are_sources_too(tmp_path):
    slice_of = bare(VOLUME[0], CT, ImagePositionPatient=[1.0, 2.0, 3.0], ImageOrientationPatient=[1.0, 0, 0, 0, 1, 0], PixelSpacing=[1.0, 2.0], SliceThickness=3)  # fmt: skip
    save(slice_of, tmp_path / "one.dcm")
    order = [3, 1, 0, 2, 5, 4]
    axes = oblique()
    save(enhanced(VOLUME[:6].astype(np.uint16), axes, (2.0, 0.8, 0.9), (1.0, 2.0, 3.0), order, [1.0] * 6), tmp_path / "many.dcm")
    for name, at in (("one", (12, 9)), ("many", (12, 9, 3))):
        scan = pl.read(tmp_path / f"{name}.dcm")
        out = made_of(scan, {at: HIGH}).dicom(tmp_path / name, source=tmp_path / f"{name}.dcm")
        assert [f.name for f in out.files][:2] == ["map.dcm", "segmentation.dcm"]
        assert {f.name: errors_in(f) for f in out.files} == {f.name: [] for f in out.files}
        volume = highdicom.imread(out.files[0]).get_volume()
        truth = np.array(scan.grid.world(at)) * [-1, -1, 1]
        assert np.abs((volume.affine @ [*strongest(volume.array), 1])[:3] - truth).max() < NEAR
        segment = as_slicer(out.files[1], tmp_path / f"{name}-seg")["1"]
        assert np.abs(place(segment, strongest(np.asarray(segment.dataobj))) - truth).max() < NEAR


def test_a_cine_loop_has_captures_only(tmp_path):
    loop = bare(VOLUME[:4].astype(np.uint16), "1.2.840.10008.5.1.4.1.1.3.1", "US", NumberOfFrames=4, FrameOfReferenceUID=None)
    save(loop, tmp_path / "us.dcm")
    out = made_of(pl.read(tmp_path / "us.dcm"), {(12, 9, 2): HIGH}).dicom(tmp_path / "out", source=tmp_path / "us.dcm")
    assert [f.name for f in out.files] == ["capture-0003.dcm"]
    assert errors_in(out.files[0]) == []
    ds = pydicom.dcmread(out.files[0])
    assert ds.SourceImageSequence[0].ReferencedFrameNumber == 3 and "PixelSpacing" not in ds
    assert len([n for n in out.notes if n.startswith(("no map", "no segmentation", "no report"))]) == 3


def test_another_source_is_refused(plain, tmp_path):
    home, why = plain
    write_series(tmp_path / "other", VOLUME + 1, oblique(), modality="MR")
    with pytest.raises(BadFile, match="none with the bytes of the scan"):
        why.dicom(tmp_path / "out", source=tmp_path / "other")
    with pytest.raises(BadFile, match="no such file or folder"):
        why.dicom(tmp_path / "out", source=tmp_path / "none")
    bare_scan = pl.Image(why.scan.values, why.scan.grid)
    with pytest.raises(BadFile, match="a scan from memory"):
        made_of(bare_scan).dicom(tmp_path / "out", source=home / "scan")
    assert not (tmp_path / "out").exists()


def test_the_right_series_is_found_among_others(plain, tmp_path):
    _, why = plain
    write_series(tmp_path / "s/a", VOLUME, oblique(), modality="MR", BodyPartExamined="BRAIN", SeriesInstanceUID="1.2.3.5")
    write_series(tmp_path / "s/b", VOLUME[:5], oblique(), modality="MR", SeriesInstanceUID="1.2.3.6")
    scan = pl.read(tmp_path / "s", series="1.2.3.5")
    assert len(made_of(scan).dicom(tmp_path / "out", source=tmp_path / "s", kinds=("map",)))
    assert why.scan.grid.shape == scan.grid.shape


def test_a_tilted_stack_is_refused_with_its_numbers(tmp_path):
    write_series(tmp_path / "scan", VOLUME, shift=(0.0, 0.3, 0.0))
    scan = pl.read(tmp_path / "scan", resample=True)
    with pytest.raises(BadFile, match=r"derive DICOM objects from .*tilt.*Write NIfTI"):
        made_of(scan, {(1, 1, 1): 1.0}).dicom(tmp_path / "out", source=tmp_path / "scan")


def test_text_burned_into_the_pixels_does_not_leave_unasked(tmp_path):
    save(bare(VOLUME[0], CR, "CR", BurnedInAnnotation="YES", FrameOfReferenceUID=None), tmp_path / "a.dcm")
    why = made_of(pl.read(tmp_path / "a.dcm"), {(3, 3): 1.0})
    out = why.dicom(tmp_path / "out", source=tmp_path / "a.dcm")
    assert [f.name for f in out.files] == ["segmentation.dcm", "report.dcm"]
    with pytest.raises(BadFile, match="may name the patient"):
        why.dicom(tmp_path / "out", source=tmp_path / "a.dcm", kinds=("capture",))
    kept = why.dicom(tmp_path / "named", source=tmp_path / "a.dcm", kinds=("capture",), keep_phi=True)
    assert pydicom.dcmread(kept.files[0]).BurnedInAnnotation == "YES"


def test_bad_requests_leave_nothing(plain, tmp_path, monkeypatch):
    home, why = plain
    source = home / "scan"
    for keywords, error, words in (
        ({"kinds": ("mesh",)}, BadParameter, "kinds are some of"),
        ({"kinds": "map"}, BadParameter, "kinds are some of"),
        ({"kinds": ("report",)}, BadParameter, "Add 'segmentation'"),
        ({"threshold": 0.0}, BadParameter, "share of the largest"),
        ({"threshold": 1.5}, BadParameter, "share of the largest"),
    ):
        with pytest.raises(error, match=words):
            why.dicom(tmp_path / "out", source=source, **keywords)
    nothing = made_of(why.scan)
    nothing.values.zero_()
    with pytest.raises(BadImage, match="zeros on the whole scan"):
        nothing.dicom(tmp_path / "out", source=source)
    nothing.values.fill_(torch.nan)
    with pytest.raises(BadImage, match="finite"):
        nothing.dicom(tmp_path / "out", source=source)
    with pytest.raises(BadFile, match="no folder"):
        why.dicom(tmp_path / "no/out", source=source)
    monkeypatch.setattr(filing, "parametric_map", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        why.dicom(tmp_path / "out", source=source)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_somebodys_files_is_left_alone(plain, tmp_path):
    home, why = plain
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(BadFile, match="'notes.txt' there, which Pellucid did not write"):
        why.dicom(tmp_path / "out", source=home / "scan", kinds=("map",))
    with pytest.raises(BadFile, match="did not write"):
        why.dicom(home / "scan", source=home / "scan", kinds=("map",))
    assert len(list((home / "scan").iterdir())) == 12
    (tmp_path / "out/notes.txt").unlink()
    why.dicom(tmp_path / "out", source=home / "scan", kinds=("map",))
    before = (tmp_path / "out/map.dcm").read_bytes()
    why.dicom(tmp_path / "out", source=home / "scan", kinds=("map",))
    assert (tmp_path / "out/map.dcm").read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


def test_a_map_read_from_disk_can_be_filed(plain, tmp_path):
    home, why = plain
    back = pl.load(why.save(tmp_path / "why.npz"))
    out = back.dicom(tmp_path / "out", source=home / "scan", kinds=("map",))
    assert out.files[0].read_bytes() == why.dicom(tmp_path / "b", source=home / "scan", kinds=("map",)).files[0].read_bytes()


def test_ohifs_trap_is_told(tmp_path):
    write_series(tmp_path / "scan", VOLUME[:, :39, :47], modality="MR")
    out = made_of(pl.read(tmp_path / "scan"), {(12, 9, 3): 1.0}).dicom(tmp_path / "out", source=tmp_path / "scan", kinds=("map",))
    assert any(n.startswith("OHIF cannot open the map: 39 x 47") for n in out.notes)


@pytest.mark.realdata
def test_a_real_series(realdata, tmp_path):
    """192 oblique slices: valid, and the peak where it was put, for both readers."""
    scan = pl.read(realdata("dicom-mr"))
    at = (100, 120, 77)
    out = made_of(scan, {at: HIGH}).dicom(tmp_path / "out", source=realdata("dicom-mr"))
    assert {f.name: errors_in(f) for f in out.files} == {f.name: [] for f in out.files}
    truth = np.array(scan.grid.world(at)) * [-1, -1, 1]
    volume = highdicom.imread(out.files[0]).get_volume()
    assert np.abs((volume.affine @ [*strongest(volume.array), 1])[:3] - truth).max() < NEAR
    seen = as_slicer(out.files[0], tmp_path / "map")["pmap"]
    assert np.abs(place(seen, strongest(np.asarray(seen.dataobj))) - truth).max() < NEAR
