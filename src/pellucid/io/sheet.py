"""A sheet: many maps of one scan in one picture, each with its title, its own scale about zero, and what it was measured as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.io import picture
from pellucid.io.picture import FAINT, INK, PAPER, Palette, Panel

SIDE = {2: 260, 3: 180}  # pixels of a panel's longer edge
GAP, HEAD, FOOT, BAR = 18, 46, 34, 8


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a sheet: an image, the map over it (*space) on the image's grid or None, and words.

    ``top`` is the value of full color (None: the map's own); ``outline`` a grid whose edge is drawn; ``at`` the sample through which a
    volume is cut (None: the map's largest |value|).
    """

    title: str
    image: Image
    values: Tensor | None = None
    note: str = ""
    top: float | None = None
    outline: Grid | None = None
    at: tuple[int, ...] | None = None


def sheet(tiles: Sequence[Tile], *, columns: int, palette: str = "blue-orange", sided: bool = False, zoom: float = 1.0) -> Any:
    """The tiles as one PIL picture, row by row; ``zoom`` enlarges the pictures, not the words.

    Raises:
        BadImage: no tiles, or a map that does not lie on its image's grid.
        BadParameter: no palette of that name.
    """
    from PIL import Image as Pil

    colors = picture.palette_of(palette)
    if not tiles:
        raise BadImage("a sheet shows at least one tile", "none", "Explain something first.")
    drawn = [_tile(t, colors, sided, zoom) for t in tiles]
    rows = [drawn[i : i + columns] for i in range(0, len(drawn), columns)]
    widths = [max(r[c].width for r in rows if c < len(r)) for c in range(len(rows[0]))]
    heights = [max(d.height for d in r) for r in rows]
    page = Pil.new("RGB", (sum(widths) + GAP * (len(widths) + 1), sum(heights) + GAP * (len(heights) + 1)), PAPER)
    y = GAP
    for row, tall in zip(rows, heights, strict=True):
        x = GAP
        for tile, wide in zip(row, widths, strict=False):
            page.paste(tile, (x, y))
            x += wide + GAP
        y += tall + GAP
    return page


def full_color(values: Tensor) -> float:
    """The value at which a map's color is full."""
    return picture.top_of(values.detach().cpu().double().numpy())


def _tile(tile: Tile, colors: Palette, sided: bool, zoom: float) -> Any:
    from PIL import Image as Pil
    from PIL import ImageDraw

    grid, space = tile.image.grid, tile.image.grid.shape
    if tile.values is not None and tuple(tile.values.shape) != space:
        raise BadImage(f"a map on its image's grid {space}", f"{tuple(tile.values.shape)}", "Bring it there: why.on(image.grid).")
    flat = np.zeros(space) if tile.values is None else tile.values.detach().cpu().double().numpy()
    top = tile.top or picture.top_of(flat)
    panels = _panels(tile, flat, grid, sided)
    zoom *= SIDE[grid.ndim] / max(n * s for p in panels for n, s in zip(p.values.shape, p.sample, strict=True))
    cut = [picture.draw(p, top, zoom, colors, plain=tile.values is None) for p in panels]
    if tile.outline is not None and grid.ndim == 2:
        _outline(cut[0], tile.outline, grid)
    wide, tall = sum(c.width for c in cut) + 6 * (len(cut) - 1), max(c.height for c in cut)
    made = Pil.new("RGB", (max(wide, 200), HEAD + tall + FOOT), PAPER)
    pen = ImageDraw.Draw(made)
    for text, y, size, ink in ((tile.title, 17, 15, INK), (tile.note, 37, 12, FAINT)):
        pen.text((0, y), _fitting(pen, text, made.width, size), fill=ink, font=picture.font(size, text), anchor="ls")
    x = 0
    for c in cut:
        made.paste(c, (x, HEAD))
        x += c.width + 6
    if tile.values is not None:
        _bar(made, pen, HEAD + tall + 8, wide, top, flat, colors)
    elif grid.unit == "mm":
        picture.scale(pen, cut[0], panels[0], 0, HEAD + tall + 14)
    return made


def _panels(tile: Tile, flat: np.ndarray, grid: Grid, sided: bool) -> list[Panel]:
    base = picture.gray_of(tile.image, flat.shape)
    if grid.ndim == 3:
        return picture.planes(flat, base, grid, sided, tile.at)
    panel = picture.single(flat, base, grid, sided, tile.image)
    return [
        replace(panel, base=picture.color_of(tile.image)) if tile.values is None and picture.is_color(tile.image) and not sided else panel
    ]


def _outline(drawn: Any, of: Grid, grid: Grid) -> None:
    """The edge of another grid in the plane of this one, as a polygon."""
    from PIL import ImageDraw

    to = of.map_to(grid)
    h, w = (n - 0.5 for n in of.shape)
    corners = [to @ np.array([i, j, 1.0]) for i, j in ((-0.5, -0.5), (-0.5, w), (h, w), (h, -0.5), (-0.5, -0.5))]
    scale = (drawn.width / grid.shape[1], drawn.height / grid.shape[0])
    points = [
        (min(max((c[1] + 0.5) * scale[0], 1), drawn.width - 2), min(max((c[0] + 0.5) * scale[1], 1), drawn.height - 2)) for c in corners
    ]
    pen = ImageDraw.Draw(drawn)
    pen.line(points, fill=PAPER, width=4)
    pen.line(points, fill=INK, width=2)


def _fitting(pen: Any, text: str, wide: int, size: int) -> str:
    """The text, shortened until it fits."""
    font = picture.font(size, text)
    if pen.textlength(text, font=font) <= wide:
        return text
    while text and pen.textlength(text + "…", font=font) > wide:
        text = text[:-1]
    return text + "…"


def _bar(page: Any, pen: Any, y: int, wide: int, top: float, flat: np.ndarray, colors: Palette) -> None:
    """A color bar over the signs that occur, zero marked, with its two numbers."""
    from PIL import Image as Pil

    low = -1.0 if flat.min() < 0 else 0.0
    high = 1.0 if flat.max() > 0 or low == 0 else 0.0
    beyond = {1.0: flat.max() > top * 1.001, -1.0: flat.min() < -top * 1.001, 0.0: False}
    length = min(wide, 200)
    values = np.linspace(low, high, length)[None].repeat(BAR, 0)
    ramp = picture.colored(np.full(values.shape, 0.12), values, 1.0, colors)
    page.paste(Pil.fromarray(np.clip(ramp, 0, 255).astype(np.uint8)), (0, y))
    for at, anchor in {low: "lt", 0.0: "mt", high: "rt"}.items():
        x = (at - low) / (high - low) * (length - 1)
        number = "0" if at == 0 else f"{'<' if at < 0 and beyond[at] else '>' if beyond[at] else ''}{at * top:+.2g}"
        anchor = "lt" if x == 0 else "rt" if x == length - 1 else anchor
        pen.line(((x, y - 2), (x, y + BAR + 1)), fill=INK)
        pen.text((x, y + BAR + 4), number, fill=INK, font=picture.font(12), anchor=anchor)
