"""Offers: indexes, concepts, influences and findings that the command line named, and the folders whose images may be shown as cases. Never an upload."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pellucid.concepts import Concepts
from pellucid.errors import BadFile, PellucidError
from pellucid.exemplars import Influence
from pellucid.exemplars.index import MANIFEST, Entry, Index, open_index
from pellucid.findings import Finding
from pellucid.image import Image, digest
from pellucid.io import read
from pellucid.model import Model
from pellucid.report.whole import KINDS, Whole
from pellucid.viewer.limits import MEBI, weigh, weigh_all
from pellucid.viewer.scans import Recent
from pellucid.viewer.shelf import Shelf
from pellucid.viewer.showing import thumbnail
from pellucid.viewer.store import missing

T = TypeVar("T")
LARGEST = 64 * MEBI  # of a file of results
DEEP, MOST = 2, 500  # how far below a folder results are looked for, and how many files


@dataclass(frozen=True)
class Beside:
    """Paths as the command line named them: folders of indexes; files, or folders with files, of concepts, of influence, and of findings of the model as
    a whole; ``cases``: further folders whose images may be shown. ``names``: file names of cases are told."""

    indexes: tuple[Path, ...] = ()
    concepts: tuple[Path, ...] = ()
    influences: tuple[Path, ...] = ()
    cases: tuple[Path, ...] = ()
    names: bool = False
    findings: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A case as PNG; or none, and why."""

    png: bytes = field(default=b"", repr=False)
    why: str = ""


@dataclass(eq=False)
class Offers:
    """What a viewer can show beside its maps, by the names of the folders; each index is opened anew when it has grown."""

    shelf: Shelf
    given: Beside
    _indexes: Recent[Index] = field(default_factory=lambda: Recent(4))
    _concepts: Recent[Concepts] = field(default_factory=lambda: Recent(4))
    _influences: Recent[Influence] = field(default_factory=lambda: Recent(8))
    _findings: Recent[Whole] = field(default_factory=lambda: Recent(24))

    @property
    def indexes(self) -> dict[str, Path]:
        """Folders of indexes by their names."""
        return _named(self.given.indexes)

    @property
    def concepts(self) -> dict[str, Path]:
        """Files of concepts by the names of what was given."""
        return {n: p / "concepts.json" if p.is_dir() else p for n, p in _named(self.given.concepts).items()}

    def index(self, key: str) -> Index:
        """An index by its name.

        Raises:
            BadFile: none of that name, a damaged one, or one without cases. No path is told.
        """
        home = _one(self.indexes, key, "indexes")
        found = self._indexes.get(f"{key}\0{_stamp(home / MANIFEST)}", lambda: _opened(open_index, home, key))
        if not len(found):
            raise BadFile(f"an index with cases: {key}", "none", "Build it again.")
        return found

    def concepts_of(self, key: str) -> Concepts:
        """What ``pellucid concepts`` found, by its name.

        Raises:
            BadFile: none of that name, or a damaged one. No path is told.
        """
        file = _one(self.concepts, key, "concepts")
        return self._concepts.get(f"{key}\0{_stamp(file)}", lambda: _opened(Concepts.load, file, key))

    def influences(self, scan: str) -> tuple[dict[str, Influence | PellucidError], int]:
        """What ``pellucid influence`` found for a scan (its fingerprint), or what is wrong with it; and how many files are about other scans."""
        found: dict[str, Influence | PellucidError] = {}
        others = 0
        for name, path in _named(self.given.influences).items():
            alone = not path.is_dir()
            for file in [path] if alone else itertools.islice(_below(path), MOST):
                told = name if alone else f"{name}/{file.relative_to(path).as_posix()}"
                try:
                    about = _about(file, told)
                    if about == scan:
                        one = self._influences.get(f"{told}\0{_stamp(file)}", lambda f=file, n=told: _opened(Influence.load, f, n))  # type: ignore[misc]
                        found[told] = one
                    else:
                        others += 1
                except PellucidError as error:
                    if alone or file.name == "influence.json":  # other files may lie there too
                        found[told] = error
        return found, others

    @property
    def findings(self) -> dict[str, Path]:
        """Files of effects and prototypes by name; in a folder other files may lie too."""
        found: dict[str, Path] = {}
        for name, path in _named(self.given.findings).items():
            if path.is_dir():
                files = (f for f in itertools.islice(_below(path), MOST) if _whole(f))
                found |= {f"{name}/{f.relative_to(path).as_posix()}": f for f in files}
            else:
                found[name] = path
        return found

    def finding(self, key: str) -> tuple[Whole, str]:
        """What effects or prototypes found, by its name, and what its file holds as a hash.

        Raises:
            BadFile: none of that name, a damaged one, or one of another kind. No path is told.
        """
        file = _one(self.findings, key, "findings")
        if not file.is_file() or file.stat().st_size > LARGEST:
            raise BadFile(f"a finding: {key}", "one that is too large" if file.is_file() else "no file", "Save it again.")
        mark = _stamp(file)
        return self._findings.get(f"{key}\0{mark}", lambda: _opened(_as_whole, file, key)), mark

    def picture(self, net: Model, entry: Entry) -> Picture:
        """A case of an index as a thumbnail: read where it may be read, and only if it is the image that was described."""
        path = self.where(entry)
        if isinstance(path, str):
            return Picture(why=path)
        try:
            if path.is_dir():
                weigh_all(path, self.shelf.limits, self._homes())
            else:
                weigh(path, self.shelf.limits)
            image = read(path)
            same = net.ready(image)[0].fingerprint == entry.image
        except PellucidError:
            return Picture(why="Its file cannot be read.")
        if not same:
            return Picture(why="Its file holds another image than the one that was compared.")
        return self.shown(image)

    def where(self, entry: Entry) -> Path | str:
        """Where a case lies, or why it cannot be shown."""
        if not entry.name:
            return "The index does not say where its image lies."
        path = self._allowed(entry.name)
        if path is None:
            return "Its file lies outside of the folders that may be shown: the served one, and those of --cases."
        return path if path.exists() else "Its file is gone."

    def shown(self, image: Image) -> Picture:
        """A thumbnail; none where its pixels may name a patient, unless names are told."""
        if not self.given.names and any("burned in" in note for note in image.notes):
            return Picture(why="Text in its pixels may name the patient; --names shows it.")
        return Picture(thumbnail(image))

    def _homes(self) -> tuple[Path, ...]:
        return tuple(p.resolve() for p in (self.shelf.root, *self.given.cases))

    def _allowed(self, name: str) -> Path | None:
        """Where a case lies, links followed; None outside of the folders, in the viewer's own, or under a hidden name."""
        for home in self._homes():
            try:
                found = (home / name).resolve()
            except (OSError, ValueError, RuntimeError):
                continue
            inside = found.is_relative_to(home) and not found.is_relative_to(self.shelf.hidden.resolve())
            if inside and not any(p.startswith(".") for p in found.relative_to(home).parts):
                return found
        return None


