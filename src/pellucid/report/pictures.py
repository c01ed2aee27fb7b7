"""Pictures: scan and maps as packed arrays that the page draws itself, and one still picture for readers without scripts."""

from __future__ import annotations

import base64
import itertools
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pellucid.explanation import Map
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.io.picture import top_of
from pellucid.report.body import MOST, cut_to_body
from pellucid.report.planes import Layout, Plane, lay_out

AGAINST, FOR = ((46, 98, 190), (120, 200, 255)), ((214, 96, 22), (255, 214, 120))  # as in the PNG overlay: color-blind safe
STRENGTH, BEND = 0.88, 0.7  # opacity of the strongest value; how it grows from nothing at zero
DIM = 0.82  # brightness of the scan under a map
BUDGET = 15_000_000  # bytes of packed samples; a third more as base64 text, so that a page stays under 25 MB with all that is in it
LONGEST = 2048  # samples along an axis of a flat image
MOST_CHANNELS = 8
RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Channel:
    """One channel of the scan, packed: sample = low + step * number; ``window`` is shown first."""

    name: str
    data: bytes
    bits: int
    low: float
    step: float
    window: tuple[float, float]


@dataclass(frozen=True)
class Layer:
    """One map over the scan, packed: sample = top of scale * curve(number). ``peak`` is its largest |value| in viewing order.

    ``full`` is the value of full color, ``most`` the largest |value|; ``positive`` and ``negative`` are the extremes, ``beyond`` is the share
    of samples above full color.
    """

    data: bytes
    bits: int
    most: float
    full: float
    peak: tuple[int, ...]
    positive: float
    negative: float
    beyond: float = 0.0


@dataclass(frozen=True)
class Pictures:
    """Scan and maps in viewing order, ready to be drawn."""

    layout: Layout
    grid: Grid
    factors: tuple[int, ...]
    channels: tuple[Channel, ...]
    color: bool
    inverted: bool
    layers: tuple[Layer, ...]
    remarks: tuple[str, ...]
    whole: Grid  # of the scan as it is stored
    start: tuple[int, ...]  # its first voxel that is shown; as many are cut off at the other end
    stills: tuple[tuple[Plane, str, str], ...]  # plane, bare PNG and overlaid PNG, as data URIs


def pictures(scan: Image, maps: Sequence[Map]) -> Pictures:
    """Lay out, reduce where a page would grow too large, pack. Every reduction is told in ``remarks``."""
    layout = lay_out(scan)
    color = scan.channels == RGB
    kept, whole = scan.channels[: len(RGB) if color else MOST_CHANNELS], scan.grid
    scan, start, cut = cut_to_body(scan, maps)
    remarks = [*layout.remarks, *cut]
    if len(kept) < len(scan.channels):
        remarks.append(f"The first {len(kept)} of {len(scan.channels)} channels can be shown here.")
    inverted = scan.facts.get("photometric") in ("MONOCHROME1", "MINISWHITE")
    if inverted:
        remarks.append("High values are stored as dark (MONOCHROME1) and are shown so.")
    factors = first_factors(scan.grid, len(kept) + len(maps))
    while True:
        base = [layout.array(c) for c in pooled(scan.values[: len(kept)].detach().cpu().float(), factors).numpy()]
        flat = [layout.array(relevance_on(m, scan.grid, factors)) for m in maps]
        channels, layers, size = _packed(scan, base, flat, kept, color)
        if size <= BUDGET:
            break
        factors = coarser(scan.grid, factors, size / BUDGET)
    shown = layout.grid(reduced(scan.grid, factors))
    remarks += _precision(scan, factors, channels, layers)
    stills = tuple((p, *_still(p, base, channels, flat[0], layers[0], shown, color, inverted)) for p in layout.planes)
    return Pictures(layout, shown, factors, tuple(channels), color, inverted, tuple(layers), tuple(remarks), whole, start, stills)


def _packed(
    scan: Image, base: list[np.ndarray], flat: list[np.ndarray], names: Sequence[str], color: bool
) -> tuple[list[Channel], list[Layer], int]:
    """Channels and layers in 16 bits, or in 8 where that is too much (never the image of a CT: its windows need them), and their size."""
    for deep in (16, 8):
        channels = packed_channels(scan, base, names, color, 8 if color else 16 if scan.quantity == "HU" else deep)
        layers = [layer(v, deep) for v in flat]
        size = sum(len(c.data) for c in channels) + sum(len(v.data) for v in layers)
        if size <= BUDGET:
            break
    return channels, layers, size


