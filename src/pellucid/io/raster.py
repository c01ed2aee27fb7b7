"""Pictures and bare arrays: PNG, JPEG, TIFF, NPY. The numbers stay those of the file (0..255, 0..65535); the grid is in pixels."""

from __future__ import annotations

import math
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import BadFile
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.io.content import decoding, tensor

FEW = 16  # a leading axis up to this long can be channels
DENSEST = 1500  # deflate and LZW cannot pack more than this many bytes into one
SINGLE = {256, 257, 259, 262, 274, 277, 278, 284, 317, 322, 323}  # TIFF tags that say what samples are, of one value
PER_SAMPLE = {258, 339}  # of one value for each channel
SHAPING = SINGLE | PER_SAMPLE | {273, 279, 324, 325}
TURNS = {2: "mirrored", 3: "turned by 180 degrees", 4: "flipped", 5: "transposed", 6: "turned right", 7: "transversed", 8: "turned left"}


def _image(samples: np.ndarray, path: Path, facts: dict[str, Any], notes: list[str]) -> Image:
    """Samples (rows, columns[, pages], channels) as an Image in pixels."""
    c = samples.shape[-1]
    if c == 2 or c == 4:
        notes.append("alpha channel dropped")
        samples = samples[..., : c - 1]
    if samples.shape[-1] not in (1, 3):
        raise BadFile(f"read {path}", f"{c} channels", "Save gray or RGB, or an array (c, h, w) with numpy.save.")
    names = ("red", "green", "blue") if samples.shape[-1] == 3 else ("gray",)
    values = tensor(np.moveaxis(samples, -1, 0), path)
    return Image(values, Grid(tuple(values.shape[1:])), "intensity", names, None, facts, tuple(notes))


def _turned(samples: np.ndarray, orientation: int, notes: list[str]) -> np.ndarray:
    """The array as it is meant to be seen (EXIF 2.3, table 4.6.4.A, tag Orientation)."""
    if orientation not in TURNS:
        return samples
    notes.append(f"EXIF orientation {orientation} applied ({TURNS[orientation]})")
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    rows = orientation in (3, 4, 7, 8)
    columns = orientation in (2, 3, 6, 7)
    return samples[:: -1 if rows else 1, :: -1 if columns else 1]


def read_picture(data: bytes, digest: str, path: Path) -> Image:
    """A PNG or JPEG, 8 or 16 bits: gray, RGB, palette; alpha dropped and EXIF orientation applied, both noted."""
    from PIL import Image as Pil

    notes: list[str] = []
    if data.startswith(b"\x89PNG"):
        _check_png(data, path)
    with decoding("picture", path), Pil.open(BytesIO(data), formats=("PNG", "JPEG")) as picture:
        kind = str(picture.format)
        if getattr(picture, "n_frames", 1) > 1 and kind == "PNG":
            raise BadFile(f"read {path}", f"an animation of {picture.n_frames} frames", "Save one frame.")  # type: ignore[attr-defined]
        orientation = int(picture.getexif().get(274, 1))
        depth, color = (data[24], data[25]) if kind == "PNG" else (8, -1)
        if depth == 16:
            samples = _deep(data, color, path)
        else:
            samples = _shallow(picture, notes)
    samples = _turned(samples, orientation, notes)
    return _image(samples, path, {"format": kind, "bits": max(8, depth), "sha256": digest}, notes)


