"""Damaged files: the right array or a PellucidError, never anything else. ``studies/fuzzing.py`` reads 10,000 of them; here are a few, and what it found."""

from __future__ import annotations

import gzip
import io
import json
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pydicom
import pytest
import torch
from studies.fuzzing import RIGHT, attempt, judged, mutant
from studies.fuzzing_corpus import chunk, corpus

import pellucid as pl
from pellucid.errors import BadFile, PellucidError
from pellucid.io import read, series

EACH = 10


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("seeds"))


def test_mutants_give_the_right_array_or_a_refusal(seeds, tmp_path):
    path, verdicts = tmp_path / "mutant", []
    for name, data in seeds.items():
        path.write_bytes(data)
        oracle, error = attempt(path)
        assert error is None, name
        assert judged(name, data, oracle, None, oracle) == ("as unmutated", ""), name
        for number in range(1000, 1000 + EACH):
            kind, damaged = mutant(name, data, number)
            path.write_bytes(damaged)
            verdict = judged(name, damaged, *attempt(path), oracle)
            assert verdict[0] in RIGHT, (name, number, kind, verdict)
            verdicts.append(verdict[0])
    assert sum(v != "refused" for v in verdicts) >= 0.3 * len(verdicts)
    assert verdicts.count("as the bytes say") > 10 and verdicts.count("refused") > 50


def test_a_byte_in_bare_pixels_changes_its_sample_alone(seeds, tmp_path):
    path = tmp_path / "x"
    for name in ("dicom-native", "nifti1", "tiff-pages", "npy-f4"):
        data = bytearray(seeds[name])
        path.write_bytes(data)
        before = read(path).values
        size = 4 if name == "npy-f4" else 2
        payload = {"tiff-pages": 176}.get(name, len(data) - before.numel() * size)
        for sample in (0, 17, before.numel() // 3 - 1):
            flipped = bytearray(data)
            flipped[payload + sample * size] ^= 3
            path.write_bytes(flipped)
            assert int((read(path).values != before).sum()) == 1, (name, sample)


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.7, 0.95])
def test_truncated_files_are_refused(seeds, tmp_path, keep):
    for name, data in seeds.items():
        path = tmp_path / f"short-{name}"
        path.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(BadFile):
            read(path)


def refused(path, data, match):
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadFile, match=match):
            read(path)


def test_what_other_readers_mend_in_silence_is_refused(seeds, tmp_path):
    path = tmp_path / "x"
    nifti = bytearray(seeds["nifti1-qform"])
    struct.pack_into("<h", nifti, 252, 1024)
    refused(path, bytes(nifti), "qform code 1024")  # nibabel drops the orientation
    nifti = bytearray(seeds["nifti1"])
    struct.pack_into("<f", nifti, 108, 0.0)
    refused(path, bytes(nifti), "inside the header")  # and takes header bytes for samples
    png = bytearray(seeds["png-gray"])
    png[-30] ^= 1
    refused(path, bytes(png), "checksum")  # PIL does not look
    tiff = bytearray(seeds["tiff-raw"])
    at = tiff.index(struct.pack("<HH", 284, 3))
    struct.pack_into("<H", tiff, at + 2, 1)
    refused(path, bytes(tiff), "entry 284")  # tifffile reads bytes for a number, and planes for pixels
    tiff = bytearray(seeds["tiff-zlib"])
    struct.pack_into("<I", tiff, tiff.index(struct.pack("<HH", 273, 4)) + 8, 0)
    refused(path, bytes(tiff), "without a place")  # tifffile fills with zeros
    tiff = bytearray(seeds["tiff-pages"])
    start = struct.unpack_from("<I", tiff, 4)[0]
    end = start + 2 + 12 * struct.unpack_from("<H", tiff, start)[0]
    struct.pack_into("<I", tiff, end, len(tiff) + 9)
    refused(path, bytes(tiff), "broken link")  # tifffile reads one page of three


@pytest.mark.parametrize(
    ("keyword", "value", "match"),
    [
        ("RescaleSlope", ["1", "2"], "RescaleSlope that is not 1 finite"),
        ("RescaleIntercept", "1e400", "RescaleIntercept"),
        ("RescaleSlope", None, "RescaleIntercept without"),
        ("PixelSpacing", ["1"], "PixelSpacing that is not 2"),
        ("ImagePositionPatient", ["1", "nan", "2"], "ImagePositionPatient that is not 3"),
        ("Rows", 6, "2 frames where the header says 1"),
    ],
)
def test_malformed_dicom_numbers_are_not_passed_over(seeds, tmp_path, keyword, value, match):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(io.BytesIO(seeds["dicom-explicit-mr"]))
        if value is None:
            del ds[keyword]
        else:
            ds.add_new(keyword, ds[keyword].VR, value)
        buffer = io.BytesIO()
        ds.save_as(buffer)
    refused(tmp_path / "x", buffer.getvalue(), match)


