"""From bytes to a pydicom dataset, with bounds that no honest file reaches."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

from pellucid.errors import BadFile
from pellucid.io.content import MOST_UNPACKED, Source

MOST_ELEMENTS = 50_000  # at the top level of one file; a few hundred are usual
DEFLATED = b"1.2.840.10008.1.2.1.99"
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)


def parsed(stream: BinaryIO, path: Source, only: Sequence[str] | None = None) -> Any:
    """A dataset; with ``only``, those elements of its header and no pixels. Call it inside ``decoding``.

    Raises:
        BadFile: a deflated dataset or a number of elements beyond all bounds: a bomb, or zeros where elements should be.
    """
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    head = stream.read(2048)
    if DEFLATED in head:
        _check_deflated(head + stream.read(), path)
    stream.seek(0)
    seen = 0

    def stop(tag: int, _: str | None, __: int) -> bool:
        nonlocal seen
        seen += 1
        if seen > MOST_ELEMENTS:
            raise BadFile(f"read {path} as DICOM", f"more than {MOST_ELEMENTS} elements", "It is corrupt: copy or export it again.")
        return only is not None and int(tag) in PIXELS

    wanted = None if only is None else [Tag(k) for k in only]
    return read_partial(stream, stop_when=stop, force=True, specific_tags=wanted)


def _check_deflated(data: bytes, path: Source) -> None:
    """Count what a deflated dataset unpacks to, before anything keeps it. The group length of the file meta says where it starts."""
    start = 144 + struct.unpack_from("<I", data, 140)[0] if data[128:136] == b"DICM\x02\0\0\0" else len(data)
    unpack, size, rest = zlib.decompressobj(-15), 0, data[start:]
    while rest and not unpack.eof:
        size += len(unpack.decompress(rest[:65536], 2**24))
        rest = unpack.unconsumed_tail + rest[65536:]
        if size > MOST_UNPACKED:
            raise BadFile(f"inflate {path}", f"more than {MOST_UNPACKED:,} bytes inside {len(data):,}", "It is no scan: export it again.")
