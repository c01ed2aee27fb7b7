"""Ways to damage or change a scan file: bytes, cuts, and changes that know the format. Each is drawn from a seeded generator."""

from __future__ import annotations

import gzip
import io
import json
import struct
import warnings
import zipfile
import zlib

import pydicom
from pydicom import config
from pydicom.uid import UID
from studies.fuzzing_corpus import chunk, format_of

NUMBERS = [
    "0",
    "-1",
    "1",
    "2",
    "1e400",
    "nan",
    "inf",
    "-0.5",
    "3.5",
    "1e-30",
    "65535",
    "2147483648",
    "",
    "abc",
    "1\\2",
    "1\\2\\3",
    "0.7\\0.7",
]
SYNTAXES = [
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.100", "1.2.3",
]  # fmt: skip
WORDS = {
    "PhotometricInterpretation": ["MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR", "YBR_RCT", "XYZ", ""],
    "Modality": ["CT", "MR", "PT", "OT", "US", "CR", ""],
    "ImageType": [["ORIGINAL", "PRIMARY", "LOCALIZER"], ["DERIVED"], ""],
    "RescaleType": ["HU", "US", "OD", "GY", ""],
}
INTEGERS = {
    "Rows": [0, 1, 9, 10, 11, 12, 120, 65535], "Columns": [0, 1, 9, 10, 11, 12, 120, 65535], "BitsAllocated": [0, 1, 8, 16, 32, 64, 12],
    "BitsStored": [0, 1, 8, 12, 15, 16, 17, 32], "HighBit": [0, 7, 11, 14, 15, 16], "PixelRepresentation": [0, 1, 2],
    "SamplesPerPixel": [0, 1, 2, 3, 4], "PlanarConfiguration": [0, 1, 2], "PixelPaddingValue": [0, 63, 300, 340, 65535],
    "NumberOfFrames": ["0", "1", "2", "3", "4", "5", "100000", "-1"],
}  # fmt: skip
DECIMALS = [
    "RescaleSlope", "RescaleIntercept", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "WindowCenter",
    "WindowWidth", "SpacingBetweenSlices", "DoseGridScaling",
]  # fmt: skip


# --- any file --------------------------------------------------------------------------------------------------------


def flips(data, rng, low=0, high=None):
    """One to four bytes replaced, or single bits turned."""
    out, high = bytearray(data), len(data) if high is None else high
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(low, max(low + 1, high)))
        out[at] = int(rng.integers(256)) if rng.integers(2) else out[at] ^ (1 << int(rng.integers(8)))
    return bytes(out)


def cut(data, rng):
    """The end lost, or bytes after the end."""
    if rng.integers(4):
        return data[: int(rng.integers(len(data)))]
    return data + rng.bytes(int(rng.integers(1, 40)))


def shuffled(data, rng):
    """A run of bytes lost, doubled, zeroed or set to 255."""
    a = int(rng.integers(len(data)))
    b = min(len(data), a + int(rng.integers(1, 17)))
    middle = [b"", data[a:b] * 2, bytes(b - a), b"\xff" * (b - a)][rng.integers(4)]
    return data[:a] + middle + data[b:]


# --- DICOM -----------------------------------------------------------------------------------------------------------


def _elements(data):
    """(start of the element, start of its value, end) for the top level of an explicit little-endian file, read by hand."""
    at, found = 132, []
    while at + 8 <= len(data):
        long = data[at + 4 : at + 6] in (b"OB", b"OW", b"OF", b"OD", b"SQ", b"UN", b"UT", b"UC", b"UR", b"OL")
        start = at + (12 if long else 8)
        size = struct.unpack_from("<I" if long else "<H", data, at + (8 if long else 6))[0]
        if size == 0xFFFFFFFF or start + size > len(data):
            break
        found.append((at, start, start + size))
        at = start + size
    return found


