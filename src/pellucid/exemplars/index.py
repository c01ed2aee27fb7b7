"""Index: what a network made of many images, kept in a folder, searched exactly, and refused for any other network or measure."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.asking import Scan, as_image, versions
from pellucid.errors import BadFile, BadImage, BadParameter
from pellucid.exemplars.measures import Described, Guided, Measure, as_measure, described
from pellucid.exemplars.search import Found, Rows, Search
from pellucid.exemplars.structural import Pictures
from pellucid.files import lock, own, put, whole
from pellucid.image import digest
from pellucid.model import Model
from pellucid.run import Run
from pellucid.written import written

VERSION = 1
MANIFEST, DOOR = "index.json", "index.lock"
OURS = re.compile(r"\.?[0-9a-f]{32}(\.entries)?\.(npy|json)")  # parts, and drafts of a process that was killed


@dataclass(frozen=True)
class Key:
    """What a row depends on besides its image: the network (identity, weights, preparation, normalization) and the measure with its site."""

    network: str
    weights: str
    prepare: str
    normalize: str
    measure: str

    @classmethod
    def of(cls, model: Model, measure: Measure) -> Key:
        """The key of a settled measure on a network."""
        return cls(model.identity, model.fingerprint, written(model.prepare), written(model.normalize), repr(measure))

    def check(self, other: Key) -> None:
        """Raise BadParameter, and say in what they differ, unless ``other`` is this key."""
        if self == other:
            return
        named = {"measure": "measure or site", "weights": "network", "prepare": "preparation", "normalize": "normalization"}
        differ = [word for name, word in named.items() if getattr(self, name) != getattr(other, name)] or ["network's structure or reading"]
        short = other.measure if "measure or site" in differ else f"network {other.network[:12]}"
        asked = f"an index of {self.measure} on network {self.network[:12]}"
        raise BadParameter(asked, f"one with another {' and '.join(differ)} ({short})", "Build an index for this network and measure.")


@dataclass(frozen=True)
class Entry:
    """What is known of one image: its fingerprint (of the prepared image), its label, who it is of (hashed), its name (never printed)."""

    image: str
    label: str = ""
    patient: str = ""
    name: str = field(default="", repr=False)


@dataclass(frozen=True, eq=False)
class Index:
    """Rows (n, d) of n images under a key, with what is known of each; kept in ``folder`` if there is one.

    ``shape`` is what a row was flattened from. Patients are hashed with the index's own ``salt``: two indexes cannot be joined by them, but who
    has the folder and a list of patients can find out who is in it. Names and labels are kept as given and names are never printed.
    An index is a value: ``add`` gives a longer one. In a folder, rows are appended as new files and come to count only when the list of files
    is replaced as a whole, so that a crash at any moment leaves the index as it was before.
    """

    key: Key
    rows: Rows = field(repr=False)
    entries: tuple[Entry, ...] = field(repr=False)
    shape: tuple[int, ...]
    measure: Measure
    salt: str = field(repr=False)
    folder: Path | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Index({len(self)} images, {self.key.measure}, network {self.key.network[:12]})"

    @cached_property
    def search(self) -> Search | Pictures:
        """The rows made ready for search, once."""
        if self.measure.metric == "ssim":
            return Pictures(self.rows, self.shape, self.measure.span)  # type: ignore[attr-defined]
        return Search.over(self.rows, self.measure.metric)  # type: ignore[arg-type]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(e.label for e in self.entries)

    def hashed(self, patient: object) -> str:
        """What this index calls a patient; nothing for nobody."""
        return "" if patient is None or patient == "" else hashlib.sha256(f"{self.salt}/{patient}".encode()).hexdigest()[:32]

    def nearest(self, rows: NDArray[np.floating], k: int, *, without: object = None) -> list[Found]:
        """The ``k`` nearest images of each row (q, d), leaving out those of the patient ``without``.

        Raises:
            BadParameter: rows of another width, or no k.
        """
        leave = None if without is None else np.array([e.patient == self.hashed(without) for e in self.entries])
        return self.search.nearest(rows, k, leave=leave)

    def add(
        self,
        model: Model,
        scans: Sequence[Scan],
        *,
        labels: Sequence[object] | None = None,
        patients: Sequence[object] | None = None,
        names: Sequence[str] | None = None,
        run: Run | None = None,
    ) -> Index:
        """This index with more images; in its folder too, whole or not at all.

        Raises:
            BadParameter: another network, no image, or not as many labels, patients or names as images.
            BadImage: an image whose row has another length.
            BadFile: the folder was changed by somebody else since this index was opened.
        """
        if not len(scans):
            raise BadParameter("at least one image", "none", "Give the images.")
        self.key.check(Key.of(model, self.measure))
        facts = _facts(len(scans), labels, patients, names)
        rows, entries, shape, notes = _table(self, described(model, scans, self.measure, run or Run()), facts)
        if shape != self.shape and self.measure.metric != "cosine":
            raise BadImage(f"an image whose row is of shape {self.shape}", str(shape), "Bring the images to one size in prepare=.")
        if rows.shape[1] != self.rows.shape[1]:
            raise BadImage(f"a row of {self.rows.shape[1]} numbers", f"{rows.shape[1]}", "Bring the images to one size in prepare=.")
        longer = replace(self, rows=np.concatenate([self.rows, rows]), entries=(*self.entries, *entries), notes=(*self.notes, *notes))
        if self.folder is not None:
            _append(self, rows, entries, notes)
        return longer


def build_index(
    model: Model,
    scans: Sequence[Scan],
    *,
    by: Measure | str = "features",
    labels: Sequence[object] | None = None,
    patients: Sequence[object] | None = None,
    names: Sequence[str] | None = None,
    folder: str | Path | None = None,
    run: Run | None = None,
) -> Index:
    """An index of images by a measure, in memory or in a new folder.

    Args:
        model: the network described.
        scans: images, tensors (c, *space) or paths, at least one.
        by: a measure, or its short name: features, weighted, map, ssim, perceptual.
        labels: what each image is known to be.
        patients: who each is of; kept hashed.
        names: as the caller knows them; kept, never printed.
        folder: a folder that is empty or does not exist.
        run: seed, memory, progress (a tick an image), cancel.

    Raises:
        BadParameter: no image, an unknown measure, or not as many labels, patients or names as images.
        BadImage: rows of several lengths.
        BadFile: the folder holds something.
    """
    if not len(scans):
        raise BadParameter("at least one image", "none", "Give the images.")
    facts = _facts(len(scans), labels, patients, names)
    home = None if folder is None else _new_folder(Path(folder))
    measure = as_measure(by).settled(model, as_image(scans[0]))
    empty = Index(Key.of(model, measure), np.empty((0, 0), np.float32), (), (), measure, secrets.token_hex(16))
    rows, entries, shape, notes = _table(empty, described(model, scans, measure, run or Run()), facts)
    made = replace(empty, rows=rows, entries=entries, shape=shape, notes=notes, folder=home)
    if home is not None:
        _append(made, rows, entries, notes, fresh=True)
    return made


def open_index(folder: str | Path, by: Measure | str | None = None) -> Index:
    """An index from its folder, every file checked against its hash. ``similar`` and ``add`` refuse it for another network.

    Args:
        folder: where ``build_index`` put it.
        by: the measure that it must be of; None: any.

    Raises:
        BadFile: no index, one of a newer version, or a damaged file.
        BadParameter: an index of another measure.
    """
    home = Path(folder)
    told = _manifest(home)
    measure = _measure_of(told["measure"])
    if by is not None and type(as_measure(by)) is not type(measure):
        raise BadParameter(f"an index of {as_measure(by)!r}", repr(measure), "Open another folder, or leave by= out.")
    rows, entries = [], []
    for part in told["parts"]:
        rows.append(_rows(home, part))
        entries += [Entry(*e) for e in json.loads(_bytes(home / part["entries"], part["entries_sha256"]))]
    table = rows[0] if len(rows) == 1 else np.concatenate(rows)
    if len(table) != len(entries):
        raise BadFile(f"an index in {home}", f"{len(table)} rows for {len(entries)} images", "Build it again.")
    return Index(Key(**told["key"]), table, tuple(entries), tuple(told["shape"]), measure, told["salt"], home, tuple(told["notes"]))


def _facts(n: int, *columns: Sequence[object] | None) -> list[tuple[str, str, str]]:
    for word, column in zip(("labels", "patients", "names"), columns, strict=True):
        if column is not None and len(column) != n:
            raise BadParameter(f"{word} for {n} images", f"{len(column)}", "Give as many.")
    filled: list[list[str]] = [[""] * n if c is None else ["" if v is None else str(v) for v in c] for c in columns]
    return [(filled[0][i], filled[1][i], filled[2][i]) for i in range(n)]


def _table(
    index: Index, seen: Any, facts: Sequence[tuple[str, str, str]]
) -> tuple[Rows, tuple[Entry, ...], tuple[int, ...], tuple[str, ...]]:
    rows: Rows | None = None
    entries: list[Entry] = []
    shape: tuple[int, ...] = ()
    notes: dict[str, int] = {}
    one: Described
    for i, (one, (label, patient, name)) in enumerate(zip(seen, facts, strict=True)):
        if rows is None:
            rows, shape = np.empty((len(facts), len(one.row)), np.float32), one.shape
        same = one.shape == shape or index.measure.metric == "cosine"
        if len(one.row) != rows.shape[1] or not same:
            raise BadImage(f"rows of shape {shape}", f"{one.shape} for image {i}", "Bring the images to one size in prepare=.")
        rows[i] = one.row
        entries.append(Entry(one.image, label, index.hashed(patient), name))
        notes |= {one.note: notes.get(one.note, 0) + 1} if one.note else {}
    assert rows is not None
    return rows, tuple(entries), shape, tuple(f"{note} (of {n} images)" for note, n in notes.items())


def _new_folder(home: Path) -> Path:
    if home.exists() and (not home.is_dir() or any(p.name != DOOR for p in home.iterdir())):
        raise BadFile(f"an empty folder for an index: {home}", "something in it", "Choose another, or open_index(folder).add(...).")
    home.mkdir(parents=True, exist_ok=True)
    return home


def _append(index: Index, rows: Rows, entries: Sequence[Entry], notes: Sequence[str], *, fresh: bool = False) -> None:
    """Rows and entries as new files, then the list of files in one step; files that no list names are of a crash, and go."""
    home = index.folder
    assert home is not None
    with own(home / DOOR) as door:
        lock(door)
        parts = [] if fresh else _manifest(home)["parts"]
        if (fresh and (home / MANIFEST).exists()) or sum(p["count"] for p in parts) != (0 if fresh else len(index)):
            raise BadFile(f"the index in {home} as it was opened", "one changed since", "Open it again: open_index(folder).")
        listed = {p[kind] for p in parts for kind in ("rows", "entries")} | {MANIFEST, DOOR}
        for left in (p for p in home.iterdir() if p.name not in listed and OURS.fullmatch(p.name)):
            left.unlink()
        stem = uuid.uuid4().hex
        with whole(home / f"{stem}.npy") as draft, draft.open("wb") as file:
            np.save(file, rows)
        put(home / f"{stem}.entries.json", told := json.dumps([[e.image, e.label, e.patient, e.name] for e in entries]))
        part = {"rows": f"{stem}.npy", "entries": f"{stem}.entries.json", "count": len(rows)}
        part |= {"rows_sha256": digest((home / f"{stem}.npy").read_bytes()), "entries_sha256": digest(told.encode())}
        facts = {"version": VERSION, "key": asdict(index.key), "measure": _measure_facts(index.measure), "shape": index.shape}
        facts |= {"salt": index.salt, "notes": [*(() if fresh else index.notes), *notes], "versions": versions(), "parts": [*parts, part]}
        facts |= {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
        put(home / MANIFEST, json.dumps(facts, indent=1))


def _measure_facts(measure: Measure) -> dict[str, Any]:
    return {"name": type(measure).__name__, "parameters": asdict(measure)}


def _measure_of(facts: Any) -> Measure:
    kinds = {k.__name__: k for k in (*Measure.__subclasses__(), *Guided.__subclasses__())}
    try:
        parameters = {n: tuple(v) if isinstance(v, list) else v for n, v in facts["parameters"].items()}
        return kinds[facts["name"]](**parameters)
    except (KeyError, TypeError) as error:
        raise BadFile("an index of a known measure", str(facts)[:80], "Build it again.") from error


def _manifest(home: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((home / MANIFEST).read_text())
        if told["version"] > VERSION:
            raise BadFile(f"an index of version {VERSION}", f"version {told['version']}", "Use a newer Pellucid.")
        if not all(n in told for n in ("key", "measure", "shape", "salt", "notes", "parts")) or not told["parts"]:
            raise KeyError
    except OSError as error:
        raise BadFile(f"an index in {home}", error.strerror or "no file", "Build it: build_index(..., folder=...).") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(f"an index in {home}", "a list of files that cannot be read", "Build it again.") from error
    return told


def _bytes(path: Path, sha: str) -> bytes:
    if not OURS.fullmatch(path.name) or not path.is_file():
        raise BadFile(f"a part of the index: {path}", "no such file", "Build it again.")
    data = path.read_bytes()
    if digest(data) != sha:
        raise BadFile(f"a part of the index as it was written: {path}", "other bytes", "Build it again.")
    return data


def _rows(home: Path, part: dict[str, Any]) -> Rows:
    rows: Rows = np.load(io.BytesIO(_bytes(home / part["rows"], part["rows_sha256"])), allow_pickle=False)
    if rows.ndim != 2 or rows.dtype != np.float32 or len(rows) != part["count"]:
        raise BadFile(f"float32 rows in {part['rows']}", f"{rows.dtype} {rows.shape}", "Build it again.")
    return rows
