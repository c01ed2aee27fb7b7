"""The store: records of the viewer's work in one folder, a folder each, so that a refresh or a restart loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pellucid.errors import BadFile
from pellucid.files import lock, own, put

NAME = re.compile(r"[0-9a-z]{1,24}(-[0-9a-z]{1,24}){0,3}")


@dataclass(eq=False)
class Store:
    """``root/<kind>/<id>/record.json``, and whatever files belong to it beside. Kinds: scans, uploads, runs, marks, and those of work modes."""

    root: Path
    _locks: dict[str, threading.RLock] = field(default_factory=dict)

    def new(self, kind: str, record: dict[str, Any]) -> str:
        """Keep a record under a new id, which sorts by time."""
        key = f"{time.strftime('%Y%m%dt%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        self.put(kind, key, record)
        return key

    def put(self, kind: str, key: str, record: dict[str, Any]) -> None:
        """Write a record: whole or not at all, and on the disk when this returns."""
        folder = self.folder(kind, key)
        with self._own(kind):
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

    def damaged(self) -> list[Path]:
        """Records that are there and cannot be read: listings leave them out."""
        found = []
        for path in sorted(self.root.glob("*/*/record.json")):
            try:
                self.get(path.parts[-3], path.parts[-2])
            except BadFile:
                found.append(path)
        return found

    @contextlib.contextmanager
    def changing(self, kind: str, key: str, new: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """A record for one thread at a time, written when the block ends well; ``new`` is what it begins as where there is none.

        Raises:
            BadFile: no such record, and nothing new.
        """
        with self._own(kind):
            try:
                record = self.get(kind, key)
            except Missing:
                if new is None:
                    raise
                record = new
            yield record
            self.put(kind, key, record)

    def change(self, kind: str, key: str, **changes: Any) -> None:
        """Exchange some entries of a record."""
        with self.changing(kind, key) as record:
            record |= changes

    def drop(self, kind: str, key: str) -> None:
        """Remove a record with its files."""
        self.get(kind, key)
        with self._own(kind):
            shutil.rmtree(self.folder(kind, key), ignore_errors=True)

    def folder(self, kind: str, key: str) -> Path:
        """Where the files of a record lie; an id that could lead elsewhere is refused.

        Raises:
            BadFile: no such id can be.
        """
        if NAME.fullmatch(key) is None:
            raise missing(kind, key)
        return self.root / kind / key

    def _own(self, kind: str) -> threading.RLock:
        """The lock of a kind: a long look at one thing does not hold up the others."""
        return self._locks.setdefault(kind, threading.RLock())


class Missing(BadFile):
    """Nothing is kept under that id."""


def missing(kind: str, key: str) -> Missing:
    """The error about an id under which nothing is kept."""
    return Missing(f"one of the {kind}", f"{key[:60]!r}, which is not among them", "Reload the page: it lists what there is.")


# ---------------------------------------------------------------------------------------------------- the folder itself
def hold(root: Path) -> BinaryIO:
    """The folder for this viewer alone until what is returned is closed; one that is not there is made for its owner's eyes only.

    Raises:
        BadFile: another viewer holds it (the message says who), or its ``.held`` is no file of its own.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        root.mkdir(mode=0o700)
    if not root.is_dir():
        raise BadFile("a folder for results", f"{root}, which is none", "Choose another --out.")
    file = own(root / ".held")
    if not lock(file, wait=False):
        file.seek(0)
        who = file.read(200).decode("utf-8", "replace").strip() or "another process"
        file.close()
        raise BadFile(
            f"a folder for results that no other viewer works in: {root}",
            f"one held by {who}",
            "Stop that viewer, or choose another --out.",
        )
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())
    file.flush()
    return file


def seen_by_others(root: Path) -> str:
    """What to tell of a folder that other users of this machine may look into; empty where they may not."""
    mode = stat.S_IMODE(root.stat().st_mode)
    if os.name != "posix" or not mode & 0o077:
        return ""
    return f"Others on this machine may look into {root} (mode {mode:04o}): chmod 700 {root}"