def _check_png(data: bytes, path: Path) -> None:
    """IHDR first, every critical chunk whole, known and with its checksum, the packed samples with theirs: PIL does not look at all of them."""
    at, name, fix = 8, b"", "It is truncated or corrupt: copy or export it again."
    packed: list[bytes] = []
    while name != b"IEND":
        if at + 12 > len(data):
            raise BadFile(f"read {path} as PNG", "a file that ends early", fix)
        size, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        critical = not name[0] & 32
        if (name == b"IHDR") != (at == 8) or (critical and name not in (b"IHDR", b"PLTE", b"IDAT", b"IEND")):
            raise BadFile(f"read {path} as PNG", "parts in a wrong order, or an unknown one without which it cannot be shown", fix)
        if end > len(data) or (
            (critical or name == b"tRNS") and data[end - 4 : end] != zlib.crc32(data[at + 4 : end - 4]).to_bytes(4, "big")
        ):
            raise BadFile(f"read {path} as PNG", f"a wrong checksum at byte {at}", fix)
        packed += [data[at + 8 : end - 4]] if name == b"IDAT" else []
        at = end
    width, height = struct.unpack_from(">II", data, 16)
    unpack, left = zlib.decompressobj(), 8 * (width + 8) * (height + 8) * 2  # 16 bits, four samples, and room for interlacing
    try:
        for piece in packed:
            while piece and left > 0 and not unpack.eof:
                left -= len(unpack.decompress(piece, 2**22))
                piece = unpack.unconsumed_tail
    except zlib.error as error:
        raise BadFile(f"read {path} as PNG", f"damaged samples ({error})", fix) from error


def _shallow(picture: Any, notes: list[str]) -> np.ndarray:
    """Up to 8 bits per sample, as (rows, columns, channels) of uint8."""
    mode = str(picture.mode)
    if mode == "P":
        notes.append("palette turned into RGB")
        if np.asarray(picture).max() >= len(picture.getpalette()) // 3:
            raise BadFile("read a picture with a palette", "a sample beyond its last color", "It is corrupt: export it again.")
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    elif mode == "CMYK":
        notes.append("CMYK turned into RGB")
        picture = picture.convert("RGB")
    elif mode == "1":
        picture = picture.convert("L")
    array = np.asarray(picture)
    return array[..., None] if array.ndim == 2 else array


def _deep(data: bytes, color: int, path: Path) -> np.ndarray:
    """16 bits per sample, all kept. PIL keeps the high bytes of color: the file is decoded twice, once read as the other byte order."""
    from PIL import Image as Pil

    raw = {0: "I;16B", 2: "RGB;16B", 6: "RGBA;16B"}.get(color)
    if raw is None:
        raise BadFile(f"read {path}", "a 16-bit gray PNG with alpha", "Save it without alpha.")
    if color == 0:
        with Pil.open(BytesIO(data)) as picture:
            return np.asarray(picture).astype(np.uint16)[..., None]
    halves = []
    for order in (raw, raw[:-1] + "L"):
        with Pil.open(BytesIO(data)) as picture:
            picture.tile = [tile._replace(args=order) for tile in picture.tile]  # type: ignore[attr-defined]
            halves.append(np.asarray(picture).astype(np.uint16))
    return halves[0] * 256 + halves[1]


def read_tiff(data: bytes, digest: str, path: Path) -> Image:
    """A TIFF of any bit depth, gray, RGB or palette; several pages of one size become a volume (row, column, page)."""
    import tifffile

    notes: list[str] = []
    with decoding("TIFF", path), tifffile.TiffFile(BytesIO(data)) as file:
        pages = list(file.pages)
        tags = _directories(data)
        if len(pages) != len(tags):
            raise BadFile(f"read {path}", f"{len(pages)} pages and then a broken link", "It is truncated or corrupt: export it again.")
        for entries, page in zip(tags, pages):
            _check_entries(entries, page, path)
        shapes = sorted({tuple(p.shape) for p in pages})
        if len(shapes) != 1:
            fix = "Save one page, or pages of one size (no pyramid, no thumbnail)."
            raise BadFile(f"read {path}", f"{len(pages)} pages of sizes {shapes}", fix)
        first: Any = pages[0]
        _check_strips(pages, len(data), path)
        planes = [_page(p, data, n, path) for n, p in enumerate(pages)]
        if first.photometric.name == "MINISWHITE":
            notes.append("MINISWHITE: high values are dark; values are as stored, not inverted")
        if first.photometric.name == "PALETTE":
            notes.append("palette turned into RGB")
        orientation = int(first.tags[274].value) if 274 in first.tags else 1
        facts = {"format": "TIFF", "bits": int(np.max(first.bitspersample)), "photometric": first.photometric.name, "sha256": digest}
    samples = _turned(planes[0] if len(planes) == 1 else np.stack(planes, 2), orientation, notes)
    if len(planes) > 1:
        notes.append(f"{len(planes)} pages read as a volume, in pixels")
    return _image(samples, path, facts, notes)


