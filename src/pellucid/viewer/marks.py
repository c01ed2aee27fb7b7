"""Marks: regions and lesions that a reader draws over a scan, and what the localization metrics say of maps against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.errors import BadImage, BadParameter
from pellucid.evidence import metrics, read_metric
from pellucid.evidence.grade import lay, on_grid
from pellucid.evidence.masks import marked
from pellucid.evidence.panel import Entry, Panel
from pellucid.explanation import Map, Measurement
from pellucid.image import Image
from pellucid.io import read_archive, write_archive
from pellucid.model import Model
from pellucid.run import Run
from pellucid.target import Seen, Target
from pellucid.viewer.desk import Desk

AT_ONCE = ("pointing_game", "relevance_mass", "relevance_rank", "roc_auc", "auprc", "iou_otsu", "max_f1", "peak_distance")


@dataclass(frozen=True)
class _Told(Target):
    """A target by its words: no localization metric asks the network."""

    words: str

    def score(self, seen: Seen) -> Tensor:
        raise BadParameter("metrics that need no network", self.words, "Use `pellucid examine`.")

    def __repr__(self) -> str:
        return self.words


def keep(desk: Desk, scan: str, name: str, drawn: bytes, key: str | None = None) -> str:
    """Keep what was drawn: one byte for each sample as the page shows the scan, not 0 where it belongs to the mark.

    Raises:
        BadImage: not as many bytes as samples.
        BadFile: no such scan, or no such mark to replace.
    """
    display = desk.display(scan)
    count = display.samples
    if len(drawn) != count:
        raise BadImage(f"a mark has {count:,} bytes, one a sample shown", f"{len(drawn):,}", "Draw on the scan as the viewer shows it.")
    values = torch.frombuffer(bytearray(drawn), dtype=torch.uint8).view(display.grid.shape) != 0
    return _save(desk, scan, name, Image(values[None].float(), display.grid), key)


def take(desk: Desk, scan: str, name: str, mask: Image) -> str:
    """Keep a mask that was read from a file: what is not 0 belongs to the mark."""
    return _save(desk, scan, name, marked(mask), None)


def _save(desk: Desk, scan: str, name: str, mask: Image, key: str | None) -> str:
    image = desk.scans.image(scan)
    values = on_grid(mask, image.grid)
    size, count = float(values.sum()) * image.grid.voxel, int(values.sum())
    record = {"scan": scan, "name": name, "samples": count, "size": size, "unit": image.grid.unit, "space": image.grid.ndim}
    if key is None:
        key = desk.store.new("marks", record)
    else:
        if desk.store.get("marks", key)["scan"] != scan:
            raise BadParameter("a mark of this scan", "one of another", "Draw a new one.")
        desk.store.put("marks", key, record)
    write_archive(
        desk.store.folder("marks", key) / "mask.npz", {"values": values[None].to(torch.uint8)}, image.grid, facts={"kind": "mark"}
    )
    return key


def image(desk: Desk, key: str) -> Image:
    """A mark as a mask of 0 and 1 on its scan's grid."""
    desk.store.get("marks", key)
    arrays, _, grid = read_archive(desk.store.folder("marks", key) / "mask.npz")
    return Image(arrays["values"].float(), grid)


def samples(desk: Desk, key: str) -> bytes:
    """A mark as ``keep`` takes it."""
    display = desk.display(desk.store.get("marks", key)["scan"])
    return image(desk, key).on(display.grid, nearest=True, fill=0.0).values[0].to(torch.uint8).contiguous().numpy().tobytes()


def numbers(maps: dict[str, Map], mask: Image, by: Sequence[str] = AT_ONCE) -> dict[str, list[Measurement]]:
    """Localization of each map against a mask, by metrics that ask no network; chance stands in each measurement's ``reference``.

    Raises:
        BadParameter: a metric of another kind.
    """
    wanted = [read_metric(m) for m in by]
    wrong = [m.name for m in wanted if m.group != "localization"]
    if wrong:
        raise BadParameter("metrics of localization", ", ".join(wrong), f"Choose from {', '.join(offered())}.")
    found: dict[str, list[Measurement]] = {}
    for name, why in maps.items():
        if why.values.ndim != 1 + why.image.grid.ndim:
            raise BadParameter("a map with spatial extent", f"{tuple(why.values.shape)}", "Choose another site.")
        entry = Entry(why.on(why.image.grid).relevance.double(), why)
        quiet = Model(nn.Identity())
        panel = Panel(quiet, why.image, _Told(why.provenance.target), why.image.values, Run(), {name: entry}, lay(mask, why.image.grid))
        found[name] = [m.measure(panel)[name] for m in wanted]
    return found


def offered() -> list[str]:
    """The metrics of localization."""
    return [m.name for m in metrics() if m.group == "localization"]


def told(key: str, record: dict[str, Any]) -> dict[str, Any]:
    """A mark's line in a listing."""
    return {"id": key, **{k: record[k] for k in ("scan", "name", "samples", "size", "unit", "space")}}
