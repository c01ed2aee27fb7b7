"""Limits: what the viewer takes in, and what a file may grow to before it is read."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import BadFile

MEBI = 2**20
PEEK = 1 * MEBI  # bytes of a file in which its size must be told


@dataclass(frozen=True)
class Limits:
    """In bytes: one upload, one request that is no upload, and what one scan may unpack to."""

    upload: int = 512 * MEBI
    body: int = 64 * MEBI
    unpacked: int = 4096 * MEBI
    files: int = 5000  # of a folder that is listed or uploaded


def weigh(path: Path, limits: Limits) -> None:
    """Refuse a file that unpacks to more than a scan may hold, before a decoder allocates anything.

    Raises:
        BadFile: naming both sizes.
    """
    with path.open("rb") as file:
        head = file.read(PEEK)
    if path.stat().st_size > limits.unpacked:
        raise _too_large(path, path.stat().st_size, limits)
    size = _promised(head, path, limits)
    if size > limits.unpacked:
        raise _too_large(path, size, limits)


def _too_large(path: Path, size: int, limits: Limits) -> BadFile:
    got = f"{path.name}, which unpacks to {size / MEBI:,.0f} MiB or more"
    return BadFile(f"a scan of at most {limits.unpacked / MEBI:,.0f} MiB", got, "Crop it, or start the viewer with a larger --unpacked.")


def _promised(head: bytes, path: Path, limits: Limits) -> int:
    """Bytes that the file says, or is found, to unpack to; 0 where it is not packed."""
    if head.startswith(b"\x1f\x8b"):
        return _gunzipped(path, limits.unpacked)
    if head.startswith(b"PK\x03\x04"):
        return _unzipped(path)
    if head.startswith(b"\x89PNG") and len(head) >= 26:
        wide, tall, depth = struct.unpack(">IIB", head[16:25])
        return int(wide * tall * 4 * max(1, depth // 8))
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg(head)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(path)
    return _dicom(path) if head[128:132] == b"DICM" else 0


def _gunzipped(path: Path, most: int) -> int:
    """Counted, not believed: the length that a gzip file states is modulo 2^32 and unchecked."""
    size = 0
    with path.open("rb") as file:
        turn = zlib.decompressobj(31)
        while data := file.read(MEBI):
            while data:
                try:
                    size += len(turn.decompress(data, MEBI))
                except zlib.error:
                    return size  # damaged: the reader says where
                if size > most:
                    return size
                data = turn.unconsumed_tail
                if turn.eof:
                    data, turn = turn.unused_data, zlib.decompressobj(31)
    return size


def _unzipped(path: Path) -> int:
    try:
        with zipfile.ZipFile(path) as pack:
            return sum(one.file_size for one in pack.infolist())
    except (zipfile.BadZipFile, OSError):
        return 0


def _jpeg(head: bytes) -> int:
    """Height and width stand in the first start-of-frame segment (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        kind, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(head[at + 5 : at + 7], "big") * int.from_bytes(head[at + 7 : at + 9], "big") * 4
        at += 2 + length
    return 0


def _tiff(path: Path) -> int:
    import tifffile

    from pellucid.io.content import decoding

    with decoding("TIFF", path), tifffile.TiffFile(path) as file:
        return sum(math.prod(map(int, p.shape)) * max(1, int(getattr(p.dtype, "itemsize", 1) or 1)) for p in file.pages)


def _dicom(path: Path) -> int:
    """Rows times columns times frames; a deflated file is unpacked by the reader as a whole, so its header is not read here."""
    import pydicom

    from pellucid.io.content import decoding

    with decoding("DICOM", path, private=True):
        meta = pydicom.filereader.read_file_meta_info(path)
        if str(meta.get("TransferSyntaxUID", "")) == "1.2.840.10008.1.2.1.99":
            return _inflated(path)
        wanted = ["Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"]
        ds = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(wanted))
        told = [int(ds.get(k) or 1) for k in wanted]
        return math.prod(told[:4]) * max(1, told[4] // 8)


def _inflated(path: Path, most: int = 64 * MEBI) -> int:
    """At most: deflate packs no more than 1032 bytes into one, and a deflated file of more than a few megabytes is no bomb of note."""
    return path.stat().st_size * (1032 if path.stat().st_size < most else 8)