def dicom_elements(data, rng):
    """Tags, VRs, lengths and values of single elements; elements lost, doubled, exchanged."""
    elements = _elements(data)
    at, start, end = elements[rng.integers(len(elements))]
    out, kind = bytearray(data), rng.integers(8)
    if kind == 0:
        out[at + 4 : at + 6] = [b"UN", b"SQ", b"OB", b"US", b"DS", b"IS", b"FD", b"PN", b"UI", b"??", b"UT"][rng.integers(11)]
    elif kind == 1:
        struct.pack_into("<H", out, at + 6, int(rng.choice([0, 1, 2, 3, 255, 65534, 65535, max(0, end - start - 2), end - start + 2])))
    elif kind == 2:
        struct.pack_into("<H", out, at + int(rng.integers(2)) * 2, int(rng.choice([0, 2, 8, 0x10, 0x28, 0x7FE0, 0xFFFE, 0xFFFF, 0x11])))
    elif kind == 3:
        out[start:end] = rng.bytes(end - start)
    elif kind == 4:
        del out[at:end]
    elif kind == 5:
        out[end:end] = data[at:end]
    elif kind == 6:
        text = NUMBERS[rng.integers(len(NUMBERS))].encode().ljust(end - start)[: end - start]
        out[start:end] = text
    else:
        a, _, b = elements[rng.integers(len(elements))]
        (a, b), (at, end) = sorted([(a, b), (at, end)])
        out = bytearray(data[:a] + data[at:end] + data[b:at] + data[a:b] + data[end:]) if b <= at else out
    return bytes(out)