# ---------------------------------------------------------------------------------------------------- reduction
def first_factors(grid: Grid, arrays: int) -> tuple[int, ...]:
    """Flat images are shown with at most LONGEST samples along an axis; volumes that no packing could save are reduced at once."""
    if grid.ndim == 2:
        return tuple(math.ceil(n / LONGEST) for n in grid.shape)
    none = (1,) * grid.ndim
    times = max(math.prod(grid.shape) * arrays / (4 * BUDGET), math.prod(grid.shape) / MOST)
    return coarser(grid, none, times) if times > 1 else none


def coarser(grid: Grid, factors: tuple[int, ...], times: float) -> tuple[int, ...]:
    """Blocks at least ``times`` as large, joined along the axis that is finest by then, so that voxels become rounder."""
    start = math.prod(factors)
    while True:
        room = [a for a in range(grid.ndim) if factors[a] < grid.shape[a]]
        finest = min(room, key=lambda a: grid.spacing[a] * factors[a])
        factors = tuple(f + (a == finest) for a, f in enumerate(factors))
        if math.prod(factors) >= start * times:
            return factors


def reduced(grid: Grid, factors: Sequence[int]) -> Grid:
    """The grid of the blocks; those at the end may be smaller."""
    shape = [math.ceil(n / f) for n, f in zip(grid.shape, factors, strict=True)]
    return grid.coarsen([float(f) for f in factors], [(f - 1) / 2 for f in factors], shape)


