"""The seed files of the fuzzing study: small, of every kind that Pellucid reads, the same bytes on every machine with the same packages."""

from __future__ import annotations

import gzip
import io
import warnings
import zlib

import nibabel
import numpy as np
import tifffile
import torch
from PIL import Image as Pil
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from tests.io.dicoms import bare, enhanced, oblique

UID = "1.2.826.0.1.3680043.8.498.1"


def _smooth(rng, *shape):
    """Values with some structure, so that codecs have something to do."""
    ramp = sum(np.linspace(0, 300 * (i + 1), n).reshape([-1 if a == i else 1 for a in range(len(shape))]) for i, n in enumerate(shape))
    return (ramp + rng.integers(0, 40, shape)).astype(np.uint16)


def saved(ds, syntax=None):
    """The bytes of a dataset, re-encoded on the way."""
    buffer = io.BytesIO()
    syntax = syntax or ds.file_meta.TransferSyntaxUID
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        ds.compress(syntax, generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _slice(rng, shape=(12, 10), **elements):
    axes = oblique()
    place = {
        "ImagePositionPatient": [-31.5, 12.25, 55.0], "ImageOrientationPatient": [float(f"{v:.9f}") for v in (*axes[0], *axes[1])],
        "PixelSpacing": [0.7, 0.9], "SliceThickness": 2.5, "WindowCenter": 40, "WindowWidth": 400,
    }  # fmt: skip
    ds = bare(_smooth(rng, *shape), **{**place, "RescaleSlope": 2, "RescaleIntercept": -1024, "SOPInstanceUID": UID, **elements})
    ds.file_meta.MediaStorageSOPInstanceUID = UID
    return ds


def _color(rng, planar):
    ds = bare(np.zeros((9, 11), np.uint16), "1.2.840.10008.5.1.4.1.1.7", "OT", SamplesPerPixel=3, PhotometricInterpretation="RGB")
    ds.PlanarConfiguration, ds.BitsAllocated, ds.BitsStored, ds.HighBit = planar, 8, 8, 7
    ds.PixelData = rng.integers(0, 255, (9, 11, 3)).astype(np.uint8).tobytes() + b"\0"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID
    return ds


def _palette(rng):
    ds = bare(rng.integers(0, 16, (12, 10)).astype(np.uint16), "1.2.840.10008.5.1.4.1.1.7", "OT", PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [16, 0, 16])
        setattr(ds, f"{name}PaletteColorLookupTableData", rng.integers(0, 65535, 16).astype("<u2").tobytes())
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID
    return ds


def _dicoms(rng):
    volume = _smooth(rng, 4, 8, 9)
    many = enhanced(volume, oblique(), (3.0, 0.5, 0.8), (4.0, -9.0, 20.0), [2, 0, 3, 1], [1.0, 2.0, 0.5, 1.5])
    many.SOPInstanceUID = many.file_meta.MediaStorageSOPInstanceUID = UID
    return {
        "dicom-native": saved(_slice(rng)),
        "dicom-padded": saved(_slice(rng, PixelPaddingValue=300, PhotometricInterpretation="MONOCHROME1")),
        "dicom-implicit": saved(_slice(rng), ImplicitVRLittleEndian),
        "dicom-bigendian": saved(_slice(rng), ExplicitVRBigEndian),
        "dicom-deflated": saved(_slice(rng), DeflatedExplicitVRLittleEndian),
        "dicom-rle": saved(_slice(rng), RLELossless),
        "dicom-jpeg2000": saved(_slice(rng, (40, 36)), JPEG2000Lossless),
        "dicom-jpegls": saved(_slice(rng), JPEGLSLossless),
        "dicom-enhanced": saved(many),
        "dicom-rgb": saved(_color(rng, 0)),
        "dicom-rgb-planar": saved(_color(rng, 1)),
        "dicom-rgb-rle": saved(_color(rng, 0), RLELossless),
        "dicom-palette": saved(_palette(rng)),
        "dicom-explicit-mr": saved(_slice(rng, Modality="MR", BitsStored=12, HighBit=11), ExplicitVRLittleEndian),
    }


def _nifti(values, kind=nibabel.Nifti1Image, *, big=False, slope=None, form="s"):
    row, column = oblique()
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = np.array(row) * 0.7, np.array(column) * 0.9
    affine[:3, 2], affine[:3, 3] = np.cross(row, column) * 2.5, (-31.5, 12.25, 55.0)
    header = kind.header_class(endianness=">" if big else "<")
    header.set_data_dtype(values.dtype)
    scan = kind(values, affine, header)
    scan.set_sform(affine, 1 if "s" in form else 0)
    scan.set_qform(affine, 1 if "q" in form else 0)
    scan.header.set_xyzt_units("mm")
    if slope:
        scan.header.set_slope_inter(*slope)
    return scan.to_bytes()


def _niftis(rng):
    ints = _smooth(rng, 7, 6, 5).astype(np.int16)
    real = rng.normal(size=(6, 7, 4)).astype(np.float32)
    colored = np.zeros((6, 5, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name in "RGB":
        colored[name] = rng.integers(0, 255, (6, 5, 4))
    two = nibabel.Nifti2Image
    return {
        "nifti1": _nifti(ints, form="sq"),
        "nifti1-qform": _nifti(ints, form="q"),
        "nifti1-scaled": _nifti(ints, slope=(0.5, -100.0)),
        "nifti1-big": _nifti(ints, big=True),
        "nifti1-rgb": _nifti(colored),
        "nifti1-4d": _nifti(np.stack([ints, ints // 2], -1)),
        "nifti2": _nifti(real, two, form="sq"),
        "nifti1-gz": gzip.compress(_nifti(ints, form="sq"), mtime=0),
        "nifti2-gz": gzip.compress(_nifti(real, two), mtime=0),
    }


def _encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def deep_png(samples):
    """A 16-bit RGB PNG, which PIL cannot write."""
    rows, columns = samples.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = rows and columns.to_bytes(4, "big") + rows.to_bytes(4, "big") + bytes((16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def chunk(name, body):
    """A PNG chunk with its right checksum."""
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def _rasters(rng):
    gray, deep = (_smooth(rng, 13, 11) // 4).astype(np.uint8), _smooth(rng, 12, 10)
    color = np.stack([gray, gray[::-1], 255 - gray], -1)
    alpha = np.concatenate([color, gray[..., None]], -1)
    pages = np.stack([deep, deep // 2, deep // 3])
    made = {
        "png-gray": _encoded(Pil.fromarray(gray), "PNG"),
        "png-rgb": _encoded(Pil.fromarray(color), "PNG"),
        "png-rgba": _encoded(Pil.fromarray(alpha), "PNG"),
        "png-palette": _encoded(Pil.fromarray(color).quantize(7), "PNG"),
        "png-16": _encoded(Pil.fromarray(deep), "PNG"),
        "png-rgb16": deep_png(np.stack([deep, deep[::-1], deep * 3], -1)),
        "jpeg-gray": _encoded(Pil.fromarray(gray), "JPEG", quality=90),
        "jpeg-rgb": _encoded(Pil.fromarray(color), "JPEG", quality=90),
        "jpeg-progressive": _encoded(Pil.fromarray(color), "JPEG", quality=80, progressive=True),
    }
    tiffs = {
        "tiff-raw": (color, {}), "tiff-zlib": (deep, {"compression": "zlib"}), "tiff-pages": (pages, {"photometric": "minisblack"}),
        "tiff-float": (deep.astype(np.float32) / 7, {}), "tiff-predicted": (pages, {"photometric": "minisblack", "compression": "zlib"}),
    }  # fmt: skip
    for name, (array, options) in tiffs.items():
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, metadata=None, software="", datetime=False, **options)
        made[name] = buffer.getvalue()
    made["tiff-lzw"] = _encoded(Pil.fromarray(gray), "TIFF", compression="tiff_lzw")
    return made


def _arrays(rng, folder):
    from pellucid.grid import Grid
    from pellucid.io import write

    made = {}
    volume = _smooth(rng, 1, 5, 6, 7)
    arrays = {
        "npy-u8": volume[0, 0].astype(np.uint8),
        "npy-f4": volume.astype(np.float32),
        "npy-f8": np.asfortranarray(volume[0, :3] / 3.0),
    }
    for name, array in {**arrays, "npy-big": volume.astype(">i4")}.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        made[name] = buffer.getvalue()
    path = folder / "m.npz"
    path.unlink(missing_ok=True)
    write(path, torch.from_numpy(volume.astype(np.float32)), Grid.spaced((5, 6, 7), (1.0, 2.0, 3.0)), facts={"method": "saliency"})
    made["npz"] = path.read_bytes()
    return made


def corpus(folder):
    """Seed files by name; the part of a name before the first dash is the format."""
    rng = np.random.default_rng(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {**_dicoms(rng), **_niftis(rng), **_rasters(rng), **_arrays(rng, folder)}


def format_of(name):
    """The format of a seed: nifti1 and nifti2 are one."""
    return name.split("-")[0].rstrip("12")
