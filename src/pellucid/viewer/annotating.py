"""Annotating: sessions over scans, kept action by action; boxes and masks between the scan's samples and those that the page shows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.annotation import Annotation, Finding
from pellucid.annotation import begin as started
from pellucid.annotation.session import Action
from pellucid.errors import BadImage, BadParameter
from pellucid.evidence.grade import on_grid
from pellucid.evidence.localization import propose
from pellucid.image import Image
from pellucid.viewer import asking
from pellucid.viewer.desk import Desk
from pellucid.viewer.showing import Display

KIND = "annotations"
Box = tuple[list[int], list[int]]


def begin(desk: Desk, scan: str, map_id: str | None, label: str, **cut: Any) -> str:
    """A new session: what a map proposes (``cut``: parameters of ``propose``), or nothing.

    Raises:
        BadFile: no such scan or map.
        BadParameter: a map of another scan, or one that cannot be cut so.
    """
    image = desk.scans.image(scan)
    proposals = None
    if map_id is not None:
        if asking.scan_of(desk, map_id) != scan:
            raise BadParameter("a map of this scan", "one of another", "Choose one of this scan.")
        proposals = propose(asking.map_of(desk, map_id), **cut)
    annotation = started(image.grid.shape, proposals, label=label or "finding").act("open", time.time())
    record = {
        "scan": scan,
        "map": map_id,
        "verdict": asking.word(desk, map_id) if map_id else None,
        "name": desk.store.get("scans", scan)["name"],
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return desk.store.new(KIND, {**annotation.record(), **record})


def session(desk: Desk, key: str) -> Annotation:
    """A session as it stands."""
    return Annotation.read(desk.store.get(KIND, key))


def act(
    desk: Desk, key: str, action: Action, number: int | None = None, *, start: Sequence[int] = (), stop: Sequence[int] = (), label: str = ""
) -> None:
    """Do what the reader did, and write it down before answering; ``start`` and ``stop`` as the page shows the scan.

    Raises:
        BadParameter: as ``Annotation.act``.
    """
    with desk.store.changing(KIND, key) as record:
        annotation = Annotation.read(record)
        box: dict[str, Any] = {}
        if action in ("move", "resize", "add"):
            before = annotation[number] if action != "add" and number is not None else None
            a, b = to_scan(desk.display(record["scan"]), start, stop, before)
            box = {"start": a, "stop": b}
        record |= annotation.act(action, time.time(), number, label=label, **box).record()


def paint(desk: Desk, key: str, number: int | None, drawn: bytes) -> None:
    """Give a finding the mask that was painted (one byte for each sample shown), or without a number add one.

    Raises:
        BadImage: not as many bytes as samples.
        BadParameter: an empty mask.
    """
    with desk.store.changing(KIND, key) as record:
        display = desk.display(record["scan"])
        if len(drawn) != display.samples:
            raise BadImage(
                f"a mask of {display.samples:,} bytes, one a sample shown", f"{len(drawn):,}", "Paint on the scan as the viewer shows it."
            )
        shown = torch.frombuffer(bytearray(drawn), dtype=torch.uint8).view(display.grid.shape) != 0
        mask = on_grid(Image(shown[None].float(), display.grid), desk.scans.image(record["scan"]).grid)
        action: Action = "add" if number is None else "paint"
        record |= Annotation.read(record).act(action, time.time(), number, mask=mask > 0).record()


def opened(desk: Desk, key: str) -> None:
    """The page shows a session (again): pauses before this are no work."""
    act(desk, key, "open")


# ---------------------------------------------------------------------------------------------------- as the page shows it
def told(desk: Desk, key: str) -> dict[str, Any]:
    """A session for the page: boxes in the samples that it shows."""
    record = desk.store.get(KIND, key)
    annotation, display = Annotation.read(record), desk.display(record["scan"])
    grid = desk.scans.image(record["scan"]).grid
    unit = f"{grid.unit}{'²³'[grid.ndim - 2]}" if grid.unit == "mm" else "samples"
    effort = annotation.effort
    return {
        "id": key, "scan": record["scan"], "map": record["map"], "verdict": record.get("verdict"), "name": record["name"], "made": annotation.made, "began": record["began"],
        "findings": [_told(display, f, grid.voxel, unit) for f in annotation.findings], "open": annotation.open,
        "accepted": len(annotation.accepted), "actions": effort.actions, "seconds": round(effort.seconds, 1),
        "undo": any(e.action not in ("open", "undo") for e in annotation.events),
    }  # fmt: skip


def _told(display: Display, f: Finding, voxel: float, unit: str) -> dict[str, Any]:
    start, stop = to_view(display, f)
    return {
        "number": f.number, "state": f.state, "origin": f.origin, "touched": f.touched, "score": f.score, "label": f.label,
        "start": start, "stop": stop, "size": round(f.size * voxel, 3), "unit": unit, "mask": f.runs is not None,
    }  # fmt: skip


def samples(desk: Desk, key: str, number: int | None = None) -> bytes:
    """One byte for each sample shown: 1 in the finding of that number; without one, the number (1 to 255) of the mask that has the sample."""
    record = desk.store.get(KIND, key)
    annotation, display = Annotation.read(record), desk.display(record["scan"])
    found = torch.zeros(annotation.shape, dtype=torch.uint8)
    kept = (
        [annotation[number]]
        if number is not None
        else [f for f in reversed(annotation.findings) if f.runs is not None and f.state != "rejected"]
    )
    for f in kept:
        here = found[f.place]
        here[f.inner] = 1 if number is not None else 1 + (f.number - 1) % 255
    return _shown(display, found, desk.scans.image(record["scan"])).numpy().tobytes()


def _shown(display: Display, values: Tensor, scan: Image) -> Tensor:
    if max(display.factors) > 1:
        return Image(values[None].float(), scan.grid).on(display.grid, nearest=True, fill=0.0).values[0].to(torch.uint8).contiguous()
    return torch.from_numpy(display.layout.array(values.numpy()).copy())


def to_view(display: Display, f: Finding) -> Box:
    """The box in samples as shown, a block of the scan's where the display is coarser."""
    start, stop = [], []
    for n, axis in enumerate(display.layout.order):
        size, factor = display.grid.shape[n], display.factors[axis]
        a, b = f.start[axis] // factor, min(size, -(-f.stop[axis] // factor))
        a, b = (size - b, size - a) if display.layout.flip[n] else (a, b)
        start.append(a)
        stop.append(b)
    return start, stop


def to_scan(display: Display, start: Sequence[int], stop: Sequence[int], before: Finding | None = None) -> Box:
    """The box in samples of the scan; along an axis where nothing was changed it stays as it was ``before``.

    Raises:
        BadParameter: not a number for each axis, or beyond the scan.
    """
    shape = display.grid.shape
    if len(start) != len(shape) or len(stop) != len(shape) or any(not 0 <= a < b <= n for a, b, n in zip(start, stop, shape)):
        raise BadParameter(f"a box inside {shape} as shown", f"{list(start)} to {list(stop)}", "Draw it inside the picture.")
    was = to_view(display, before) if before is not None else None
    low, high = [0] * len(shape), [0] * len(shape)
    for n, axis in enumerate(display.layout.order):
        if was is not None and before is not None and (was[0][n], was[1][n]) == (start[n], stop[n]):
            low[axis], high[axis] = before.start[axis], before.stop[axis]
            continue
        a, b = (shape[n] - stop[n], shape[n] - start[n]) if display.layout.flip[n] else (start[n], stop[n])
        factor, size = display.factors[axis], display.scan.grid.shape[axis]
        low[axis], high[axis] = a * factor, min(size, b * factor)
    return low, high
