"""What a file is, told by its first bytes; and the one place where a reader's exceptions become ``BadFile``."""

from __future__ import annotations

import gzip
import hashlib
import logging
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadFile, PellucidError

Kind = Literal["DICOM", "NIfTI", "NPY", "ZIP", "TIFF", "PNG", "JPEG"]
MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\x93NUMPY", "NPY"),
    (b"PK\x03\x04", "ZIP"),
)
KNOWN = "Pellucid reads DICOM, NIfTI (.nii, .nii.gz), PNG, JPEG, TIFF, .npy and its own .npz."


MOST_UNPACKED = 4 * 2**30  # bytes that a compressed file may grow to unless its header promises more
SLACK = 2**24  # bytes after what the header promises, e.g. extensions at the end


@dataclass(frozen=True)
class Blob:
    """A file that came over the network; read like a path, shown by its name."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name

    def read_bytes(self) -> bytes:
        """All of it."""
        return self.data

    def open(self, mode: str = "rb") -> BytesIO:
        """A stream over it."""
        return BytesIO(self.data)


Source = Path | Blob


def kind_of(data: bytes) -> Kind | None:
    """The format that the bytes show, or None: a suffix is never believed."""
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[344:348] in (b"n+1\0", b"ni1\0") or data[4:8] in (b"n+2\0", b"ni2\0"):
        return "NIfTI"
    for magic, kind in MAGIC:
        if data.startswith(magic):
            return kind
    # DICOM without preamble: the first element is of group 2 or 8, in either byte order
    if data[:4] in (b"\x02\0\0\0", b"\0\x02\0\0") or (data[:2] in (b"\x08\0", b"\0\x08") and len(data) > 132):
        return "DICOM"
    return None


def load(path: Source) -> tuple[bytes, str]:
    """The bytes of a file, gunzipped where they are gzipped, and the sha256 of the file as it lies on disk.

    Raises:
        BadFile: the file cannot be read, is empty, or its gzip stream is damaged or grows beyond what it may.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadFile(f"read {path}", error.strerror or type(error).__name__, "Check the path and its permissions.") from error
    if not data:
        raise BadFile(f"read {path}", "an empty file (0 bytes)", "Copy or download it again.")
    digest = hashlib.sha256(data).hexdigest()
    return (gunzip(data, path) if data.startswith(b"\x1f\x8b") else data), digest


def gunzip(data: bytes, path: Source) -> bytes:
    """Unpack a gzip stream, checksum and all, up to what the header inside promises (a NIfTI), else to MOST_UNPACKED."""
    blocks: list[bytes] = []
    size, limit = 0, MOST_UNPACKED
    try:
        with gzip.GzipFile(fileobj=BytesIO(data)) as stream:
            while block := stream.read(2**20):
                if not blocks and (need := promised(block)) is not None:
                    limit = need + SLACK
                size += len(block)
                if size > limit:
                    got = f"more than {limit:,} bytes inside {len(data):,}"
                    raise BadFile(f"gunzip {path}", got, "It holds more than its header promises: export it again.")
                blocks.append(block)
    except (OSError, EOFError, zlib.error) as error:
        raise BadFile(f"gunzip {path}", f"a damaged stream ({error})", "Copy or download it again.") from error
    return b"".join(blocks)


def promised(head: bytes) -> int | None:
    """How many bytes a NIfTI header says the file has, or None where it is no NIfTI."""
    first = kind_of(head) == "NIfTI" and head[4:7] not in (b"n+2", b"ni2")
    if len(head) < 540 or kind_of(head) != "NIfTI":
        return None
    size, bits, offset = ("h", 72, 108) if first else ("q", 14, 168)
    for order in "<>":
        if struct.unpack_from(f"{order}i", head)[0] in (348, 540):
            rank, *extents = struct.unpack_from(f"{order}8{size}", head, 40 if first else 16)
            start = struct.unpack_from(f"{order}{'f' if first else 'q'}", head, offset)[0]
            values = math.prod(max(0, n) for n in extents[: max(0, min(rank, 7))])
            return values * abs(struct.unpack_from(f"{order}h", head, bits)[0]) // 8 + (int(start) if 0 <= start < 2**40 else 0)
    return None


@contextmanager
def decoding(kind: str, path: Source, *, private: bool = False) -> Iterator[None]:
    """Turn whatever a third-party reader raises on a corrupt file into ``BadFile``.

    ``private`` keeps the reader's own words out of message and traceback: they may quote header values, which may name
    a patient. For the same reason its warnings and its log are not shown; what a person must know is noted by us.
    """
    try:
        with warnings.catch_warnings(), silent("pydicom", "nibabel.global", "tifffile"):
            warnings.simplefilter("ignore")
            yield
    except PellucidError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # a crash inside a decoder written in Rust
            raise
        words = "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split())[:160])
        said = type(error).__name__ if private else f"{type(error).__name__}: {words}"
        fix = "It is truncated or corrupt: copy or export it again."
        raise BadFile(f"read {path} as {kind}", said, fix) from (None if private else error)


@contextmanager
def silent(*names: str) -> Iterator[None]:
    """Drop what this thread logs under these names and below them meanwhile."""
    below = tuple(f"{n}." for n in names)
    known = [n for n in list(logging.root.manager.loggerDict) if n.startswith(below)]
    mine, loggers = threading.get_ident(), [logging.getLogger(n) for n in (*names, *known)]

    def others(record: logging.LogRecord) -> bool:
        return record.thread != mine

    for logger in loggers:
        logger.addFilter(others)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(others)


def tensor(values: np.ndarray, path: Source) -> Tensor:
    """An array of any real dtype as a contiguous float32 tensor (float64 where float32 would round integers).

    Raises:
        BadFile: not real numbers, or not finite.
    """
    if values.dtype.kind not in "biuf":
        raise BadFile(f"read {path}", f"samples of type {values.dtype}", "Save real numbers: magnitude, real part or labels.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        fix = "Save it without them, e.g. numpy.nan_to_num(values)."
        raise BadFile(f"read {path}", f"{bad} of {values.size} samples NaN or infinite", fix)
    whole = values.dtype.kind in "iu" and values.dtype.itemsize > 2
    wide = whole and max(int(values.max()), -int(values.min())) > 2**24
    with np.errstate(over="ignore"):  # what overflows is refused below
        out = np.ascontiguousarray(values, dtype=np.float64 if wide else np.float32)
    if not np.isfinite(out).all():
        raise BadFile(f"read {path}", "values beyond the range of float32", "Scale them before saving.")
    return torch.from_numpy(out if out.flags.writeable else out.copy())