def dicom_values(data, rng):
    """One or two elements given another value, some of it legitimate, and the file written anew by pydicom."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = config.settings.writing_validation_mode, config.settings.reading_validation_mode
        config.settings.writing_validation_mode = config.settings.reading_validation_mode = config.IGNORE
        try:
            ds = pydicom.dcmread(io.BytesIO(data))
            for _ in range(rng.integers(1, 3)):
                _change(ds, rng)
            buffer = io.BytesIO()
            ds.save_as(buffer, implicit_vr=ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2", little_endian=True, force_encoding=True)
            return buffer.getvalue()
        except Exception:  # what cannot be written is no file
            return flips(data, rng, 0, 600)
        finally:
            config.settings.writing_validation_mode, config.settings.reading_validation_mode = before


def _change(ds, rng):
    kind = rng.integers(6)
    frames = ds.get("PerFrameFunctionalGroupsSequence")
    if frames and rng.integers(2):
        return _change_frame(ds, frames, rng)
    if kind == 0:
        ds.file_meta.TransferSyntaxUID = UID(SYNTAXES[rng.integers(len(SYNTAXES))])
    elif kind == 1:
        name = list(WORDS)[rng.integers(len(WORDS))]
        setattr(ds, name, WORDS[name][rng.integers(len(WORDS[name]))])
    elif kind == 2:
        name = list(INTEGERS)[rng.integers(len(INTEGERS))]
        setattr(ds, name, INTEGERS[name][rng.integers(len(INTEGERS[name]))])
    elif kind == 3:
        name = DECIMALS[rng.integers(len(DECIMALS))]
        ds.add_new(name, "DS", _decimal(name, rng))
    elif kind == 4:
        tags = [e.tag for e in ds]
        del ds[tags[rng.integers(len(tags))]]
    else:
        ds.SpecificCharacterSet = ["ISO_IR 192", "ISO 2022 IR 87", "nonsense", ""][rng.integers(4)]
    return None


def _decimal(name, rng):
    """A value that means something, or one that does not."""
    good = {"PixelSpacing": [1.5, 0.25], "ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    if rng.integers(2):
        return good.get(name, [2.5, 0.125, -3, 1000][rng.integers(4)])
    return NUMBERS[rng.integers(len(NUMBERS))]


def _change_frame(ds, frames, rng):
    frame, kind = frames[rng.integers(len(frames))], rng.integers(6)
    if kind == 0:
        frame.PlanePositionSequence[0].add_new("ImagePositionPatient", "DS", _decimal("ImagePositionPatient", rng))
    elif kind == 1:
        name = ["RescaleSlope", "RescaleIntercept"][rng.integers(2)]
        frame.PixelValueTransformationSequence[0].add_new(name, "DS", _decimal(name, rng))
    elif kind == 2:
        del frame[[e.tag for e in frame][rng.integers(len([*frame]))]]
    elif kind == 3:
        del frames[int(rng.integers(len(frames)))]
    elif kind == 4:
        shared = ds.SharedFunctionalGroupsSequence[0]
        shared.PlaneOrientationSequence[0].add_new("ImageOrientationPatient", "DS", _decimal("ImageOrientationPatient", rng))
    else:
        ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].add_new("PixelSpacing", "DS", _decimal("PixelSpacing", rng))


def dicom_inflated(data, rng):
    """The deflated dataset unpacked, changed, packed again; or a bomb in its place."""
    start = _meta_end(data)
    if not rng.integers(8):
        return data[:start] + _deflate(bytes(2**27), raw=True)
    inside = zlib.decompress(data[start:], -15)
    return data[:start] + _deflate([flips, shuffled, cut][rng.integers(3)](inside, rng), raw=True)


def _meta_end(data):
    return 132 + 12 + struct.unpack_from("<I", data, 140)[0]


def _deflate(body, raw=False):
    packer = zlib.compressobj(6, zlib.DEFLATED, -15 if raw else 15)
    return packer.compress(body) + packer.flush()


# --- NIfTI -----------------------------------------------------------------------------------------------------------

ONE = {"dim": (40, "8h"), "intent": (68, "h"), "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim": (76, "8f"), "vox_offset": (108, "f"),
       "slope": (112, "f"), "inter": (116, "f"), "units": (123, "B"), "qform": (252, "h"), "sform": (254, "h"), "quatern": (256, "3f"),
       "offset": (268, "3f"), "srow": (280, "12f"), "size": (0, "i"), "magic": (344, "i")}  # fmt: skip
TWO = {"dim": (16, "8q"), "intent": (504, "i"), "datatype": (12, "h"), "bitpix": (14, "h"), "pixdim": (104, "8d"), "vox_offset": (168, "q"),
       "slope": (176, "d"), "inter": (184, "d"), "units": (500, "i"), "qform": (344, "i"), "sform": (348, "i"), "quatern": (352, "3d"),
       "offset": (376, "3d"), "srow": (400, "12d"), "size": (0, "i"), "magic": (4, "i")}  # fmt: skip
REALS = [0.0, 1.0, -1.0, 2.5, float("nan"), float("inf"), 1e30, 1e-30, -0.5, 1e10]
WHOLE = [0, 1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1792, 2304, -1, 255, 32767]


def nifti_header(data, rng):
    """One or two header fields given another value, in the header's own byte order; gzipped files are packed again, checksum and all."""
    packed = data[:2] == b"\x1f\x8b"
    out = bytearray(gzip.decompress(data) if packed else data)
    fields = TWO if out[4:7] == b"n+2" else ONE
    order = "<" if struct.unpack_from("<i", out)[0] in (348, 540) else ">"
    for _ in range(rng.integers(1, 3)):
        at, kind = fields[list(fields)[rng.integers(len(fields))]]
        one = kind[-1]
        at += int(rng.integers(int(kind[:-1] or 1))) * struct.calcsize(one)
        value = REALS[rng.integers(len(REALS))] if one in "fd" else WHOLE[rng.integers(len(WHOLE))]
        value = value & 255 if one == "B" else value
        struct.pack_into(order + one, out, at, value)
    return gzip.compress(bytes(out), mtime=0) if packed else bytes(out)


def gzipped(data, rng):
    """A gzip stream with other insides and a right checksum, a wrong checksum, two members, an early end, or a bomb."""
    inside, kind = gzip.decompress(data), rng.integers(7)
    if kind == 0:
        return data[:-8] + rng.bytes(4) + data[-4:]
    if kind == 1:
        return data[: len(data) - int(rng.integers(1, 12))]
    if kind == 2:
        half = int(rng.integers(len(inside)))
        return gzip.compress(inside[:half], mtime=0) + gzip.compress(inside[half:], mtime=0)
    if kind == 3:
        return data + bytes(int(rng.integers(1, 9)))
    if kind == 4:
        return gzip.compress(inside + bytes(2**26), 1, mtime=0)
    return gzip.compress([flips, shuffled, cut][rng.integers(3)](inside, rng), mtime=0)


# --- rasters ---------------------------------------------------------------------------------------------------------


