"""Members of an archive: read with a bound, so that a small file never unpacks to more than it may."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from pellucid.errors import BadFile
from pellucid.loading.trust import reading

MOST_TEXT = 16 * 2**20  # a description of a network; the longest known are some kB
COMPLETE = "Is it complete?"


def names(path: Path) -> list[str]:
    """What lies in a zip; empty for another kind of file."""
    with reading(str(path), COMPLETE):
        if not zipfile.is_zipfile(path):
            return []
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()


def as_stored(path: Path, starts: Sequence[str]) -> tuple[dict[str, bytes], str]:
    """Members of an archive of torch by their names without its own folder, and the sha256 of the very file they were read from.

    Raises:
        BadFile: damaged, a name twice, or it would unpack to more than the file's own size (torch never compresses).
    """
    with reading(str(path), COMPLETE), path.open("rb") as file, zipfile.ZipFile(file) as archive:
        _bounded(archive, path.stat().st_size, path)
        found: dict[str, bytes] = {}
        for info in archive.infolist():
            short = info.filename.split("/", 1)[-1]
            if short.startswith(tuple(starts)):
                if short in found:
                    raise BadFile(f"each name once in {path}", f"{short} twice", "Export it again.")
                found[short] = archive.read(info)
        file.seek(0)
        return found, hashlib.file_digest(file, "sha256").hexdigest()


def unpacked_is_bounded(data: bytes, path: Path) -> None:
    """Refuse the bytes of a zip that unpacks to more than its own size; another kind of file cannot.

    Raises:
        BadFile: compressed, or members that lie over one another.
    """
    with reading(str(path), COMPLETE):
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                _bounded(archive, len(data), path)


def _bounded(archive: zipfile.ZipFile, size: int, path: Path) -> None:
    unpacked = sum(i.file_size for i in archive.infolist())
    if unpacked > size:
        raise BadFile(f"{path} as torch writes it, not compressed", f"{size} bytes that unpack to {unpacked}", "Save it again with torch.")


def text(path: Path, inside: str | None = None) -> bytes:
    """A small file, or a member of a zip, as a whole.

    Raises:
        BadFile: missing, damaged, or longer than any description of a network.
    """
    with reading(f"{inside or path.name} of {path if inside else path.parent}", "Give a MONAI bundle's folder or zip."):
        if inside is None:
            if not path.is_file():  # a pipe would never end
                raise FileNotFoundError("no such file")
            with path.open("rb") as file:
                found = file.read(MOST_TEXT + 1)
        else:
            with zipfile.ZipFile(path) as archive, archive.open(inside) as member:
                found = member.read(MOST_TEXT + 1)
    if len(found) > MOST_TEXT:
        raise BadFile(f"{inside or path} is text of at most {MOST_TEXT} bytes", "more", "Is it a MONAI bundle's?")
    return found
