"""Limits: what the viewer takes in, and what a file may grow to before it is read."""

from __future__ import annotations

import math
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pellucid.errors import BadFile
from pellucid.io.content import decoding, kind_of

MEBI = 2**20
PEEK = 1 * MEBI  # bytes of a file in which its size must be told
HEAD = 1024  # bytes that tell what a file is
BARE = (None, "NIfTI", "NPY")  # what is not packed any further; gzip in gzip (None) is no scan
PLAIN = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})  # transfer syntaxes that pack nothing
DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True)
class Limits:
    """In bytes: one upload, one request that is no upload, and what one scan may unpack to."""

    upload: int = 512 * MEBI
    body: int = 64 * MEBI
    unpacked: int = 4096 * MEBI
    files: int = 5000  # of a folder that is listed or uploaded


def weigh(path: Path, limits: Limits) -> int:
    """Bytes that a file unpacks to; one that unpacks to more than a scan may hold is refused, before a decoder allocates anything.

    Raises:
        BadFile: naming both sizes; or it is no regular file (a pipe would keep whoever opens it).
    """
    if not path.is_file():
        raise BadFile("a file", f"{path.name}, which is none", "Choose a file.")
    size = path.stat().st_size
    if size <= limits.unpacked:
        size = max(size, _unpacked(path, limits.unpacked))
    if size > limits.unpacked:
        raise _too_large(path.name, size, limits)
    return size


def weigh_all(folder: Path, limits: Limits, home: Sequence[Path]) -> None:
    """Refuse a folder whose files together are more than a scan may be. It is read as one DICOM series: other files count as they lie there.

    Raises:
        BadFile: too many files or bytes, or a link to a file outside of ``home``.
    """
    total = 0
    for n, path in enumerate(p for p in folder.rglob("*") if p.is_file()):
        if not any(path.resolve().is_relative_to(h) for h in home):
            raise BadFile("a folder whose files lie in the served folder", f"a link out of it: {path.name!r}", "Copy the files.")
        total += weigh(path, limits) if _may_be_dicom(path) else path.stat().st_size
        if n >= limits.files or total > limits.unpacked:
            got = f"more than {n} files, {total / MEBI:,.0f} MiB"
            raise BadFile("a folder that holds one scan", got, "Open a folder further down.")


def _may_be_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(HEAD)
    return head.startswith(b"\x1f\x8b") or kind_of(head) == "DICOM"


def _too_large(name: str, size: int, limits: Limits) -> BadFile:
    """The error about a scan that is larger than allowed."""
    got = f"{name}, which unpacks to {size / MEBI:,.0f} MiB or more"
    return BadFile(f"a scan of at most {limits.unpacked / MEBI:,.0f} MiB", got, "Crop it, or start the viewer with a larger --unpacked.")


def _unpacked(path: Path, most: int) -> int:
    """Bytes that a file says, or is found, to unpack to; 0 where it is not packed. Formats are told as the reader tells them."""
    with path.open("rb") as file:
        head = file.read(PEEK)
    if head.startswith(b"\x1f\x8b"):
        return _gunzipped(path, most)
    kind = kind_of(head)
    if kind == "ZIP":
        return _unzipped(path)
    if kind == "PNG" and len(head) >= 26:
        wide, tall, depth = struct.unpack(">IIB", head[16:25])
        return int(wide * tall * 4 * max(1, depth // 8))
    if kind == "JPEG":
        return _jpeg(path)
    if kind == "TIFF":
        return _tiff(path)
    return _dicom(path, head, most) if kind == "DICOM" else 0


def _gunzipped(path: Path, most: int) -> int:
    """Counted, not believed: the length that a gzip file states is modulo 2^32 and unchecked. What is packed inside is weighed in turn."""
    size, kind = 0, None
    with (
        tempfile.TemporaryDirectory(prefix="pellucid-") as folder,
        (Path(folder) / path.name).open("w+b") as inner,
        path.open("rb") as file,
    ):
        for block in _inflated(file, 31):
            known = size >= HEAD
            if not (known and kind in BARE):
                inner.write(block)
            size += len(block)
            if size > most:
                return size
            if not known:
                inner.seek(0)
                kind = kind_of(inner.read(HEAD))
                inner.seek(0, os.SEEK_END)
        inner.flush()
        return size if kind in BARE else max(size, _unpacked(Path(inner.name), most))


def _inflated(file: IO[bytes], how: int) -> Iterator[bytes]:
    """The blocks of a deflated stream (``how`` as zlib counts), or of several in a row; a damaged one ends early: the reader says where."""
    turn = zlib.decompressobj(how)
    while data := file.read(MEBI):
        while data:
            try:
                yield turn.decompress(data, MEBI)
            except zlib.error:
                return
            data = turn.unconsumed_tail
            if turn.eof:
                data, turn = turn.unused_data, zlib.decompressobj(how)


def _unzipped(path: Path) -> int:
    try:
        with zipfile.ZipFile(path) as pack:
            return sum(one.file_size for one in pack.infolist())
    except (zipfile.BadZipFile, OSError):
        return 0


def _jpeg(path: Path) -> int:
    """As the reader's own decoder finds it, which allocates nothing yet: fill bytes, comments and noise may stand before the frame header."""
    from PIL import Image as Pil

    with decoding("picture", path), Pil.open(path, formats=("JPEG",)) as picture:
        return math.prod(picture.size) * 4


def _tiff(path: Path) -> int:
    import tifffile

    with decoding("TIFF", path), tifffile.TiffFile(path) as file:
        return sum(math.prod(map(int, p.shape)) * max(1, int(getattr(p.dtype, "itemsize", 1) or 1)) for p in file.pages)


def _dicom(path: Path, head: bytes, most: int) -> int:
    """Rows times columns times frames; of a deflated file what is found when it is unpacked; 0 where nothing in it is packed."""
    import pydicom

    with decoding("DICOM", path, private=True):
        meta = pydicom.filereader.read_file_meta_info(path) if head[128:132] == b"DICM" else pydicom.Dataset()
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if syntax in PLAIN:
            return 0
        if syntax == DEFLATED:
            # the dataset begins behind the group of meta elements, whose first one tells its length (DICOM PS3.10, 7.1)
            return _counted(path, 144 + int(meta["FileMetaInformationGroupLength"].value), most)
        wanted = ["Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"]
        ds = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(wanted))
        told = [int(ds.get(k) or 1) for k in wanted]
        return math.prod(told[:4]) * max(1, told[4] // 8)


def _counted(path: Path, start: int, most: int) -> int:
    """Bytes in the deflated stream that begins there, counted until they are too many."""
    size = 0
    with path.open("rb") as file:
        file.seek(start)
        for block in _inflated(file, -15):
            size += len(block)
            if size > most:
                break
    return size
