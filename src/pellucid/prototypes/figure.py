"""Pictures side by side: flat ones as they are, volumes as three planes, signals as lines, each with its numbers below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pellucid.errors import BadFile, BadParameter
from pellucid.files import whole
from pellucid.image import Image
from pellucid.io.picture import is_color, planes, single

INK, SOFT, LINE, PAPER = "#18232e", "#566473", "#dde3e9", "white"
SIGNAL = "#2e62be"
SIDE, TEXT = 2.35, 0.17  # inches: a panel's width, a line below it
WIDE = 58  # letters of the longest line of a title or a caption for each panel
COLUMNS = 6


@dataclass(frozen=True, eq=False)
class Panel:
    """A picture with a title above and lines below.

    ``low`` and ``high`` are drawn black and white; ``weight`` (*space) from 0 to 1 fades what is of no weight to gray; ``at`` is the sample through
    which the planes of a volume go (None: its middle).
    """

    image: Image
    title: str
    lines: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    weight: Tensor | None = None
    at: tuple[int, ...] | None = None


def draw(panels: Sequence[Panel], path: str | Path | None = None, *, title: str = "", caption: str = "", columns: int = COLUMNS) -> Any:
    """A matplotlib Figure of pictures side by side; volumes get a row of three planes each, signals a line each.

    Args:
        panels: what to draw, at least one, all with the same number of axes.
        path: where to write it (``.png``, ``.webp``, ``.svg``, ``.pdf``); None: only make it.
        title, caption: above and below.
        columns: flat pictures in a row, at most.

    Raises:
        BadParameter: nothing to draw.
        BadFile: a suffix that cannot be written, or no such folder.
    """
    from matplotlib.figure import Figure

    if not panels:
        raise BadParameter("at least one picture", "none", "Give what a prototype holds.")
    deep = panels[0].image.grid.ndim == 3
    rows = [[p] for p in panels] if deep else [list(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    wide = 3 if deep else max(map(len, rows))
    lines = [max(len(p.lines) for p in row) for row in rows]
    tall = [SIDE * max(_shape(p) for p in row) + TEXT * (n + 1.6) for row, n in zip(rows, lines, strict=True)]
    head, foot = _fold(title, WIDE * wide // 2), _fold(caption, int(WIDE * wide // 1.55))
    above, below = 0.3 * len(head.splitlines()), 0.17 * len(foot.splitlines()) + 0.1
    figure = Figure(figsize=(SIDE * wide + 0.2, sum(tall) + above + below), facecolor=PAPER)
    height = float(figure.get_size_inches()[1])
    top = height - above
    for row, size, n in zip(rows, tall, lines, strict=True):
        for k, panel in enumerate(row):
            box = _Box(0.1 + SIDE * k, top - size + TEXT * (n + 0.4), SIDE, size - TEXT * (n + 1.6))
            _place(figure, panel, box)
        top -= size
    if head:
        figure.text(0.1 / (SIDE * wide), 1 - 0.06 / height, head, color=INK, fontsize=10.5, va="top", ha="left", fontweight="bold")
    if foot:
        figure.text(0.1 / (SIDE * wide), 0.06 / height, foot, color=SOFT, fontsize=8, va="bottom", ha="left")
    if path is not None:
        write(figure, Path(path))
    return figure


@dataclass(frozen=True)
class _Box:
    """A place in inches from the lower left."""

    left: float
    low: float
    wide: float
    tall: float

    def of(self, figure: Any) -> tuple[float, float, float, float]:
        w, h = figure.get_size_inches()
        return ((self.left + 0.05) / w, self.low / h, (self.wide - 0.1) / w, self.tall / h)


def _fold(text: str, wide: int) -> str:
    import textwrap

    return "\n".join(textwrap.fill(line, wide) for line in text.splitlines())


def _views(panel: Panel) -> list[tuple[str, np.ndarray, tuple[float, float]]]:
    """What is drawn of a picture: titles, gray or color values from 0 to 1, and the size of a sample."""
    image = panel.image
    shown = ((image.values.detach().cpu().double() - panel.low) / ((panel.high - panel.low) or 1.0)).clamp(0, 1)
    if panel.weight is not None:
        cover = panel.weight.detach().cpu().double().clamp(0, 1)
        shown = shown * cover + 0.5 * (1 - cover)
    grid, sided = image.grid, image.grid.unit == "mm" and (image.grid.frame is not None or bool(image.facts.get("sided")))
    flat = np.asarray(shown.numpy())
    if grid.ndim == 3:
        at = panel.at if panel.at is not None else tuple(n // 2 for n in grid.shape)
        cuts = planes(flat[0], flat[0], grid, sided, at)
        return [(f"{c.title}  {c.edges[0]}|{c.edges[1]}" if c.edges[0] else c.title, c.base, c.sample) for c in cuts]
    if is_color(image):
        return [("", np.moveaxis(flat, 0, -1), (grid.spacing[0], grid.spacing[1]))]
    cut = single(flat[0], flat[0], grid, sided, image)
    return [("", cut.base, cut.sample)]


def _shape(panel: Panel) -> float:
    """The tallest view's height over its width; a signal's is fixed."""
    if panel.image.grid.shape[0] == 1 and panel.image.grid.ndim == 2:
        return 0.5
    return max(v.shape[0] * s[0] / (v.shape[1] * s[1]) for _, v, s in _views(panel))


def _place(figure: Any, panel: Panel, box: _Box) -> None:
    """A panel's views from the box on, the title above, the lines below the first."""
    if panel.image.grid.shape[0] == 1 and panel.image.grid.ndim == 2:
        _signal(figure, panel, box)
        return
    for k, (name, values, sample) in enumerate(_views(panel)):
        at = figure.add_axes(_Box(box.left + k * SIDE, box.low, box.wide, box.tall).of(figure))
        at.imshow(values, cmap="gray", vmin=0, vmax=1, aspect=sample[0] / sample[1], interpolation="nearest")
        at.set_axis_off()
        at.set_anchor("N")
        _words(at, panel if k == 0 else None, name)


def _signal(figure: Any, panel: Panel, box: _Box) -> None:
    at = figure.add_axes(box.of(figure))
    for channel in panel.image.values.detach().cpu().flatten(1):
        at.plot(channel.numpy(), linewidth=1, color=SIGNAL, alpha=0.8)
    at.set_ylim(panel.low, panel.high)
    at.tick_params(colors=SOFT, labelsize=6, length=2)
    for side in ("top", "right"):
        at.spines[side].set_visible(False)
    _words(at, panel, "")


def _words(at: Any, panel: Panel | None, view: str) -> None:
    title = " · ".join(t for t in (panel.title if panel else "", view) if t)
    at.set_title(title, color=INK, fontsize=8.5, loc="left", pad=4)
    if panel is not None and panel.lines:
        at.text(0, -0.02, "\n".join(panel.lines), transform=at.transAxes, color=SOFT, fontsize=7.5, va="top", ha="left", linespacing=1.35)


def write(figure: Any, path: Path) -> None:
    """Write a figure by its suffix, whole or not at all."""
    if path.suffix.lower() not in (".png", ".webp", ".svg", ".pdf"):
        raise BadFile(f"write a figure to {path}", f"suffix {path.suffix!r}", "Use .png, .webp, .svg or .pdf.")
    if not path.parent.is_dir():
        raise BadFile(f"write {path}", f"no folder {path.parent}", "Create it first.")
    with whole(path) as draft:
        figure.savefig(draft, format=path.suffix[1:].lower(), dpi=150)
