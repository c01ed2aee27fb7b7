"""The desk: everything that a request may reach, put together once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pellucid.explanation import Map
from pellucid.model import Model
from pellucid.viewer.jobs import OVER, Queue
from pellucid.viewer.limits import Limits
from pellucid.viewer.nets import Look, Nets
from pellucid.viewer.offers import Beside, Offers
from pellucid.viewer.scans import Recent, Scans
from pellucid.viewer.shelf import Shelf
from pellucid.viewer.showing import Display
from pellucid.viewer.store import Store, hold


@dataclass(eq=False)
class Desk:
    """Folder, store, networks, offers and queue of one viewer; ``looks``, ``displays`` and ``maps`` are kept while it runs."""

    shelf: Shelf
    store: Store
    scans: Scans
    nets: Nets
    limits: Limits
    held: BinaryIO
    offers: Offers
    queue: Queue = field(default_factory=Queue)
    looks: dict[tuple[str, str], Look] = field(default_factory=dict)
    displays: Recent[Display] = field(default_factory=lambda: Recent(4))
    maps: Recent[Map] = field(default_factory=lambda: Recent(16))

    @classmethod
    def over(
        cls,
        folder: Path,
        work: Path,
        models: Mapping[str, Model],
        limits: Limits | None = None,
        phantoms: bool = True,
        beside: Beside | None = None,
    ) -> Desk:
        """A desk over a folder of scans; ``work`` is its own until ``close``, and what an earlier viewer left unfinished there is marked so.

        Raises:
            BadFile: another viewer works in that folder.
        """
        held, limits = hold(work), limits or Limits()
        store = Store(work)
        for path in store.damaged():
            logging.getLogger(__name__).warning("left out, for it cannot be read: %s", path)
        shelf = Shelf(folder, work, limits)
        for key, record in store.all("runs"):
            if record.get("state") not in OVER:
                store.change("runs", key, state="interrupted")
        return cls(shelf, store, Scans(shelf, store, limits), Nets(models, phantoms), limits, held, Offers(shelf, beside or Beside()))

    def close(self) -> None:
        """Stop all work, and let another viewer have the folder."""
        self.queue.close()
        self.held.close()

    def display(self, key: str) -> Display:
        """How the scan of an id is laid out and packed for the page."""
        return self.displays.get(key, lambda: Display.of(self.scans.image(key)))
