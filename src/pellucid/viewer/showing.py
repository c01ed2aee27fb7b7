"""Showing: a scan and the maps over it as arrays in viewing order, which the page draws itself."""

from __future__ import annotations

import base64
import math
from dataclasses import asdict, dataclass
from typing import Any

from pellucid.explanation import Map
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.report import pictures as packing
from pellucid.report.pictures import Channel, Layer
from pellucid.report.planes import Layout, lay_out

WIDE = 320  # pixels of a thumbnail's longer side
MOST = 17_000_000  # samples of a volume that are sent whole; larger ones are coarsened for display


@dataclass(frozen=True, eq=False)
class Display:
    """A scan laid out and packed: every array in viewing order, on ``grid``, a block of ``factors`` samples of the scan each."""

    scan: Image
    layout: Layout
    grid: Grid
    factors: tuple[int, ...]
    channels: tuple[Channel, ...]
    color: bool
    inverted: bool
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, scan: Image) -> Display:
        """Lay out, reduce where a browser could not hold it, pack. Every reduction is told."""
        layout = lay_out(scan)
        color = scan.channels == packing.RGB
        kept = scan.channels[: 3 if color else packing.MOST_CHANNELS]
        remarks = list(layout.remarks)
        if len(kept) < len(scan.channels):
            remarks.append(f"The first {len(kept)} of {len(scan.channels)} channels can be shown here.")
        factors = _factors(scan.grid)
        if max(factors) > 1:
            remarks.append(f"Reduced for display: each sample shown stands for a block of {' × '.join(map(str, factors))} samples.")
        inverted = scan.facts.get("photometric") in ("MONOCHROME1", "MINISWHITE")
        if inverted:
            remarks.append("High values are stored as dark (MONOCHROME1) and are shown so.")
        base = [layout.array(c) for c in packing.pooled(scan.values[: len(kept)].detach().cpu().float(), factors).numpy()]
        channels = packing.packed_channels(scan, base, kept, color, 8 if color else 16)
        grid = layout.grid(packing.reduced(scan.grid, factors))
        return cls(scan, layout, grid, factors, tuple(channels), color, inverted, (*remarks, *scan.notes))

    @property
    def samples(self) -> int:
        return math.prod(self.grid.shape)

    def layer(self, why: Map) -> Layer:
        """A map over this scan."""
        return packing.layer(self.layout.array(packing.relevance_on(why, self.scan.grid, self.factors)), 16)

    def facts(self) -> dict[str, Any]:
        """All that the page needs besides the arrays: what ``Scene`` of the report takes."""
        return {
            "shape": list(self.grid.shape),
            "affine": [list(r) for r in self.grid.affine],
            "unit": self.grid.unit,
            "axes": [asdict(axis) for axis in self.grid.axes],
            "sided": self.layout.sided,
            "coordinates": self.layout.coordinates,
            "scan": {
                "shape": list(self.scan.grid.shape),
                "order": list(self.layout.order),
                "flip": list(self.layout.flip),
                "factors": list(self.factors),
            },
            "planes": [
                {"name": p.name, "x": p.x, "y": p.y, "through": p.through, "flipY": p.flip_y, "edges": list(p.edges)}
                for p in self.layout.planes
            ],
            "color": self.color,
            "inverted": self.inverted,
            "quantity": self.scan.quantity,
            "channels": [{"name": c.name, "bits": c.bits, "low": c.low, "step": c.step, "window": list(c.window)} for c in self.channels],
        }


def _factors(grid: Grid) -> tuple[int, ...]:
    if grid.ndim == 2:
        return tuple(math.ceil(n / 4096) for n in grid.shape)
    none = (1,) * grid.ndim
    return packing.coarser(grid, none, times) if (times := math.prod(grid.shape) / MOST) > 1 else none


def thumbnail(image: Image) -> bytes:
    """A small picture as PNG, as the report draws it: of a volume its middle slice."""
    return base64.b64decode(packing.still_of(image, longest=WIDE).partition(",")[2])


def layer_facts(layer: Layer) -> dict[str, Any]:
    """What the page needs to read a layer's numbers."""
    return {k: getattr(layer, k) for k in ("bits", "most", "full", "positive", "negative")} | {"peak": list(layer.peak)}


def colors() -> dict[str, Any]:
    """The palette, as in the report."""
    return {"against": packing.AGAINST, "for": packing.FOR, "strength": packing.STRENGTH, "bend": packing.BEND, "dim": packing.DIM}
