"""A map laid over its scan as one picture: blue against, orange for (or red and green, with marks of sign), zero always clear."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.grid import Grid
from pellucid.image import Image

INK, FAINT, PAPER = (232, 236, 242), (128, 138, 152), (13, 16, 21)
Ramp = tuple[tuple[int, int, int], tuple[int, int, int]]
GAP, BAR, MARGIN, HEAD = 14, 16, 22, 30
ENDS = (("L", "R"), ("P", "A"), ("I", "S"))  # where each RAS axis starts and ends
STRENGTH = 0.88  # opacity of the strongest value


@dataclass(frozen=True)
class Palette:
    """Two ramps of color, from near zero to the extreme. ``marked``: signs are written into the picture, since not all eyes tell the colors."""

    against: Ramp
    toward: Ramp
    marked: bool = False


BLUE_ORANGE = Palette(((46, 98, 190), (120, 200, 255)), ((214, 96, 22), (255, 214, 120)))  # told apart by color-blind eyes
PALETTES = {"blue-orange": BLUE_ORANGE, "green-red": Palette(((176, 24, 36), (255, 128, 116)), ((22, 138, 58), (140, 240, 130)), True)}


def palette_of(name: str) -> Palette:
    """A palette by its name.

    Raises:
        BadParameter: no palette of that name.
    """
    if name not in PALETTES:
        raise BadParameter(f"a palette is one of {', '.join(PALETTES)}", repr(name), "Choose one.")
    return PALETTES[name]


@dataclass(frozen=True)
class Panel:
    """One picture to draw: gray base and map as (rows, columns), size of a sample, letters at its left, right, top, bottom, the cross."""

    title: str
    base: np.ndarray
    values: np.ndarray
    sample: tuple[float, float]
    edges: tuple[str, str, str, str]
    cross: tuple[float, float] | None


def overlay(values: Tensor, grid: Grid, *, image: Image | None = None, sided: bool = False, palette: str = "blue-orange") -> Any:
    """The map over the image as a PIL picture: a 2D map beside its scan, a volume as three slices through its largest value.

    ``values`` (c, *space) or (*space); channels are summed. Where ``sided`` (left and right are known) slices are shown as radiologists
    do, the patient's right on the viewer's left, with letters; else axes as stored, without letters. ``palette="green-red"`` marks signs.
    """
    colors = palette_of(palette)
    values = values[None] if values.ndim == grid.ndim else values
    if image is not None and image.grid != grid:
        values, grid = Image(values, grid).on(image.grid, fill=0.0).values, image.grid
    flat = values.detach().cpu().float().sum(0).numpy()
    base = gray_of(image, flat.shape)
    top = top_of(flat)
    panels = planes(flat, base, grid, sided) if grid.ndim == 3 else [single(flat, base, grid, sided, image)]
    longest = max(n * s for p in panels for n, s in zip(p.base.shape, p.sample, strict=True))
    zoom = (384 if grid.ndim == 3 else 512) / longest
    drawn = [draw(p, top, zoom, colors) for p in panels]
    if grid.ndim == 2 and image is not None:
        drawn.insert(
            0, draw(replace(panels[0], base=color_of(image)) if is_color(image) and not sided else panels[0], top, zoom, colors, plain=True)
        )
    return _page(drawn, top, flat, grid, panels, colors)


def top_of(flat: np.ndarray) -> float:
    """The value of full color of a map, in every picture of it: the 99.9th percentile of |v| where it is not 0, at least a twentieth of the most.

    One voxel must not darken the rest, nor noise everywhere drown one spot.
    """
    size = np.abs(flat)
    some = size[size > 0]
    return max(float(np.quantile(some, 0.999)), float(some.max()) / 20) if some.size else 1.0


def gray_of(image: Image | None, shape: tuple[int, ...], window: tuple[float, float] | None = None) -> np.ndarray:
    """The scan between 0 and 1, in ``window`` or its own; color as luminance."""
    if image is None:
        return np.full(shape, 0.06)
    low, high = window_of(image) if window is None else window
    gray = np.clip((_luminance(image) - low) / ((high - low) or 1.0), 0, 1)
    return 1 - gray if image.facts.get("photometric") in ("MONOCHROME1", "MINISWHITE") else gray


def window_of(image: Image) -> tuple[float, float]:
    """Black and white: the scan's own window where that fits its values, else the 1st to 99th percentile."""
    flat = _luminance(image)
    seen = flat if image.background is None else flat[~image.background.cpu().numpy()]
    some = (seen if seen.size else flat).reshape(-1)[:: max(1, seen.size // 500_000)]  # enough for a window
    low, high = (float(q) for q in np.quantile(some, (0.01, 0.99)))
    window = image.facts.get("window")
    if window is not None:
        a, b = window[0] - window[1] / 2, window[0] + window[1] / 2
        if a < high and b > low and b - a < 4 * (high - low):  # else it belongs to other units
            low, high = a, b
    return low, high


def _luminance(image: Image) -> np.ndarray:
    v = image.values.detach().cpu().float().numpy()
    return np.asarray(np.tensordot([0.2126, 0.7152, 0.0722], v, 1) if is_color(image) else v[0])


def is_color(image: Image) -> bool:
    """Whether the channels are red, green and blue."""
    return image.channels == ("red", "green", "blue")


def color_of(image: Image) -> np.ndarray:
    """A color picture as (rows, columns, 3) between 0 and 1: full scale is 1, 255 or 65535, or the range of other numbers."""
    v = np.moveaxis(image.values.detach().cpu().double().numpy(), 0, -1)
    low = min(float(v.min()), 0.0)
    high = next((top for top in (1.0, 255.0, 65535.0) if v.max() <= top), float(v.max())) if low == 0 else float(v.max())
    return np.clip((v - low) / (high - low), 0, 1)


def _world_axes(grid: Grid) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """For each tensor axis the RAS axis that it follows most, each taken once, and whether it runs backward."""
    cosines = grid.matrix[:3, : grid.ndim] / np.array(grid.spacing)
    best = max(itertools.permutations(range(3), grid.ndim), key=lambda p: sum(abs(cosines[w, a]) for a, w in enumerate(p)))
    return best, tuple(bool(cosines[w, a] < 0) for a, w in enumerate(best))


def planes(flat: np.ndarray, base: np.ndarray, grid: Grid, sided: bool, at: tuple[int, ...] | None = None) -> list[Panel]:
    """Three orthogonal slices through the sample ``at``, or through the largest |value|."""
    spacing = np.array(grid.spacing)
    if grid.unit == "mm":
        world, back = _world_axes(grid)
        order = tuple(int(i) for i in np.argsort(world))
        turned = [n for n, a in enumerate(order) if back[a]]
        flat, base = (np.flip(np.transpose(t, order), tuple(turned)) for t in (flat, base))
        spacing = spacing[list(order)]
        at = None if at is None else tuple(flat.shape[n] - 1 - at[a] if n in turned else at[a] for n, a in enumerate(order))
        views = (("axial", 1, 0), ("coronal", 2, 0), ("sagittal", 2, 1))
    else:
        views = (("axes 1, 2", 0, 1), ("axes 1, 3", 0, 2), ("axes 2, 3", 1, 2))
    peak = np.unravel_index(int(np.abs(flat).argmax()), flat.shape) if at is None else at
    panels = []
    for name, rows, columns in views:
        through = 3 - rows - columns
        cut = [t[(slice(None),) * through + (peak[through],)] for t in (flat, base)]
        cut = [t if rows < columns else t.T for t in cut]
        cross = [float(peak[rows]), float(peak[columns])]
        if grid.unit == "mm":  # superior or anterior on top; the patient's right, or anterior, on the left
            cut = [t[::-1, ::-1] for t in cut]
            cross = [flat.shape[rows] - 1 - cross[0], flat.shape[columns] - 1 - cross[1]]
        edges = (ENDS[columns][1], ENDS[columns][0], ENDS[rows][1], ENDS[rows][0]) if sided else ("",) * 4
        title = name if sided or grid.unit == "px" else f"axes {rows + 1}, {columns + 1}"
        panels.append(Panel(title, cut[1], cut[0], (spacing[rows], spacing[columns]), edges, (cross[0], cross[1])))
    return panels


def single(flat: np.ndarray, base: np.ndarray, grid: Grid, sided: bool, image: Image | None) -> Panel:
    """A 2D map as stored; transposed only where its rows run left to right (NIfTI), mammograms excepted."""
    spacing = grid.spacing
    if not sided:
        down, across = grid.ends()
        return Panel("", base, flat, (spacing[0], spacing[1]), (*across, *down), None)
    (rows, columns), back = _world_axes(grid)
    if rows == 0 and (image is None or image.facts.get("modality") != "MG"):
        flat, base, spacing = flat.T, base.T, spacing[::-1]
        rows, columns, back = columns, rows, back[::-1]
        turn = [n for n in (0, 1) if not back[n]]
        flat, base, back = np.flip(flat, tuple(turn)), np.flip(base, tuple(turn)), (True, True)
    ends = [(ENDS[w][1], ENDS[w][0]) if b else ENDS[w] for w, b in ((rows, back[0]), (columns, back[1]))]
    return Panel("", base, flat, (spacing[0], spacing[1]), (*ends[1], *ends[0]), None)


def _ramp(strength: np.ndarray, ends: Ramp) -> np.ndarray:
    a, b = np.array(ends[0], float), np.array(ends[1], float)
    return a + (b - a) * strength[..., None]


def colored(base: np.ndarray, values: np.ndarray, top: float, colors: Palette) -> np.ndarray:
    """Dimmed gray under color; opacity grows with |value| from nothing at zero."""
    share = np.clip(np.abs(values) / top, 0, 1)
    color = np.where((values > 0)[..., None], _ramp(share, colors.toward), _ramp(share, colors.against))
    cover = (STRENGTH * share**0.7)[..., None]
    return base[..., None] * 208 * (1 - cover) + color * cover


def draw(panel: Panel, top: float, zoom: float, colors: Palette, *, plain: bool = False) -> Any:
    """One panel at its true proportions, ``zoom`` pixels per unit of length; ``plain`` leaves the map out."""
    from PIL import Image as Pil
    from PIL import ImageDraw

    h, w = panel.values.shape
    size = (max(24, round(zoom * w * panel.sample[1])), max(24, round(zoom * h * panel.sample[0])))

    def fit(t: np.ndarray) -> np.ndarray:
        if t.ndim == 3:
            return np.stack([fit(c) for c in np.moveaxis(t, -1, 0)], -1)
        picture = Pil.fromarray(np.ascontiguousarray(t, dtype=np.float32))
        return np.asarray(picture.resize(size, Pil.Resampling.BILINEAR), dtype=np.float64)

    base, values = np.clip(fit(panel.base), 0, 1), fit(panel.values)
    shown = base if base.ndim == 3 else base[..., None].repeat(3, 2)
    rgb = shown * 255 if plain else colored(base, values, top, colors)
    drawn = Pil.fromarray(np.clip(rgb + 0.5, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(drawn)
    if colors.marked and not plain:
        _mark(pen, values / top)
    if panel.cross is not None:
        y, x = ((c + 0.5) / n * s for c, n, s in zip(panel.cross, (h, w), (size[1], size[0]), strict=True))
        for line in (((x, 0), (x, 9)), ((x, size[1] - 10), (x, size[1])), ((0, y), (9, y)), ((size[0] - 10, y), (size[0], y))):
            pen.line(line, fill=INK, width=1)
    spots = (((6, size[1] // 2), "lm"), ((size[0] - 6, size[1] // 2), "rm"), ((size[0] // 2, 4), "ma"), ((size[0] // 2, size[1] - 4), "md"))
    letters = _fitting(pen, max(panel.edges, key=len), size[0] / 4)
    for letter, (spot, anchor) in zip(panel.edges, spots, strict=True):
        pen.text(spot, letter, fill=INK, font=letters, anchor=anchor, stroke_width=2, stroke_fill=PAPER)
    return drawn


def _fitting(pen: Any, text: str, wide: float) -> Any:
    """The largest font in which a text at an edge leaves the picture free."""
    return next((f for f in map(font, range(17, 9, -1)) if pen.textlength(text, font=f) <= wide), font(9))


def _mark(pen: Any, shares: np.ndarray, apart: int = 26, least: float = 0.35) -> None:
    """A plus or a minus at strong places, strongest first, none near another; the strongest of all always gets its own."""
    size, (h, w) = np.abs(shares), shares.shape
    found: list[tuple[int, int]] = []
    for top, left in itertools.product(range(0, h, apart), range(0, w, apart)):
        part = size[top : top + apart, left : left + apart]
        row, column = divmod(int(part.argmax()), part.shape[1])
        found.append((top + row, left + column))
    placed: list[tuple[int, int]] = []
    for y, x in sorted(found, key=lambda p: -size[p]):
        if 0 < size[y, x] >= min(least, size.max()) and all((y - b) ** 2 + (x - a) ** 2 >= (0.8 * apart) ** 2 for b, a in placed):
            placed.append((y, x))
            for ink, width, arm in ((PAPER, 5, 6), (INK, 2, 5)):
                pen.line(((x - arm, y), (x + arm, y)), fill=ink, width=width)
                if shares[y, x] > 0:
                    pen.line(((x, y - arm), (x, y + arm)), fill=ink, width=width)
                    pen.line(((x - arm, y), (x + arm, y)), fill=ink, width=width)


def font(size: int, text: str = "") -> Any:
    """The font that comes with Pillow; for words with letters that it lacks (Ö, é, μ) the one that comes with matplotlib."""
    from PIL import ImageFont

    if not all(c.isascii() or c in "…·°±" for c in text):
        home = find_spec("matplotlib")
        file = Path(home.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if home is not None and home.origin else None
        if file is not None and file.exists():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)


def _page(drawn: list[Any], top: float, flat: np.ndarray, grid: Grid, panels: list[Panel], colors: Palette) -> Any:
    """Panels side by side with titles, a scale where lengths are known, and the color bar."""
    from PIL import Image as Pil
    from PIL import ImageDraw

    tall = max(d.height for d in drawn)
    wide = sum(d.width for d in drawn) + GAP * len(drawn)
    page = Pil.new("RGB", (MARGIN + wide + BAR + 96, HEAD + tall + 40), PAPER)
    pen = ImageDraw.Draw(page)
    titles = [p.title for p in panels] if grid.ndim == 3 else ["scan", "map over scan"] if len(drawn) == 2 else ["map"]
    x = MARGIN
    for d, title in zip(drawn, titles, strict=True):
        y = HEAD + (tall - d.height) // 2
        page.paste(d, (x, y))
        pen.text((x, HEAD - 9), title, fill=FAINT, font=font(14), anchor="ls")
        x += d.width + GAP
    if grid.unit == "mm":
        scale(pen, drawn[0], panels[0], MARGIN, HEAD + tall + 14)
    bar(page, pen, x + 4, HEAD, tall, top, flat, colors)
    return page


def scale(pen: Any, drawn: Any, panel: Panel, x: int, y: int) -> None:
    """A bar of 1, 2 or 5 times a power of ten millimeters, about a fifth of the panel."""
    length = panel.values.shape[1] * panel.sample[1]
    steps = [m * 10.0**e for e in range(-4, 5) for m in (1, 2, 5)]
    mm = max((s for s in steps if s <= length / 4), default=steps[0])
    pixels = round(mm / length * drawn.width)
    pen.line(((x, y), (x + pixels, y)), fill=INK, width=3)
    pen.text((x + pixels + 8, y), f"{mm:g} mm", fill=INK, font=font(14), anchor="lm")


def bar(page: Any, pen: Any, x: int, y: int, tall: int, top: float, flat: np.ndarray, colors: Palette) -> None:
    """The color bar, over the signs that occur, zero marked."""
    from PIL import Image as Pil

    low = -1.0 if flat.min() < 0 else 0.0
    high = 1.0 if flat.max() > 0 or low == 0 else 0.0
    values = np.linspace(high, low, tall)[:, None].repeat(BAR, 1)
    page.paste(Pil.fromarray(np.clip(colored(np.full(values.shape, 0.12), values, 1.0, colors), 0, 255).astype(np.uint8)), (x, y))
    beyond = {1.0: flat.max() > top * 1.001, -1.0: flat.min() < -top * 1.001}
    for at in {high, 0.0, low}:
        sign = {1.0: "> " if beyond[1.0] else "", -1.0: "< " if beyond[-1.0] else "", 0.0: ""}[at]
        height = y + (high - at) / (high - low) * (tall - 1)
        pen.line(((x + BAR, height), (x + BAR + 5, height)), fill=INK)
        number = f"{at * top:+.3g}" if colors.marked and at else f"{at * top:.3g}"
        pen.text((x + BAR + 9, height), f"{sign}{number}", fill=INK, font=font(14), anchor="lm")


def save(picture: Any, target: Path, texts: Mapping[str, str]) -> None:
    """Write the picture as PNG with our name in it, so that it may be replaced later, and with named texts."""
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "pellucid")
    for name, text in texts.items():
        info.add_itxt(name, text)
    picture.save(target, format="PNG", pnginfo=info)


def is_ours(path: Path) -> bool:
    """Whether an existing PNG was written here, so that it may be replaced."""
    from PIL import Image as Pil

    try:
        with Pil.open(path, formats=("PNG",)) as picture:
            return bool(getattr(picture, "text", {}).get("Software") == "pellucid")
    except (OSError, SyntaxError):
        return False
