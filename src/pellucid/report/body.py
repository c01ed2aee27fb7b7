"""The body in a big volume: where to cut so that a page need not hold the air around it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from pellucid.explanation import Map
from pellucid.image import Image
from pellucid.table import percent

MOST = 192**3  # voxels that a page shows
AIR = -500.0  # HU
SPECK = 0.002  # share of a slice below which what stands out is no body
MARGIN = 0.02  # of an axis, left around the body
WORTH = 0.9  # a cut that keeps more than this is not made


def body_box(scan: Image) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Along each axis the first voxel of what stands out from the air, and the one past its last."""
    values = scan.values[0].detach().cpu().float()
    if scan.background is not None:
        inside = ~scan.background.cpu()
    elif scan.quantity == "HU":
        inside = values > AIR
    else:
        some = values.reshape(-1)[:: max(1, values.numel() // 500_000)].numpy()
        low, high = (float(q) for q in np.quantile(some, (0.01, 0.995)))
        inside = values > low + 0.1 * (high - low)
    start, stop = [], []
    for axis, n in enumerate(inside.shape):
        rest = [a for a in range(inside.ndim) if a != axis]
        share = inside.sum(rest).numpy() / (inside.numel() / n)
        found = np.flatnonzero(share > SPECK)
        room = math.ceil(MARGIN * n)
        start.append(max(0, int(found[0]) - room) if found.size else 0)
        stop.append(min(n, int(found[-1]) + 1 + room) if found.size else n)
    return tuple(start), tuple(stop)


def cut_to_body(scan: Image, maps: Sequence[Map]) -> tuple[Image, tuple[int, ...], list[str]]:
    """The scan without the air around the body, where that spares much of a big volume; where it starts; and what to tell of it.

    As much is cut at both ends of an axis, so that each half of what is drawn shows that half of the scan: what is told of a place by the
    nearer edge holds for both. The strongest place of every map stays inside.
    """
    whole, none = scan.grid.shape, (0,) * scan.grid.ndim
    if scan.grid.ndim != 3 or math.prod(whole) <= MOST:
        return scan, none, []
    start, stop = body_box(scan)
    for m in maps:
        at = m.grid.map_to(scan.grid) @ np.array([*_peak(m), 1.0])
        start = tuple(min(a, max(0, math.floor(p) - 1)) for a, p in zip(start, at, strict=False))
        stop = tuple(max(b, min(n, math.ceil(p) + 2)) for b, p, n in zip(stop, at, whole, strict=False))
    start = tuple(min(a, n - b) for a, b, n in zip(start, stop, whole, strict=True))
    stop = tuple(n - a for a, n in zip(start, whole, strict=True))
    kept = [b - a for a, b in zip(start, stop, strict=True)]
    if math.prod(kept) > WORTH * math.prod(whole):
        return scan, none, []
    outside = max((_outside(m, scan, start, stop) for m in maps), default=0.0)
    size, full = (" × ".join(map(str, s)) for s in (kept, whole))
    told = f"Cropped for display around its middle to the part that holds the body: {size} of {full} voxels. "
    told += "Places and distances are those in the whole scan. "
    told += (
        "No relevance lies outside it." if outside == 0 else f"At most {percent(max(outside, 0.001))} of a map's relevance lies outside it."
    )
    return scan.crop(start, stop), start, [told]


def _peak(m: Map) -> tuple[int, ...]:
    size = m.values.detach().sum(0).abs()
    return tuple(int(i) for i in np.unravel_index(int(size.argmax()), tuple(size.shape)))


def _outside(m: Map, scan: Image, start: Sequence[int], stop: Sequence[int]) -> float:
    """Share of a map's relevance that lies outside the box."""
    size = m.values.detach().cpu().sum(0).abs().double()
    matrix = m.grid.map_to(scan.grid)
    inside = torch.ones_like(size, dtype=torch.bool)
    axes = [torch.arange(n, dtype=torch.float64) for n in size.shape]
    for row, (a, b) in enumerate(zip(start, stop, strict=True)):
        at = torch.full((1,) * size.ndim, float(matrix[row, -1]), dtype=torch.float64)
        for axis, index in enumerate(axes):
            at = at + float(matrix[row, axis]) * index.view([-1 if k == axis else 1 for k in range(size.ndim)])
        inside &= (at > a - 0.5) & (at < b - 0.5)
    total = float(size.sum())
    return 1 - float(size[inside].sum()) / total if total else 0.0
