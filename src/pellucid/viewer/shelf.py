"""The shelf: what lies in the folder that is served, a level at a time; and nothing that lies outside of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pellucid.errors import BadFile
from pellucid.io.content import kind_of
from pellucid.viewer.limits import Limits

SCANS = ("DICOM", "NIfTI", "NPY", "ZIP", "TIFF", "PNG", "JPEG")


@dataclass(frozen=True)
class Entry:
    """One line of a listing: a folder, a scan, or (kind ``DICOM``, no file) the DICOM files that lie in the listed folder."""

    path: str
    name: str
    kind: str
    size: int = 0
    files: int = 1


@dataclass(frozen=True)
class Shelf:
    """A folder of scans. Paths are relative to it, with slashes; ``hidden`` is the viewer's own folder, where it lies inside."""

    root: Path
    hidden: Path
    limits: Limits

    def find(self, path: str) -> Path:
        """A path inside the folder; links are followed first.

        Raises:
            BadFile: it leads outside, is hidden, or does not exist.
        """
        parts = PurePosixPath(path).parts
        outside = BadFile("a path inside the served folder", repr(path[:120]), "Choose from the listing.")
        if "\0" in path or "\\" in path or any(p in ("..", "/") or p.startswith(".") or ":" in p for p in parts):
            raise outside
        home = self.root.resolve()
        try:
            found = (home / Path(*parts)).resolve()
            there = found.is_file() or found.is_dir()  # a pipe would keep whoever opens it
        except (OSError, ValueError, RuntimeError) as error:
            raise outside from error
        if not found.is_relative_to(home) or self._is_ours(found):
            raise outside
        if not there:
            raise BadFile("a file or folder in the served folder", f"{path[:120]!r}, which is not there", "List the folder again.")
        return found

    def relative(self, path: Path) -> str:
        """A path of this folder as it is told to the page."""
        text = path.relative_to(self.root.resolve()).as_posix()
        return "" if text == "." else text

    def list(self, path: str) -> tuple[list[Entry], int]:
        """Folders and scans directly in a folder, and how many files are none or were too many to look at."""
        folder = self.find(path)
        if not folder.is_dir():
            raise BadFile("a folder to list", repr(path[:120]), "Open it as a scan.")
        entries: list[Entry] = []
        dicom, left, seen = 0, 0, 0
        for one in sorted(folder.iterdir(), key=lambda p: p.name.lower()):
            if one.name.startswith(".") or not self._inside(one):
                continue
            seen += 1
            where = f"{path.strip('/')}/{one.name}".lstrip("/")
            if seen > self.limits.files:
                left += 1
            elif one.is_dir():
                entries.append(Entry(where, one.name, "folder"))
            elif (kind := _kind(one)) in SCANS:
                dicom += kind == "DICOM"
                entries.append(Entry(where, one.name, str(kind), one.stat().st_size))
            else:
                left += 1
        if dicom > 1:  # slices are one scan, not hundreds
            entries = [e for e in entries if e.kind != "DICOM"]
            entries.append(Entry(path.strip("/"), f"{dicom} DICOM files", "DICOM", files=dicom))
        return sorted(entries, key=lambda e: (e.kind != "folder", e.name.lower())), left

    def _inside(self, path: Path) -> bool:
        try:
            found = path.resolve()
        except (OSError, RuntimeError):
            return False
        return found.is_relative_to(self.root.resolve()) and not self._is_ours(found) and found.exists()

    def _is_ours(self, path: Path) -> bool:
        return path.is_relative_to(self.hidden.resolve())


def _kind(path: Path) -> str | None:
    """The format by content; a gzipped file is taken for NIfTI if its name says so."""
    try:
        if not path.is_file():  # a pipe would keep whoever opens it
            return None
        with path.open("rb") as file:
            head = file.read(348)
    except OSError:
        return None
    if head.startswith(b"\x1f\x8b"):
        return "NIfTI" if path.name.lower().endswith((".nii.gz", ".gz")) else None
    if head.startswith(b"PK") and path.suffix.lower() != ".npz":
        return None
    return kind_of(head)