def _directories(data: bytes) -> list[dict[int, tuple[int, int]]]:
    """Type and count of each tag of each directory, the chain followed by hand; a loop or a break counts as one directory more."""
    order, big = ("<" if data[:2] == b"II" else ">"), data[2:4] in (b"+\0", b"\0+")
    offset, count, width = ("Q", "Q", 20) if big else ("I", "H", 12)
    at = struct.unpack_from(order + offset, data, 8 if big else 4)[0]
    seen: dict[int, dict[int, tuple[int, int]]] = {}
    while at and at not in seen:
        seen[at] = {}
        try:
            entries = struct.unpack_from(order + count, data, at)[0]
            start = at + struct.calcsize(order + count)
            following = struct.unpack_from(order + offset, data, start + entries * width)[0]
        except (struct.error, OverflowError):
            return [*seen.values(), {}]
        for n in range(entries):
            tag, kind, many = struct.unpack_from(f"{order}HH{offset}", data, start + n * width)
            seen[at][tag] = kind, many
        at = following
    return [*seen.values(), *([{}] if at else [])]


def _check_entries(said: dict[int, tuple[int, int]], page: Any, path: Path) -> None:
    """Where an entry for the layout makes no sense, tifffile goes on with a default or with bytes instead of a number."""
    samples = max(1, int(page.samplesperpixel))
    known = set(page.tags.keys())
    for tag, (kind, many) in said.items():
        fits = many == 1 if tag in SINGLE else many in (1, samples) if tag in PER_SAMPLE else True
        if tag in SHAPING and (tag not in known or kind not in (3, 4, 16) or not fits):
            raise BadFile(f"read {path}", f"an entry {tag} for the layout that makes no sense", "It is corrupt: export it again.")
    if page.planarconfig not in (1, 2) or page.predictor not in (1, 2, 3):
        raise BadFile(f"read {path}", "an unknown planar configuration or predictor", "Save it as gray or RGB, uncompressed.")
    if 277 in said and int(page.tags[277].value) != samples:
        raise BadFile(f"read {path}", "no samples per pixel", "It is corrupt: export it again.")
    if len(set(np.atleast_1d(page.bitspersample).tolist())) > 1 or (
        page.photometric == 1 and 258 not in said and page.compression.value < 9
    ):
        raise BadFile(f"read {path}", "unequal or no bits per sample", "Save it with 8, 16 or 32 bits.")


def _check_strips(pages: list[Any], length: int, path: Path) -> None:
    """A strip beyond the end of the file would be read as zeros."""
    for n, page in enumerate(pages):
        if not page.is_tiled and page.rowsperstrip:
            planes = page.samplesperpixel if page.planarconfig == 2 else 1
            strips = math.ceil(page.imagelength / page.rowsperstrip) * planes
            if strips != len(page.dataoffsets) or strips != len(page.databytecounts):
                fix = "It is corrupt: export it again."
                raise BadFile(f"read {path}", f"{len(page.dataoffsets)} of {strips} strips (page {n + 1})", fix)
        if min(page.dataoffsets, default=0) < 8 or min(page.databytecounts, default=0) < 1:  # tifffile would take it for zeros
            raise BadFile(f"read {path}", f"samples without a place (page {n + 1})", "It is corrupt: export it again.")
        last = max((o + c for o, c in zip(page.dataoffsets, page.databytecounts)), default=0)
        if last > length or not page.dataoffsets:
            fix = "It is truncated: copy or export it again."
            raise BadFile(f"read {path}", f"{length} of {last} bytes (page {n + 1})", fix)
        need = int(np.prod(page.shape, dtype=object)) * int(np.min(page.bitspersample)) // 8
        have = sum(page.databytecounts) * (1 if page.compression.value == 1 else DENSEST)
        if need > have:
            raise BadFile(f"read {path}", f"too few bytes for page {n + 1} of {page.shape}", "It is corrupt: export it again.")