def _chunks(data):
    at, found = 8, []
    while at + 12 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def png_chunks(data, rng):
    """Chunks changed, lost, doubled, exchanged or added, each with its right checksum; another size, depth or color; a bomb."""
    parts, kind = _chunks(data), rng.integers(8)
    n = int(rng.integers(len(parts)))
    name, body = parts[n]
    if kind == 0:
        parts[n] = (name, flips(body, rng) if body else b"\0")
    elif kind == 1:
        del parts[n]
    elif kind == 2:
        parts.insert(n, parts[n])
    elif kind == 3:
        m = int(rng.integers(len(parts)))
        parts[n], parts[m] = parts[m], parts[n]
    elif kind == 4:
        head = bytearray(parts[0][1])
        field = rng.integers(5)
        if field < 2:
            struct.pack_into(">I", head, 4 * int(field), int(rng.choice([0, 1, 5, 10, 12, 14, 60000, 2**31 - 1, 2**32 - 1])))
        else:
            head[int(rng.choice([8, 9, 10, 11, 12]))] = int(rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255]))
        parts[0] = (b"IHDR", bytes(head))
    elif kind == 5:
        raw = bytearray(zlib.decompress(b"".join(b for c, b in parts if c == b"IDAT")))
        parts = [p for p in parts if p[0] not in (b"IDAT", b"IEND")]
        parts += [(b"IDAT", zlib.compress([flips, shuffled, cut][rng.integers(3)](bytes(raw), rng))), (b"IEND", b"")]
    elif kind == 6:
        extra = [(b"tEXt", b"Comment\0Doe"), (b"tRNS", rng.bytes(3)), (b"gAMA", rng.bytes(4)), (b"eXIf", rng.bytes(20)), (b"acTL", rng.bytes(8)),
                 (b"PLTE", rng.bytes(12)), (b"ABCD", b"x"), (b"iCCP", b"a\0\0" + _deflate(bytes(2**22)))]  # fmt: skip
        parts.insert(int(rng.integers(1, len(parts))), extra[rng.integers(len(extra))])
    else:
        side = int(rng.choice([9000, 30000]))
        head = struct.pack(">II", side, side) + parts[0][1][8:]
        parts = [(b"IHDR", head), (b"IDAT", _deflate(bytes(2**24))), (b"IEND", b"")]
    return data[:8] + b"".join(chunk(c, b) for c, b in parts)


def jpeg_segments(data, rng):
    """Markers changed, segments lost or doubled, another size in the frame header, an EXIF turn put in."""
    at, segments = 2, []
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = 2 + struct.unpack_from(">H", data, at + 2)[0]
        segments.append(data[at : at + size])
        at += size
    rest, kind = data[at:], rng.integers(5)
    n = int(rng.integers(len(segments)))
    if kind == 0:
        segments[n] = segments[n][:4] + flips(segments[n][4:], rng)
    elif kind == 1:
        del segments[n]
    elif kind == 2:
        segments.insert(n, segments[n])
    elif kind == 3:
        frame = next(i for i, s in enumerate(segments) if s[1] in (0xC0, 0xC2))
        body = bytearray(segments[frame])
        struct.pack_into(">H", body, 5 + 2 * int(rng.integers(2)), int(rng.choice([0, 1, 8, 11, 13, 20, 65000])))
        segments[frame] = bytes(body)
    else:
        tiff = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([int(rng.integers(0, 10))]) + bytes(6)
        segments.insert(1, b"\xff\xe1" + struct.pack(">H", len(tiff) + 2) + tiff)
    return data[:2] + b"".join(segments) + rest


def tiff_entries(data, rng):
    """An entry of the first directory changed: tag, type, count or value."""
    out = bytearray(data)
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack_from(order + "I", out, 4)[0]
    count = struct.unpack_from(order + "H", out, start)[0]
    at = start + 2 + 12 * int(rng.integers(count))
    kind = rng.integers(5)
    if kind == 0:
        struct.pack_into(
            order + "H", out, at, int(rng.choice([256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 330, 338, 339]))
        )
    elif kind == 1:
        struct.pack_into(order + "H", out, at + 2, int(rng.integers(0, 14)))
    elif kind == 2:
        struct.pack_into(order + "I", out, at + 4, int(rng.choice([0, 1, 2, 3, 100, 2**31 - 1, 2**32 - 1])))
    elif kind == 3:
        struct.pack_into(order + "I", out, at + 8, int(rng.choice([0, 1, 2, 3, 4, 5, 8, 16, 32, 10, 12, 32773, 2**31, 65535])))
    else:
        struct.pack_into(order + "H", out, at + 8, int(rng.choice([0, 1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 32, 32946, 60000])))
    return bytes(out)


