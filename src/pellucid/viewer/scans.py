"""Scans that were opened: under ids that outlive a restart, the last few kept in memory."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pellucid.errors import BadFile
from pellucid.image import Image
from pellucid.io import read, series
from pellucid.io.dicom.series import Series
from pellucid.viewer.limits import Limits, weigh, weigh_all
from pellucid.viewer.shelf import Shelf
from pellucid.viewer.store import Store

T = TypeVar("T")


@dataclass(eq=False)
class Recent(Generic[T]):
    """The last few results of something that takes long, by key; two requests for one key do the work once."""

    most: int
    _kept: OrderedDict[str, T] = field(default_factory=OrderedDict)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: str, make: Callable[[], T]) -> T:
        """What is kept, or made now."""
        with self._lock:
            own = self._locks.setdefault(key, threading.Lock())
        with own:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            made = make()
            with self._lock:
                self._kept[key] = made
                while len(self._kept) > self.most:
                    self._locks.pop(self._kept.popitem(last=False)[0], None)
            return made

    def forget(self, key: str) -> None:
        """Make it anew the next time."""
        with self._lock:
            self._kept.pop(key, None)


@dataclass(eq=False)
class Scans:
    """Opening scans of the shelf, and of uploads."""

    shelf: Shelf
    store: Store
    limits: Limits
    _images: Recent[Image] = field(default_factory=lambda: Recent(3))

    def open(self, path: str, which: str | None = None, upload: str | None = None) -> str:
        """Read a scan and give it an id: a hash of where it lies, so that opening it twice is opening it once.

        Raises:
            BadFile: as ``pellucid.read``; a path outside the folder; a file that unpacks to too much.
        """
        record = {"path": path.strip("/"), "series": which, "upload": upload}
        key = hashlib.sha256(repr(sorted(record.items(), key=str)).encode()).hexdigest()[:16]
        image = self._images.get(key, lambda: self._read(record))
        name = self.store.get("uploads", upload)["name"] if upload else Path(path).name or self.shelf.root.resolve().name
        self.store.put(
            "scans", key, {**record, "name": name, "fingerprint": image.fingerprint, "format": str(image.facts.get("format", ""))}
        )
        return key

    def image(self, key: str) -> Image:
        """The scan of an id, read again where it is no longer in memory.

        Raises:
            BadFile: no such scan, or it has changed on disk since it was opened.
        """
        record = self.store.get("scans", key)
        image = self._images.get(key, lambda: self._read(record))
        if image.fingerprint != record["fingerprint"]:
            self._images.forget(key)
            raise BadFile("the scan as it was when it was opened", "a file that has changed since", "Open it again.")
        return image

    def where(self, record: dict[str, Any]) -> Path:
        """The file or folder of a record."""
        if record["upload"]:
            self.store.get("uploads", record["upload"])
            folder = self.store.folder("uploads", record["upload"]) / "files"
            files = sorted(folder.iterdir()) if folder.is_dir() else []
            if not files:
                raise BadFile("an upload with a file", "none", "Upload one.")
            return folder if len(files) > 1 else files[0]
        return self.shelf.find(record["path"])

    def series(self, path: str, upload: str | None = None) -> list[Series]:
        """The DICOM series in a folder, in the order in which ``open`` numbers them."""
        where = self.where({"path": path, "upload": upload})
        if where.is_dir():
            self._weigh_all(where)
        return series(where)

    def _read(self, record: dict[str, Any]) -> Image:
        where = self.where(record)
        if where.is_file():
            weigh(where, self.limits)
        else:
            self._weigh_all(where)
        return read(where, series=record["series"])

    def _weigh_all(self, folder: Path) -> None:
        weigh_all(folder, self.limits, (self.shelf.root.resolve(), self.store.root.resolve()))
