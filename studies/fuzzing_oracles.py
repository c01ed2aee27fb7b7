"""Second readers for the fuzzing study: what the bytes say, by other means than Pellucid's. Plain, strict, and slow.

NIfTI, PNG, TIFF and NPY are read by hand from their specifications, with no library but zlib; DICOM by pydicom, with bare samples taken
from the bytes and geometry, rescale and palette written out here; JPEG, LZW and PackBits by PIL; the archive by zipfile and json.
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pydicom
from PIL import Image as Pil
from PIL import ImageOps
from studies.fuzzing_corpus import format_of


class Refused(Exception):
    """The second reader will not read it."""


# --- DICOM -----------------------------------------------------------------------------------------------------------


def dicom(data):
    ds = pydicom.dcmread(io.BytesIO(data), force=True)
    stored = ds.pixel_array
    bare = _bare(ds)
    if bare is not None and not np.array_equal(bare, stored):
        raise Refused("pydicom and the bytes disagree")
    photometric = ds.get("PhotometricInterpretation", "MONOCHROME2")
    frames = int(ds.get("NumberOfFrames", 1) or 1)
    if stored.ndim - (int(ds.get("SamplesPerPixel", 1)) > 1) != (3 if frames > 1 else 2):
        raise Refused("frames")
    if photometric == "PALETTE COLOR":
        stored, color = _palette(stored, ds), True
    else:
        color = int(ds.get("SamplesPerPixel", 1)) == 3
    stored = stored if frames > 1 else stored[None]
    shared = (ds.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    each = ds.get("PerFrameFunctionalGroupsSequence") or []
    values, planes = [], []
    for n in range(frames):
        groups = [each[n], shared, ds] if each else [shared, ds]
        how = _group(groups, "PixelValueTransformationSequence", ds)
        slope, inter = how.get("RescaleSlope"), how.get("RescaleIntercept")
        frame = stored[n].astype(np.float64)
        if "DoseGridScaling" in ds and ds.DoseGridScaling is not None:
            slope, inter = ds.DoseGridScaling, 0
        values.append(frame if color or slope is None else frame * float(slope) + float(inter or 0))
        rest = ds if frames == 1 else pydicom.Dataset()
        planes.append(
            _plane(*(_group(groups[:-1], g, rest) for g in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")))
        )
    matrix, order = _affine(planes)
    picture = np.stack([values[n] for n in order], 2)
    picture = np.moveaxis(picture, -1, 0) if color else picture[None]
    return (picture[..., 0] if len(order) == 1 else picture), matrix


def _bare(ds):
    """Uncompressed gray or RGB samples straight from the bytes; None for anything else."""
    bits, samples, frames = int(ds.BitsAllocated), int(ds.SamplesPerPixel), int(ds.get("NumberOfFrames", 1) or 1)
    if "PixelData" not in ds or ds["PixelData"].is_undefined_length or bits not in (8, 16, 32) or "YBR" in ds.PhotometricInterpretation:
        return None
    order = "<" if ds.original_encoding[1] else ">"
    dtype = np.dtype(f"{order}{'i' if ds.PixelRepresentation else 'u'}{bits // 8}")
    flat = np.frombuffer(ds.PixelData, dtype, frames * ds.Rows * ds.Columns * samples)
    kept = int(ds.BitsStored)
    if kept < bits:  # bits above BitsStored are no part of the sample (PS3.5 8.1.1)
        flat = flat.astype(np.int64) & (2**kept - 1)
        flat = flat - (flat >> (kept - 1) << kept) if ds.PixelRepresentation else flat
    if samples == 1:
        array = flat.reshape(frames, ds.Rows, ds.Columns)
    elif ds.get("PlanarConfiguration", 0) == 1:
        array = np.moveaxis(flat.reshape(frames, samples, ds.Rows, ds.Columns), 1, -1)
    else:
        array = flat.reshape(frames, ds.Rows, ds.Columns, samples)
    return array if frames > 1 else array[0]


def _palette(stored, ds):
    out = []
    for name in ("Red", "Green", "Blue"):
        count, first, bits = (int(v) for v in ds[f"{name}PaletteColorLookupTableDescriptor"].value)
        table = np.frombuffer(ds[f"{name}PaletteColorLookupTableData"].value, "<u2" if bits == 16 else "u1")[: count or 65536]
        out.append(table[np.clip(stored.astype(int) - first, 0, len(table) - 1)])
    return np.stack(out, -1)


def _group(groups, name, default):
    return next((g[name].value[0] for g in groups if name in g and g[name].value), default)


def _plane(place, turn, measure):
    found = [place.get("ImagePositionPatient"), turn.get("ImageOrientationPatient"), measure.get("PixelSpacing")]
    if any(v is None or isinstance(v, (str, float)) or len(v) == 0 for v in found):
        return None
    found = [np.array([float(v) for v in values]) for values in found]
    if [len(v) for v in found] != [3, 6, 2] or not all(np.isfinite(v).all() for v in found):
        return None
    thick = [t for k in ("SpacingBetweenSlices", "SliceThickness") if (t := _number(measure.get(k))) is not None]
    return (*found, (thick[0] if thick else 1.0) or 1.0)


def _number(value):
    try:
        return abs(float(value)) if np.isfinite(float(value)) else None
    except (TypeError, ValueError):
        return None


def _affine(planes):
    if any(p is None for p in planes):
        return None, range(len(planes))
    _, turn, spacing, thick = planes[0]
    normal = np.cross(turn[:3], turn[3:])
    order = sorted(range(len(planes)), key=lambda n: planes[n][0] @ normal)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 3] = turn[3:] * spacing[0], turn[:3] * spacing[1], planes[order[0]][0]
    matrix[:3, 2] = normal / np.linalg.norm(normal) * thick
    if len(planes) > 1:
        matrix[:3, 2] = (planes[order[-1]][0] - planes[order[0]][0]) / (len(planes) - 1)
    return np.diag([-1.0, -1, 1, 1]) @ matrix, order


# --- NIfTI -----------------------------------------------------------------------------------------------------------

TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}


def nifti(data):
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    two = data[4:8] == b"n+2\0"
    if not two and data[344:348] != b"n+1\0":
        raise Refused("magic")
    order = next((o for o in "<>" if struct.unpack_from(o + "i", data)[0] == (540 if two else 348)), None)
    dims = {o: struct.unpack_from(o + ("8q" if two else "8h"), data, 16 if two else 40) for o in "<>"}
    order = order or next((o for o in "<>" if 1 <= dims[o][0] <= 7), None)
    if order is None or not 1 <= dims[order][0] <= 7:
        raise Refused("dim")

    def field(one, other, kind):
        return np.array(struct.unpack_from(order + kind[two], data, other if two else one))

    shape = dims[order][1 : 1 + dims[order][0]]
    code, offset = int(field(70, 12, ("h", "h"))[0]), float(field(108, 168, ("f", "q"))[0])
    count, start = int(np.prod([int(n) for n in shape], dtype=object)), int(offset)
    if start < (544 if two else 352):
        raise Refused("vox_offset")
    if code == 128:
        values = np.frombuffer(data, "u1", 3 * count, start).reshape(3, *shape, order="F")
        return _spatial(values), _nifti_affine(field)
    values = np.frombuffer(data, np.dtype(order + TYPES[code]), count, start).astype(np.float64).reshape(shape, order="F")
    slope, inter = (float(field(a, b, ("f", "d"))[0]) for a, b in ((112, 176), (116, 184)))
    if np.isfinite(slope) and slope != 0:
        values = values * slope + inter
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    return _spatial(np.moveaxis(values, 3, 0) if values.ndim == 4 else values[None]), _nifti_affine(field)


def _spatial(values):
    return values[..., 0] if values.ndim > 3 and values.shape[-1] == 1 else values


def _nifti_affine(field):
    unit = {1: 1000.0, 3: 0.001}.get(int(field(123, 500, ("B", "i"))[0]) & 7, 1.0)
    matrix = np.eye(4)
    if field(254, 348, ("h", "i"))[0] > 0:
        matrix[:3] = field(280, 400, ("12f", "12d")).reshape(3, 4)
    elif field(252, 344, ("h", "i"))[0] > 0:
        pixdim, (b, c, d) = field(76, 104, ("8f", "8d")), field(256, 352, ("3f", "3d"))
        a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
        if not np.isfinite(a) or b * b + c * c + d * d > 1 + 1e-5:
            raise Refused("quaternion")
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        matrix[:3, :3] = turn * [pixdim[1], pixdim[2], pixdim[3] * (-1 if pixdim[0] < 0 else 1)]
        matrix[:3, 3] = field(268, 376, ("3f", "3d"))
    else:
        return None
    return np.diag([unit] * 3 + [1]) @ matrix


# --- rasters ---------------------------------------------------------------------------------------------------------


def png(data):
    """Chunks with their checksums, zlib with its own, filters 0 to 4; no interlace (PNG specification, third edition)."""
    at, parts = 8, []
    while at < len(data) and (not parts or parts[-1][0] != b"IEND"):
        size, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        known = name in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS")
        if known and struct.unpack_from(">I", data, at + 8 + size)[0] != zlib.crc32(name + body):
            raise Refused("checksum")
        if not known and not name[0] & 32:
            raise Refused("an unknown critical chunk")
        parts.append((name, body))
        at += 12 + size
    if parts[0][0] != b"IHDR" or parts[-1][0] != b"IEND":
        raise Refused("order")
    width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", parts[0][1])
    count = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    if interlace or width * height > 10**7:
        raise Refused("interlaced or huge")
    raw = zlib.decompressobj().decompress(b"".join(b for n, b in parts if n == b"IDAT"), height * (width * count * 2 + 1) + 100)
    samples = _unfiltered(raw, width, height, count, depth)
    if color == 3:
        table = np.frombuffer(next(b for n, b in parts if n == b"PLTE"), np.uint8).reshape(-1, 3)
        if samples.max() >= len(table):
            raise Refused("an index beyond the palette")
        return np.moveaxis(table[samples[..., 0]], -1, 0), None
    if depth < 8:
        samples = samples * (255 // (2**depth - 1))
    return np.moveaxis(samples[..., : count - (count in (2, 4))], -1, 0), None


def _unfiltered(raw, width, height, count, depth):
    stride, back = (width * count * depth + 7) // 8, max(1, count * depth // 8)
    if len(raw) < height * (stride + 1):
        raise Refused("too few bytes")
    out = np.zeros((height + 1, stride + back), int)
    for y in range(height):
        kind, *line = raw[y * (stride + 1) : (y + 1) * (stride + 1)]
        for x, v in enumerate(line):
            a, b, c = out[y + 1, x], out[y, x + back], out[y, x]
            p = abs(b - c), abs(a - c), abs(a + b - 2 * c)
            paeth = a if p[0] <= p[1] and p[0] <= p[2] else b if p[1] <= p[2] else c
            out[y + 1, x + back] = (v + [0, a, b, (a + b) // 2, paeth][kind]) & 255
    rows = out[1:, back:].astype(np.uint8)
    if depth == 16:
        return rows.view(">u2").reshape(height, width, count)
    if depth == 8:
        return rows.reshape(height, width, count)
    bits = np.unpackbits(rows, axis=1)[:, : width * depth * count].reshape(height, width, count, depth)
    return bits @ (1 << np.arange(depth)[::-1])


def jpeg(data):
    with Pil.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        picture = ImageOps.exif_transpose(picture)
        picture = picture.convert("RGB") if picture.mode == "CMYK" else picture
        array = np.asarray(picture)
    return (array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)), None


def tiff(data):
    """Directories, strips and samples by hand (TIFF 6.0): bare, deflate and horizontal prediction; LZW strips go through PIL."""
    order, at, pages = "<" if data[:2] == b"II" else ">", struct.unpack_from("<I" if data[:2] == b"II" else ">I", data, 4)[0], []
    seen = set()
    while at:
        if at in seen:
            raise Refused("a loop")
        seen.add(at)
        count = struct.unpack_from(order + "H", data, at)[0]
        tags = dict(_entry(data, order, at + 2 + 12 * n) for n in range(count))
        pages.append(_page(data, order, tags))
        at = struct.unpack_from(order + "I", data, at + 2 + 12 * count)[0]
    stack = pages[0] if len(pages) == 1 else np.stack(pages, 2)
    turn = tags.get(274, (1,))[0] if len(pages) == 1 else 1
    stack = stack.swapaxes(0, 1) if turn in (5, 6, 7, 8) else stack
    stack = stack[::-1] if turn in (3, 4, 7, 8) else stack
    stack = stack[:, ::-1] if turn in (2, 3, 6, 7) else stack
    return np.moveaxis(stack[..., : {2: 1, 4: 3}.get(stack.shape[-1], stack.shape[-1])], -1, 0), None


def _entry(data, order, at):
    tag, kind, count = struct.unpack_from(order + "HHI", data, at)
    form = {1: "B", 2: "s", 3: "H", 4: "I", 5: "Q", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d"}.get(kind)
    if form is None or count > 10**5:
        return tag, None
    size = struct.calcsize(form) * count
    start = at + 8 if size <= 4 else struct.unpack_from(order + "I", data, at + 8)[0]
    return tag, struct.unpack_from(f"{order}{count}{form}", data, start) if start + size <= len(data) else None


def _page(data, order, tags):
    (width,), (rows,), bits = tags[256], tags[257], tags[258]
    samples, packing = tags.get(277, (1,))[0], tags.get(259, (1,))[0]
    photometric, kind, predictor = tags[262][0], tags.get(339, (1,))[0], tags.get(317, (1,))[0]
    if tags.get(284, (1,))[0] != 1 or len(set(bits)) > 1 or photometric > 2 or 322 in tags:
        raise Refused("a layout that it does not know")
    dtype = np.dtype(f"{order}{ {1: 'u', 2: 'i', 3: 'f'}[kind] }{bits[0] // 8}")
    if packing in (5, 32773):
        with Pil.open(io.BytesIO(data), formats=("TIFF",)) as picture:
            array = np.asarray(picture)
        return array[..., None] if array.ndim == 2 else array
    if packing not in (1, 8, 32946) or bits[0] % 8:
        raise Refused("a packing that it does not know")
    per_strip = min(tags.get(278, (rows,))[0], rows)
    out = []
    for n, (start, size) in enumerate(zip(tags[273], tags[279], strict=True)):
        if start + size > len(data):
            raise Refused("a strip beyond the end")
        strip = data[start : start + size] if packing == 1 else zlib.decompress(data[start : start + size])
        here = min(per_strip, rows - n * per_strip)
        block = np.frombuffer(strip, dtype, here * width * samples).reshape(here, width, samples)
        out.append(np.cumsum(block, axis=1, dtype=dtype) if predictor == 2 else block)
    array = np.concatenate(out)
    if len(array) != rows or predictor > 2:
        raise Refused("too few rows")
    return array


# --- arrays ----------------------------------------------------------------------------------------------------------


def npy(data):
    array = _npy(data)
    array = array[None] if array.ndim == 2 else array
    return array, None


def _npy(data):
    size, start = (struct.unpack_from("<H", data, 8)[0], 10) if data[6] == 1 else (struct.unpack_from("<I", data, 8)[0], 12)
    head = ast.literal_eval(data[start : start + size].decode("utf-8" if data[6] == 3 else "latin1"))
    dtype = np.dtype(head["descr"])
    count = int(np.prod(head["shape"], dtype=object))
    flat = np.frombuffer(data, dtype, count, start + size)
    return flat.reshape(head["shape"], order="F" if head["fortran_order"] else "C")


def npz(data):
    with zipfile.ZipFile(io.BytesIO(data)) as pack:
        meta, values = json.loads(pack.read("pellucid.json")), _npy(pack.read("values.npy"))
    if meta["dtypes"].get("values") == "bfloat16":
        values = (values.astype(np.uint16).astype(np.uint32) << 16).view(np.float32)
    shape = tuple(meta["grid"]["shape"])
    values = values if values.ndim > len(shape) else values[None]
    if values.shape[1:] != shape:
        raise Refused("grid")
    return values, np.array(meta["grid"]["affine"]) if meta["grid"]["unit"] == "mm" else None


READERS = {"dicom": dicom, "nifti": nifti, "png": png, "jpeg": jpeg, "tiff": tiff, "npy": npy, "npz": npz}


def second(name, data):
    """(values, affine or None) as the bytes say, or the exception that kept the second reader from saying."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return READERS[format_of(name)](data)
        except (Exception, RecursionError) as error:
            return error