def _opened(how: Callable[[Path], T], path: Path, name: str) -> T:
    """A file or folder opened; an error tells its name alone, whatever is wrong with it."""
    try:
        return how(path)
    except PellucidError as error:
        told = (t.replace(str(path), name).replace(f"{path.parent}/", "") for t in (error.asked, error.got, error.fix))
        raise type(error)(*told) from error
    except Exception as error:  # whatever a damaged file raises
        raise BadFile(f"results of Pellucid: {name}", "a file that cannot be read", "It is damaged: make it anew.") from error


def _as_whole(file: Path) -> Whole:
    found = Finding.load(file)
    if not isinstance(found, Whole):
        raise BadFile(
            f"effects or prototypes: {file}", f"a file of {found.kind}", "Give what `pellucid effects` or `pellucid prototypes` wrote."
        )
    return found


def _whole(file: Path) -> bool:
    """Whether a file is of effects or prototypes, or bears the name of one and is damaged."""
    try:
        with file.open("rb") as data:
            kind = re.search(rb'"kind": "([a-z ]+)"', data.read(200))
    except OSError:
        kind = None
    return file.stem in KINDS if kind is None else kind.group(1).decode() in KINDS


def _stamp(file: Path) -> str:
    """What a file holds: it is opened anew when it has changed."""
    try:
        return digest(file.read_bytes()) if file.is_file() and file.stat().st_size <= LARGEST else ""
    except OSError:
        return ""


def _about(file: Path, name: str) -> str:
    """The fingerprint of the scan that a file of influence is about.

    Raises:
        BadFile: no file, too large, or of another kind. No path is told.
    """
    asked, fix = f"what `pellucid influence` saved: {name}", "Save it again: pellucid influence --out."
    try:
        if not file.is_file() or file.stat().st_size > LARGEST:
            raise BadFile(asked, "no file" if not file.is_file() else "one that is too large", fix)
        facts = json.loads(file.read_text(encoding="utf-8"))
        if facts["kind"] != "influence":
            raise BadFile(asked, "a file of another kind", fix)
        return str(facts["provenance"]["scan"])
    except BadFile:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadFile(asked, "a file that cannot be read", fix) from error


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by what people call them: the folder's name, or that of the file where it says more than its kind."""
    found: dict[str, Path] = {}
    for path in paths:
        plain = path.suffix == ".json" and path.stem in ("concepts", "influence", "dose", "sequences", *KINDS)
        name = (path.resolve().parent if plain else path.resolve()).name if plain or path.is_dir() else path.stem
        name = re.sub(r"[^\w .()-]", "_", name)[:60] or "results"
        first, n = name, 1
        while name in found:
            n += 1
            name = f"{first} ({n})"
        found[name] = path
    return found


def _one(given: dict[str, Path], key: str, kind: str) -> Path:
    if key not in given:
        raise missing(kind, key)
    return given[key]


def _below(folder: Path) -> Iterator[Path]:
    level = [folder]
    for _ in range(DEEP + 1):
        below: list[Path] = []
        for one in level:
            for path in sorted(one.iterdir()):
                if path.name.startswith("."):
                    continue
                if path.is_dir() and not path.is_symlink():
                    below.append(path)
                elif path.suffix == ".json":
                    yield path
        level = below