def pooled(values: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Means over blocks of samples, (c, *space); the last block of an axis may be smaller."""
    if max(factors) == 1:
        return values
    pool = functional.avg_pool3d if len(factors) == 3 else functional.avg_pool2d
    return pool(values, factors, ceil_mode=True, count_include_pad=False)


def relevance_on(m: Map, grid: Grid, factors: tuple[int, ...]) -> np.ndarray:
    """The map on the scan's grid, summed over channels, reduced."""
    summed = replace(m, values=m.values.detach().cpu().sum(0, keepdim=True))
    if m.grid == grid:
        return pooled(summed.values.float(), factors)[0].numpy()
    shown = reduced(grid, factors)
    if min(m.grid.spacing) >= 0.75 * max(shown.spacing):  # no finer than what is shown: reading it there loses nothing
        return summed.on(shown).values[0].float().numpy()
    parts = [pooled(summed.on(slab).values.float(), factors) for slab in _slabs(grid, factors[0])]
    return torch.cat(parts, 1)[0].numpy()


def _slabs(grid: Grid, factor: int, most: int = 4_000_000) -> Iterator[Grid]:
    """The grid cut along its first axis, each part a multiple of ``factor`` deep, so that big scans fit into memory."""
    deep = max(1, most // max(1, math.prod(grid.shape[1:])) // factor) * factor
    if deep >= grid.shape[0]:
        yield grid
        return
    rest = grid.shape[1:]
    for start in range(0, grid.shape[0], deep):
        yield grid.crop((start, *(0 for _ in rest)), (min(start + deep, grid.shape[0]), *rest))


def _precision(scan: Image, factors: tuple[int, ...], channels: Sequence[Channel], layers: Sequence[Layer]) -> list[str]:
    """What the page keeps of the numbers, in plain words."""
    told = []
    if max(factors) > 1:
        block = " × ".join(map(str, factors))
        told.append(
            f"Reduced for display: each sample shown stands for a block of {block} samples of the scan. Saved map files hold every sample."
        )
    if layers[0].bits == 16:
        told.append("Relevance is kept in this page in 65,535 even steps, zero exact.")
    else:
        told.append("Relevance is kept in this page in 255 steps, finer toward zero, zero and the largest value exact.")
    levels = "256" if channels[0].bits == 8 else "65,536"
    told.append(f"The image is kept in {levels} levels{' per color' if scan.channels == RGB else ''}.")
    return told


# ---------------------------------------------------------------------------------------------------- packing
def pack(values: np.ndarray) -> bytes:
    """Unsigned integers deflated, all low bytes before all high bytes (which packs better and has no byte order)."""
    width = values.dtype.itemsize
    flat = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    return zlib.compress(np.ascontiguousarray(flat.reshape(-1, width).T).tobytes(), 6)


def packed_channels(scan: Image, base: list[np.ndarray], names: Sequence[str], color: bool, bits: int) -> list[Channel]:
    """Samples as whole numbers of 8 or 16 bits, each channel from its least to its largest value."""
    levels = 2**bits - 1
    dtype = np.uint8 if bits == 8 else np.uint16
    found = []
    span = _color_span(base) if color else None
    for k, (name, values) in enumerate(zip(names, base, strict=True)):
        low, high = span or (float(values.min()), float(values.max()))
        if bits == 8 and not color:  # few levels: spend none on outliers
            low, high = (float(q) for q in np.quantile(_some(values), (0.0005, 0.9995)))
        step = (high - low) / levels or 1.0
        numbers = np.clip(np.rint((values - low) / step), 0, levels).astype(dtype)
        found.append(Channel(name, pack(numbers), bits, low, step, span or _window(scan, k, values)))
    return found


def _color_span(base: list[np.ndarray]) -> tuple[float, float]:
    """Black and white of a color picture: full scale is 1, 255 or 65535, or its own range."""
    low, high = min(float(b.min()) for b in base), max(float(b.max()) for b in base)
    if low < 0:
        return low, high
    return 0.0, next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)


def _some(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1)[:: max(1, values.size // 500_000)]  # enough for a quantile


def _window(scan: Image, channel: int, values: np.ndarray) -> tuple[float, float]:
    """Black and white at first sight: the scan's own window where it fits the values, else the 1st to 99.5th percentile."""
    raw = scan.values[channel].detach().cpu().float()
    seen = raw if scan.background is None else raw[~scan.background.cpu()]
    low, high = (float(q) for q in np.quantile(_some((seen if seen.numel() else raw).numpy()), (0.01, 0.995)))
    window = scan.facts.get("window")
    if window is not None:
        a, b = window[0] - window[1] / 2, window[0] + window[1] / 2
        if a < high and b > low and b - a < 4 * (high - low):  # else it belongs to other units
            return float(a), float(b)
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def layer(values: np.ndarray, bits: int) -> Layer:
    """A map as whole numbers of both signs, zero exact."""
    size = np.abs(values)
    most = float(size.max())
    levels = 2 ** (bits - 1) - 1
    share = values.astype(np.float64) / (most or 1.0)
    if bits == 8:
        share = np.sign(share) * np.sqrt(np.abs(share))
    numbers = (np.rint(share * levels) + levels).astype(np.uint8 if bits == 8 else np.uint16)
    full = top_of(values)
    peak = tuple(int(i) for i in np.unravel_index(int(size.argmax()), size.shape))
    beyond = float((size > full * 1.001).mean())
    return Layer(pack(numbers), bits, most, full, peak, max(float(values.max()), 0.0), min(float(values.min()), 0.0), beyond)


# ---------------------------------------------------------------------------------------------------- still pictures
def _cut(values: np.ndarray, plane: Plane, at: Sequence[int]) -> np.ndarray:
    """The slice (rows, columns) of a plane through ``at``."""
    cut = values if plane.through is None else np.take(values, at[plane.through], plane.through)
    rest = [a for a in range(values.ndim) if a != plane.through]
    cut = cut if rest == [plane.y, plane.x] else cut.T
    return cut[::-1] if plane.flip_y else cut


def _still(
    plane: Plane,
    base: list[np.ndarray],
    channels: Sequence[Channel],
    flat: np.ndarray,
    layer: Layer,
    grid: Grid,
    color: bool,
    inverted: bool,
    longest: int = 480,
) -> tuple[str, str]:
    """A slice through the peak as two PNGs: bare, and with the map."""
    shades = []
    for values, channel in zip(base if color else base[:1], channels, strict=False):
        low, high = channel.window
        shades.append(np.clip((_cut(values, plane, layer.peak) - low) / (high - low), 0, 1))
    rgb = np.stack(shades if color else shades * 3, -1)
    rgb = 1 - rgb if inverted else rgb
    values = _cut(flat, plane, layer.peak)
    gray = (rgb @ np.array([0.2126, 0.7152, 0.0722]))[..., None]
    share = np.clip(np.abs(values) / layer.full, 0, 1)[..., None]
    ink = np.where(values[..., None] > 0, _ramp(share, FOR), _ramp(share, AGAINST))
    cover = STRENGTH * share**BEND
    return _png(rgb * 255, plane, grid, longest), _png(gray * 255 * DIM * (1 - cover) + ink * cover, plane, grid, longest)


def still_of(scan: Image, m: Map | None = None, longest: int = 192) -> str:
    """One small picture of a scan as a data URI: a flat one whole, a volume cut through its middle or the strongest place of its map."""
    layout = lay_out(scan)
    plane = layout.planes[0]
    color = scan.channels == RGB
    base = [layout.array(c) for c in scan.values[: 3 if color else 1].detach().cpu().float().numpy()]
    channels = packed_channels(scan, base, scan.channels[: len(base)], color, 8 if color else 16)
    grid = layout.grid(scan.grid)
    inverted = scan.facts.get("photometric") in ("MONOCHROME1", "MINISWHITE")
    if m is None:
        middle = Layer(b"", 16, 1.0, 1.0, tuple(n // 2 for n in grid.shape), 0.0, 0.0)
        return _still(plane, base, channels, np.zeros(grid.shape, np.float32), middle, grid, color, inverted, longest)[0]
    flat = layout.array(relevance_on(m, scan.grid, (1,) * scan.grid.ndim))
    return _still(plane, base, channels, flat, layer(flat, 16), grid, color, inverted, longest)[1]


def flat_picture(channels: Sequence[np.ndarray], image: Image, color: bool, raw: bool = False) -> Any:
    """A slice (rows, columns) of each channel as a PNG of as many pixels, in the image's own window; ``raw``: the first pixel's color."""
    from PIL import Image as Pil

    if color:
        low, high = _color_span([c.detach().cpu().numpy() for c in image.values[:3].float()])
    else:
        low, high = _window(image, 0, image.values[0].detach().cpu().float().numpy())
    shades = [np.clip((c - low) / (high - low), 0, 1) for c in channels]
    rgb = np.stack(shades if color else shades * 3, -1)
    if image.facts.get("photometric") in ("MONOCHROME1", "MINISWHITE"):
        rgb = 1 - rgb
    whole = np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8)
    if raw:
        return whole[0, 0]
    file = BytesIO()
    Pil.fromarray(whole).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + packed_text(file.getvalue())


def _ramp(share: np.ndarray, ends: tuple[tuple[int, int, int], tuple[int, int, int]]) -> np.ndarray:
    a, b = np.array(ends[0], float), np.array(ends[1], float)
    return a + (b - a) * share


def _png(rgb: np.ndarray, plane: Plane, grid: Grid, longest: int = 480) -> str:
    """A PNG at true proportions, as a data URI."""
    from PIL import Image as Pil

    wide, tall = extent(plane, grid)
    zoom = longest / max(wide, tall)
    picture = Pil.fromarray(np.clip(rgb + 0.5, 0, 255).astype(np.uint8))
    picture = picture.resize((max(1, round(wide * zoom)), max(1, round(tall * zoom))), Pil.Resampling.BILINEAR)
    file = BytesIO()
    picture.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def extent(plane: Plane, grid: Grid) -> tuple[float, float]:
    """Width and height of a plane, in the grid's unit."""
    return grid.shape[plane.x] * grid.spacing[plane.x], grid.shape[plane.y] * grid.spacing[plane.y]


def ruler(length: float) -> float:
    """A round length of at most a third of ``length``: 1, 2 or 5 times a power of ten."""
    steps = [m * 10.0**e for e, m in itertools.product(range(-4, 6), (1, 2, 5))]
    return max((s for s in steps if s <= length / 3), default=steps[0])


# ---------------------------------------------------------------------------------------------------- for the page
def for_script(shown: Pictures, scan: Image) -> dict[str, Any]:
    """Everything the page's script draws from, as plain values."""
    grid = shown.grid
    return {
        "shape": list(grid.shape),
        "affine": [list(r) for r in grid.affine],
        "unit": grid.unit,
        "axes": [asdict(axis) for axis in grid.axes],
        "sided": shown.layout.sided,
        "coordinates": shown.layout.coordinates,
        "scan": {
            "shape": list(scan.grid.shape),
            "order": list(shown.layout.order),
            "flip": list(shown.layout.flip),
            "factors": list(shown.factors), "start": list(shown.start),
        },
        "planes": [{"name": p.name, "x": p.x, "y": p.y, "through": p.through, "flipY": p.flip_y, "edges": list(p.edges)} for p in shown.layout.planes],
        "color": shown.color,
        "inverted": shown.inverted,
        "quantity": scan.quantity,
        "channels": [
            {"name": c.name, "bits": c.bits, "low": c.low, "step": c.step, "window": list(c.window), "data": packed_text(c.data)}
            for c in shown.channels
        ],
        "maps": [
            {
                "bits": v.bits, "most": v.most, "full": v.full, "peak": list(v.peak),
                "positive": v.positive, "negative": v.negative, "data": packed_text(v.data),
            }
            for v in shown.layers
        ],
        "colors": {"against": AGAINST, "for": FOR, "strength": STRENGTH, "bend": BEND, "dim": DIM},
    }  # fmt: skip


def packed_text(data: bytes) -> str:
    """Bytes as text of a page."""
    return base64.b64encode(data).decode()
