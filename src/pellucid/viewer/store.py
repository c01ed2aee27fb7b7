"""The store: records of the viewer's work in one folder, a folder each, so that a refresh or a restart loses nothing."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pellucid.errors import BadFile
from pellucid.files import put

NAME = re.compile(r"[0-9a-z]{1,24}(-[0-9a-z]{1,24}){0,3}")


@dataclass(eq=False)
class Store:
    """``root/<kind>/<id>/record.json``, and whatever files belong to it beside. Kinds: scans, uploads, runs, marks, and those of work modes."""

    root: Path
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def new(self, kind: str, record: dict[str, Any]) -> str:
        """Keep a record under a new id, which sorts by time."""
        key = f"{time.strftime('%Y%m%dt%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        self.put(kind, key, record)
        return key

    def put(self, kind: str, key: str, record: dict[str, Any]) -> None:
        """Write a record: whole or not at all, and on the disk when this returns."""
        folder = self.folder(kind, key)
        with self._lock:
            folder.mkdir(parents=True, exist_ok=True)
            put(folder / "record.json", json.dumps(record, indent=1, ensure_ascii=False, default=str))

    def get(self, kind: str, key: str) -> dict[str, Any]:
        """A record as it was put.

        Raises:
            BadFile: no such record.
        """
        try:
            found: dict[str, Any] = json.loads((self.folder(kind, key) / "record.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise missing(kind, key) from error
        return found

    def all(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every record of a kind, by id; a damaged one is left out."""
        home = self.root / kind
        for folder in sorted(home.iterdir()) if home.is_dir() else ():
            try:
                yield folder.name, self.get(kind, folder.name)
            except BadFile:
                continue

    def change(self, kind: str, key: str, **changes: Any) -> dict[str, Any]:
        """A record with some of its entries exchanged."""
        with self._lock:
            record = {**self.get(kind, key), **changes}
            self.put(kind, key, record)
        return record

    def drop(self, kind: str, key: str) -> None:
        """Remove a record with its files."""
        self.get(kind, key)
        with self._lock:
            shutil.rmtree(self.folder(kind, key), ignore_errors=True)

    def folder(self, kind: str, key: str) -> Path:
        """Where the files of a record lie; an id that could lead elsewhere is refused.

        Raises:
            BadFile: no such id can be.
        """
        if NAME.fullmatch(key) is None:
            raise missing(kind, key)
        return self.root / kind / key


class Missing(BadFile):
    """Nothing is kept under that id."""


def missing(kind: str, key: str) -> Missing:
    """The error about an id under which nothing is kept."""
    return Missing(f"one of the {kind}", f"{key[:60]!r}, which is not among them", "Reload the page: it lists what there is.")