def _page(page: Any, data: bytes, number: int, path: Path) -> np.ndarray:
    """One page as (rows, columns, channels)."""
    name = page.photometric.name
    if name not in ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE") and page.compression.name != "JPEG":
        raise BadFile(f"read {path}", f"a TIFF of {name} samples", "Save it as gray or RGB.")
    try:
        array = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        array = _page_by_pil(page, data, number, path)
    if name == "PALETTE" and array.ndim == 2:
        table = np.asarray(page.colormap)
        table = (table >> 8).astype(np.uint8) if table.max() > 255 else table.astype(np.uint8)
        return np.moveaxis(table[:, array], 0, -1)
    if page.axes[:1] == "S" and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    if array.ndim not in (2, 3):
        raise BadFile(f"read {path}", f"a TIFF page of axes {page.axes}", "Save one (row, column) picture per page.")
    return array[..., None] if array.ndim == 2 else array


def _page_by_pil(page: Any, data: bytes, number: int, path: Path) -> np.ndarray:
    """LZW and JPEG pages, which tifffile decodes only with imagecodecs; what PIL would reduce or invert is refused."""
    from PIL import Image as Pil

    deep = int(np.max(page.bitspersample)) > 8
    if page.photometric.name == "MINISWHITE" or (deep and page.samplesperpixel > 1):
        got = f"{page.compression.name} compression of {page.photometric.name} with {page.bitspersample} bits"
        raise BadFile(f"read {path}", got, "Run `pip install imagecodecs`, or save it uncompressed.")
    with Pil.open(BytesIO(data), formats=("TIFF",)) as picture:
        picture.seek(number)
        return np.asarray(picture)


def read_npy(data: bytes, digest: str, path: Path) -> Image:
    """A .npy array: (h, w), (c, h, w) or (c, i, j, k); a shape that could mean something else is refused."""
    with decoding("NPY", path):
        _check_npy(data, path)
        array = np.load(BytesIO(data), allow_pickle=False)
    array = array[None] if array.ndim == 2 else array
    fix = "Save (h, w), (c, h, w) or (c, i, j, k): a volume as array[None], channels-last as numpy.moveaxis(array, -1, 0)."
    if array.ndim not in (3, 4) or array.size == 0:
        raise BadFile(f"read {path}", f"an array of shape {array.shape}", fix)
    if array.shape[0] > FEW or (array.shape[-1] in (2, 3, 4) and array.shape[0] != 1):
        raise BadFile(f"read {path}", f"shape {array.shape}, which is ambiguous (channels last? no channel axis?)", fix)
    values = tensor(array, path)
    facts = {"format": "NPY", "stored": str(array.dtype), "sha256": digest}
    return Image(values, Grid(tuple(values.shape[1:])), "a.u.", (), None, facts)


def _check_npy(data: bytes, path: Path) -> None:
    """Compare the promised size with the bytes that are there, before anything is allocated."""
    stream = BytesIO(data)
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(stream)
    if dtype.hasobject:
        raise BadFile(f"read {path}", "an array of Python objects", "Save numbers: numpy.save(path, array.astype('float32')).")
    need = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if need > len(data) - stream.tell():
        raise BadFile(f"read {path}", f"{len(data) - stream.tell()} of {need} bytes", "It is truncated: copy it again.")