@pytest.mark.parametrize("seed", ["dicom-native", "dicom-explicit-mr", "dicom-deflated", "dicom-jpegls", "dicom-rle"])
def test_a_number_of_frames_that_lies_costs_nothing(seeds, tmp_path, seed):
    ds = pydicom.dcmread(io.BytesIO(seeds[seed]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for count in (2_000_000_000, 20_000_000):
            ds.NumberOfFrames = count
            ds.save_as(tmp_path / "x")
            with pytest.raises(BadFile, match="frames in [0-9]+ bytes"):
                series(tmp_path)
            with pytest.raises(BadFile):
                read(tmp_path / "x")


def test_many_frames_of_which_nothing_is_said_are_made_once(seeds, monkeypatch):
    from pellucid.io.dicom import frames

    made, plane_of = [], frames.plane_of
    monkeypatch.setattr(frames, "plane_of", lambda *a: made.append(1) or plane_of(*a))
    ds = pydicom.dcmread(io.BytesIO(seeds["dicom-native"]))
    assert len(frames.frames_of(ds, 1000, "x")) == 1000 and len(made) == 1


def test_damaged_series_are_listed_or_refused(seeds, tmp_path):
    """The headers alone, as a folder is listed."""
    (tmp_path / "d").mkdir()
    found = {"listed": 0, "refused": 0}
    for name, data in seeds.items():
        for number in range(2000, 2004) if name.startswith("dicom") else ():
            (tmp_path / "d" / "x").write_bytes(mutant(name, data, number)[1])
            try:
                found["listed"] += bool(series(tmp_path / "d"))
            except PellucidError:
                found["refused"] += 1
    assert min(found.values()) > 3, found


@pytest.mark.parametrize("part", ["facts", "dtypes", "whole", "image", "evidence", "provenance", "version"])
@pytest.mark.parametrize("lie", [[1], 5, "x", None])
def test_an_archive_whose_table_of_contents_lies_is_refused(tmp_path, part, lie):
    net = pl.Model(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)))
    path = pl.explain(net, torch.rand(1, 8, 8), 1, method="saliency").save(tmp_path / "m.npz")
    with zipfile.ZipFile(path) as pack:
        members = {n: pack.read(n) for n in pack.namelist()}
    meta = json.loads(members["pellucid.json"])
    if part == "whole":
        meta = lie
    elif part in meta:
        meta[part] = lie
    else:
        meta["facts"][part] = lie
    members["pellucid.json"] = json.dumps(meta).encode()
    with zipfile.ZipFile(path, "w") as pack:
        for n, data in members.items():
            pack.writestr(n, data)
    with pytest.raises(PellucidError):
        pl.load(path)


def test_bytes_after_the_last_sample_are_told(seeds, tmp_path):
    ds = pydicom.dcmread(io.BytesIO(seeds["dicom-native"]))
    ds.Rows = 11
    ds.save_as(tmp_path / "x")
    assert any("20 bytes after the last sample" in n for n in read(tmp_path / "x").notes)


def test_bombs_are_refused_before_they_unfold(seeds, tmp_path, monkeypatch):
    path = tmp_path / "x"
    inside = gzip.decompress(seeds["nifti1-gz"])
    refused(path, gzip.compress(inside + bytes(2**25), 1), "more than [0-9,]+ bytes inside")
    from pellucid.io import content
    from pellucid.io.dicom import parsing

    monkeypatch.setattr(content, "MOST_UNPACKED", 2**20)
    refused(path, gzip.compress(bytes(2**22)), "more than 1,048,576 bytes")
    monkeypatch.setattr(parsing, "MOST_UNPACKED", 2**20)
    data = seeds["dicom-deflated"]
    start = 144 + struct.unpack_from("<I", data, 140)[0]
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    refused(path, data[:start] + packer.compress(bytes(2**22)) + packer.flush(), "more than 1,048,576 bytes")
    data = seeds["dicom-jpegls"]
    at = data.rindex(b"\xff\xd9")
    refused(path, data[:at] + b"\0\0" + data[at + 2 :], "without its end")  # CharLS takes ten seconds
    refused(path, seeds["dicom-native"] + bytes(2**20), "more than 50000 elements")
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    refused(
        path,
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b""),
        "DecompressionBomb",
    )
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (99999, 99999)})
    refused(path, stream.getvalue(), "of 79998400008 bytes")