# --- arrays ----------------------------------------------------------------------------------------------------------

HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 5, 6, 7), }", "{'descr': '<i2', 'fortran_order': True, 'shape': (2, 5, 6), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", "{'descr': '<f4', 'fortran_order': False, 'shape': (1, -1, 4), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (99999, 99999), }", "{'descr': '<U4', 'fortran_order': False, 'shape': (5, 6), }",
    "{'descr': '|b1', 'fortran_order': False, 'shape': (4, 4), }", "{'descr': '<c8', 'fortran_order': False, 'shape': (4, 4), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 7), }", "__import__('os').abort()", "{'descr': '<f4'}", "((((((", "\\x00",
    "{'descr': [('a', '<f4'), ('b', '<i4')], 'fortran_order': False, 'shape': (5, 6), }", "{" * 5000,
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 99999999999, 99999999999, 0), }",
    "{'descr': '>u2', 'fortran_order': False, 'shape': (5, 6), }", "{'descr': '<f2', 'fortran_order': False, 'shape': (5, 6), }",
]  # fmt: skip


def npy_header(data, rng):
    """Another header before the same samples, version 1 or 2."""
    start = 10 + struct.unpack_from("<H", data, 8)[0]
    text = HEADERS[rng.integers(len(HEADERS))].encode()
    if rng.integers(2):
        text = flips(data[10:start], rng)
    major = int(rng.choice([1, 1, 2, 3, 4]))
    size = struct.pack("<H" if major == 1 else "<I", len(text) + 1)
    return b"\x93NUMPY" + bytes([major, 0]) + size + text + b"\n" + data[start:]


def npz_members(data, rng):
    """The members unpacked, changed and packed again; another grid, name or type in the JSON; a bomb."""
    with zipfile.ZipFile(io.BytesIO(data)) as pack:
        members = {n: pack.read(n) for n in pack.namelist()}
    kind = rng.integers(6)
    meta = json.loads(members["pellucid.json"])
    if kind == 0:
        members["values.npy"] = npy_header(members["values.npy"], rng)
    elif kind == 1:
        members["values.npy"] = [flips, cut, shuffled][rng.integers(3)](members["values.npy"], rng)
    elif kind == 2:
        members["pellucid.json"] = [flips, cut, shuffled][rng.integers(3)](members["pellucid.json"], rng)
    elif kind == 3:
        where = [meta, meta["grid"], meta["dtypes"]][rng.integers(3)]
        key = list(where)[rng.integers(len(where))]
        where[key] = [None, -1, "x", [], {}, [[1]], 99, "px", "bfloat16", [5, 6], [5, 6, 7], float("nan")][rng.integers(12)]
        members["pellucid.json"] = json.dumps(meta).encode()
    elif kind == 4:
        del members[list(members)[rng.integers(len(members))]]
    else:
        members["values.npy" if rng.integers(2) else "pellucid.json"] = bytes(2**27)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as pack:
        for n, body in members.items():
            pack.writestr(zipfile.ZipInfo(n, (1980, 1, 1, 0, 0, 0)), body, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


ANY = {"bytes anywhere": flips, "cut or extended": cut, "a run of bytes": shuffled}
KNOWING = {
    "dicom": {"elements": dicom_elements, "values": dicom_values},
    "nifti": {"header fields": nifti_header},
    "png": {"chunks": png_chunks},
    "jpeg": {"segments": jpeg_segments},
    "tiff": {"entries": tiff_entries},
    "npy": {"header": npy_header},
    "npz": {"members": npz_members},
}


def kinds(name, data):
    """The mutations that apply to a seed, by name."""
    out = dict(ANY) | KNOWING[format_of(name)]
    if data[:2] == b"\x1f\x8b":
        out["gzip"] = gzipped
    if name == "dicom-deflated":
        return {**ANY, "deflated": dicom_inflated, "values": dicom_values}
    if name in ("dicom-implicit", "dicom-bigendian"):
        del out["elements"]
        if name == "dicom-bigendian":
            del out["values"]
    return out
