"""Nothing that leaves names the patient: a secret in every element that can hold one, and in names of files, is looked for in all outputs."""

from __future__ import annotations

import base64
import json
import logging
import re
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from tests.io.dicoms import group, oblique, write_series
from torch import nn

import pellucid as pl

# what is planted, by VR: a name, a number, a date, a time, an age, an address, an identifier
PLANTED = {
    **dict.fromkeys(("LO", "SH", "ST", "LT", "UT", "UC", "PN"), "Geheim^Rosa"),
    "CS": "GEHEIM ROSA",
    "DA": "19610203",
    "TM": "041733.77",
    "DT": "19610203041733.77",
    "AS": "059Y",
    "UI": "1.2.826.0.1.4711.99",
    "UR": "http://geheim.example/rosa",
    "AE": "GEHEIMAE",
    "IS": "471147",
    "DS": "4711.47",
}
SECRETS = re.compile(rb"geheim|rosa|19610203|041733|059y|4711", re.IGNORECASE)
# what is read: technical, not listed in PS3.15 table E.1-1; or wanted for the values, so planted in a readable form by the series itself
READ = """SOPClassUID Modality Manufacturer ManufacturerModelName BodyPartExamined ViewPosition ImageLaterality Laterality PresentationLUTShape
    PhotometricInterpretation MagneticFieldStrength KVP Units DecayCorrection DoseUnits RescaleType SUVType TransferSyntaxUID SpecificCharacterSet
    PixelSpacing ImagePositionPatient ImageOrientationPatient RescaleSlope RescaleIntercept NumberOfFrames DoseGridScaling GridFrameOffsetVector
    WindowCenter WindowWidth SliceThickness SpacingBetweenSlices ImageType PixelPaddingValue LossyImageCompression BurnedInAnnotation
    SeriesInstanceUID SOPInstanceUID FrameOfReferenceUID ModalityLUTType EchoTime""".split()


def plant(ds: Dataset) -> int:
    """A secret in every element of the dictionary that can hold one, in an item of every sequence, and in private elements."""
    count = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, (kind, _, _, retired, keyword) in DicomDictionary.items():
            kind = kind.split(" ")[0]
            old = tag >> 16 in (0x0028, 0x5400, 0x7FE0) or tag >> 16 < 8  # descriptions of pixels and waveforms
            if old or not keyword or keyword in READ or "FunctionalGroups" in keyword:
                continue
            if kind in PLANTED:
                ds.add_new(tag, kind, PLANTED[kind])
            elif kind == "SQ" and not retired and keyword not in ("ModalityLUTSequence", "VOILUTSequence"):
                ds.add_new(tag, kind, Sequence([group(PatientName="Geheim^Rosa", PatientID="4711")[0]]))
            count += 1
        ds.add_new(0x00091001, "LO", "Geheim^Rosa")
        ds.add_new(0x00090010, "LO", "GEHEIM")
        ds.add_new(0x60003000, "OW", b"Geheim")
    ds.SeriesInstanceUID, ds.FrameOfReferenceUID, ds.EchoTime = "1.2.826.0.1.4711.1", "1.2.826.0.1.4711.2", "4711.47"
    return count


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("out") / "Geheim^Rosa_19610203" / "1.2.826.0.1.4711.99"
    volume = np.random.default_rng(0).integers(0, 900, (3, 16, 18)).astype(np.int16)
    where.parent.mkdir()
    write_series(where, volume, oblique(), modality="MR")
    from pydicom import config, dcmread

    before = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    for n, path in enumerate(sorted(where.iterdir())):
        ds = dcmread(path)
        assert plant(ds) > 3000
        ds.save_as(path.with_name(f"Geheim_{n}.dcm"))
        path.unlink()
    config.settings.writing_validation_mode = before
    return where


def insides(path: Path) -> bytes:
    """All that a file holds, packed parts unpacked and embedded parts decoded."""
    data = path.read_bytes()
    parts = [data]
    if data.startswith(b"PK"):
        with zipfile.ZipFile(path) as pack:
            parts += [pack.read(n) + n.encode() for n in pack.namelist()]
    if data.startswith(b"\x1f\x8b"):
        parts.append(zlib.decompress(data, 31))
    if data.startswith(b"\x89PNG"):
        from PIL import Image as Pil

        with Pil.open(path) as picture:
            picture.load()
            parts.append(repr(picture.info).encode())
    if path.suffix == ".html":
        for text in re.findall(rb"[A-Za-z0-9+/]{200,}={0,2}", data):
            raw = base64.b64decode(text + b"=" * (-len(text) % 4))
            parts.append(re.sub(rb"[^\x20-\x7e]+", b" ", raw) if not raw.startswith(b"\x1f\x8b") else zlib.decompress(raw, 31))
        parts[0] = re.sub(rb"[A-Za-z0-9+/]{200,}", b"", data)
    return b"\n".join(parts)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2)).eval()


def words(data: bytes) -> list[bytes]:
    """Secrets in it. Numbers of four digits may stand in any long number or hash: those count only where a word begins.

    The packed pixels of a PNG are left out: any four letters stand in them by chance; the test looks at its other chunks.
    """
    if data.startswith(b"\x89PNG"):
        at, kept = 8, []
        while at < len(data):
            size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
            kept.append(b"" if kind == b"IDAT" else data[at : at + 12 + size])
            at += 12 + size
        data = b" ".join(kept)
    return [m.group() for m in SECRETS.finditer(re.sub(rb"[0-9a-f]{32,}|[0-9]*\.[0-9]{5,}|(?<=[0-9])4711|4711(?=[0-9]{3})", b"#", data))]


def test_no_output_names_the_patient(folder, tmp_path, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        scan = pl.read(folder)
        why = pl.explain(network(), scan, target=0, method="saliency")
        saved = [why.save(tmp_path / f"why{suffix}") for suffix in (".npz", ".nii.gz", ".png")]
        pl.report.write_report(tmp_path / "why.html", [why])
        study = pl.study.Study(
            folder=tmp_path / "study", net=network(), methods=["saliency"], metrics=["gini"],
            cases=[pl.study.StudyCase(folder, patient="Geheim^Rosa"), pl.study.StudyCase(folder.parent / "missing", patient="Geheim^Rosa")],
        )  # fmt: skip
        study.run()
        facts = json.dumps(why.facts(), default=str)
    assert len(saved) == 3
    said = [
        repr(scan),
        repr(why),
        facts,
        repr(dict(scan.facts)),
        repr(scan.notes),
        caplog.text,
        *capfd.readouterr(),
        *study.problems,
        *(s.description + s.apart for s in pl.series(folder)),
    ]
    for text in said:
        assert not words(text.encode()), text[:2000]
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {".npz", ".gz", ".png", ".html", ".json"} <= {p.suffix for p in files}
    for path in files:
        assert not words(insides(path)), path
        assert not words(path.name.encode())


def test_what_was_asked_for_by_name_is_still_not_saved(folder, tmp_path):
    scan = pl.read(folder, keep_phi=True)
    assert len(words(repr(dict(scan.facts)).encode())) > 5  # the search finds what is there
    why = pl.explain(network(), scan, target=0, method="saliency")
    for suffix in (".npz", ".nii"):
        why.save(tmp_path / f"why{suffix}")
    for path in tmp_path.iterdir():
        assert not words(insides(path)), path
