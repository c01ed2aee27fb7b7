"""The model as a whole: what effects and prototypes found of a network over many cases, as the report tells and draws it."""

from __future__ import annotations

import threading
from dataclasses import fields, is_dataclass
from typing import Any

from pellucid.errors import BadFile, PellucidError
from pellucid.image import Image
from pellucid.report.whole import SVG, Whole, drawn, mood, title, told
from pellucid.viewer.desk import Desk
from pellucid.viewer.jobs import problem
from pellucid.viewer.scans import Recent

NO_NETWORK = "No network was asked for this: it tells of what was fitted to the rows, whichever network is chosen here."
_PICTURES: Recent[tuple[bytes, str]] = Recent(32)
_DRAWING = threading.Lock()  # one figure at a time


def offered(desk: Desk, model: str) -> list[dict[str, Any]]:
    """Every finding by its title; or why it says nothing of this network."""
    desk.nets.get(model)
    return [_offer(desk, model, name) for name in desk.offers.findings]


def _offer(desk: Desk, model: str, name: str) -> dict[str, Any]:
    line: dict[str, Any] = {"id": name, "title": "", "verdict": "", "mood": "", "problem": None}
    try:
        found = _of(desk, model, name)[0]
        return line | {"title": title(found), "verdict": told(found)["verdict"], "mood": mood(found)}
    except PellucidError as error:
        return line | {"problem": problem(error)}


def one(desk: Desk, model: str, name: str) -> dict[str, Any]:
    """All that is told of a finding.

    Raises:
        BadFile: none of that name, or a damaged one.
        BadModel: it is of another network.
    """
    found = _of(desk, model, name)[0]
    _, kind = figure(desk, model, name, dark=False) if not _naming(desk, found) else (b"", "")
    facts = told(found)
    remarks = facts["remarks"] if found.network else [NO_NETWORK, *facts["remarks"]]
    return facts | {"id": name, "remarks": remarks, "picture": bool(kind), "tree": kind == SVG}


def figure(desk: Desk, model: str, name: str, *, dark: bool) -> tuple[bytes, str]:
    """A finding's picture, and its kind.

    Raises:
        BadFile, BadModel: as ``one``; a picture whose pixels may name a patient, unless names are told.
    """
    found, mark = _of(desk, model, name)
    if _naming(desk, found):
        raise BadFile("a picture that can be shown", "text in its pixels may name the patient", "Start the viewer with --names.")

    def draw() -> tuple[bytes, str]:
        with _DRAWING:
            return drawn(found, dark=dark)

    return _PICTURES.get(f"{mark}\0{dark}", draw)


def _of(desk: Desk, model: str, name: str) -> tuple[Whole, str]:
    found, mark = desk.offers.finding(name)
    if found.network:
        desk.nets.check(model, found.network, "a finding")
    return found, mark


def _naming(desk: Desk, found: Whole) -> bool:
    return not desk.offers.given.names and any("burned in" in note for image in _images(found) for note in image.notes)


def _images(value: Any) -> list[Image]:
    if isinstance(value, Image):
        return [value]
    if isinstance(value, (tuple, list)):
        return [i for v in value for i in _images(v)]
    return [i for f in fields(value) for i in _images(getattr(value, f.name))] if is_dataclass(value) else []
