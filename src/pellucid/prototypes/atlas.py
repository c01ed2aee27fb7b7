"""Atlas: the pictures of a dissection. What the best units fit, and where they answer in images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.io.picture import color_of, gray_of, is_color, planes, single
from pellucid.prototypes.dissected import Answered, Dissection, Judged, UnitConcept
from pellucid.prototypes.figure import INK, LINE, PAPER, SOFT, write

UNIT, CONCEPT = "#e07b1a", "#2e62be"  # where the unit answers (filled), what was marked (outlined): told apart by color-blind eyes
MARKS: dict[Judged, tuple[str, str]] = {
    "detector": ("o", "detector"),
    "no more than chance": ("X", "no more than other patients' masks give"),
    "too few patients": ("^", "too few patients for a test"),
    "below the threshold": ("|", "below the threshold"),
}
ROWS = 10
WIDE, TILE = 7.6, 1.75  # inches


def dissection_figure(found: Dissection, path: str | Path | None = None, *, title: str = "") -> Any:
    """Above: IoU of the best units with its interval, by concept; a filled dot is a detector, a cross no more than chance. Below: for each of the best
    detectors the images in which it answers most (orange), and what was marked there (blue outline), seen or missed.

    Args:
        path: where to write it (``.png``, ``.webp``, ``.svg``, ``.pdf``); None: only make it.
        title: above it.

    Returns:
        The matplotlib Figure.

    Raises:
        BadFile: a suffix that cannot be written, or no such folder.
    """
    from matplotlib.figure import Figure

    shown = _best(found)
    units = list(dict.fromkeys((p.unit, p.concept) for p in found.pictures))
    top, tile = 0.75 + 0.26 * len(shown), TILE + 0.3
    figure = Figure(figsize=(WIDE, top + tile * len(units) + 0.62), facecolor=PAPER)
    height = top + tile * len(units) + 0.62
    at = figure.add_axes((0.27, 1 - (top - 0.3) / height, 0.68, 0.26 * len(shown) / height))
    _bars(at, found, shown)
    figure.text(
        0.012, 1 - 0.08 / height, title or f"Units of {found.site} against concepts", color=INK, fontsize=10.5, va="top", weight="bold"
    )
    for k, (unit, concept) in enumerate(units):
        row = found.of(unit, concept)
        low = height - top - 0.62 - tile * (k + 1) + 0.6
        figure.text(
            0.012, (low + TILE) / height, f"unit {unit}\n{concept}\nIoU {row.iou:.2f}", color=INK, fontsize=8.5, va="top", linespacing=1.4
        )
        tiles = _tiles([p for p in found.pictures if (p.unit, p.concept) == (unit, concept)])
        for i, (image, one) in enumerate(tiles):
            side = (WIDE - 1.35) / max(3, len(tiles))
            _tile(figure.add_axes(((1.2 + side * i) / WIDE, low / height, (side - 0.08) / WIDE, TILE / height)), image, one)
    foot = "Dots: IoU and 95 % interval over patients; dashed: the threshold."
    if units:
        foot += "\nPictures: the images in which a unit answers most (orange), chosen without the marks (blue outline)."
    figure.text(0.012, 0.07 / height, foot, color=SOFT, fontsize=7.5, va="bottom", linespacing=1.4)
    if path is not None:
        write(figure, Path(path))
    return figure


def _best(found: Dissection) -> list[UnitConcept]:
    """The best rows of all, and the best of each concept."""
    rows = sorted(found.rows, key=lambda r: -r.iou)
    first = {c: next(r for r in rows if r.concept == c) for c in found.concepts}
    kept = [*first.values()] + [r for r in rows if r.verdict != "below the threshold" and r is not first[r.concept]]
    return sorted(kept[: max(ROWS, len(first))], key=lambda r: (r.verdict != "detector", -r.iou))


def _bars(at: Any, found: Dissection, shown: Sequence[UnitConcept]) -> None:
    for side in ("top", "right", "left"):
        at.spines[side].set_visible(False)
    at.spines["bottom"].set_color(LINE)
    at.set_ylim(len(shown) - 0.5, -0.5)
    at.set_xlim(0, max(0.1, 1.12 * max((r.iou if math.isnan(r.high) else r.high) for r in shown)))
    at.set_yticks(range(len(shown)), [f"{r.concept}, unit {r.unit}" for r in shown], color=INK, fontsize=8.5)
    at.tick_params(colors=SOFT, labelsize=8, length=0)
    at.tick_params(axis="y", labelcolor=INK)
    at.axvline(found.threshold, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
    seen: set[str] = set()
    for y, r in enumerate(shown):
        mark, words = MARKS[r.verdict]
        color = UNIT if r.verdict == "detector" else SOFT
        if not math.isnan(r.low):
            at.plot([r.low, r.high], [y, y], color=color, linewidth=1.6, solid_capstyle="butt")
        label = None if words in seen else words
        seen.add(words)
        at.plot([r.iou], [y], mark, color=color, markersize=6, label=label, linestyle="none")
        at.axhline(y + 0.5, color=LINE, linewidth=0.5)
    at.set_xlabel("IoU", color=SOFT, fontsize=8, labelpad=2)
    at.legend(loc="lower right", fontsize=7.5, frameon=True, edgecolor=LINE, labelcolor=INK, framealpha=1)


def _tiles(pictures: Sequence[Answered]) -> list[tuple[Any, tuple[np.ndarray, np.ndarray, tuple[float, float]]]]:
    """Of each image the plane to show: what to draw, the unit's mask, the concept's, the size of a sample."""
    found = []
    for p in pictures:
        grid, image = p.image.grid, p.image
        sided = grid.unit == "mm" and (grid.frame is not None or bool(image.facts.get("sided")))
        on, mark = (m.values[0].cpu().numpy() for m in (p.answer, p.mask))
        base = gray_of(image, grid.shape)
        if grid.ndim == 3:
            at = tuple(int(v) for v in np.argwhere(on > 0.5).mean(0).round()) if on.any() else tuple(n // 2 for n in grid.shape)
            first, other = (planes(m, base, grid, sided, at)[0] for m in (on, mark))
        else:
            first, other = (single(m, base, grid, sided, image) for m in (on, mark))
        drawn = color_of(image) if is_color(image) and not sided and grid.ndim == 2 else first.base
        found.append((drawn, (first.values, other.values, first.sample)))
    return found


def _tile(at: Any, drawn: Any, one: tuple[np.ndarray, np.ndarray, tuple[float, float]]) -> None:
    on, mark, sample = one
    if len(drawn) == 1:  # a signal: its course, with where the unit answers
        at.plot(drawn[0], color=SOFT, linewidth=0.9)
        at.fill_between(np.arange(len(on[0])), drawn.min(), drawn.max(), where=on[0] > 0.5, color=UNIT, alpha=0.5, step="mid", linewidth=0)
        at.plot(np.where(mark[0] > 0.5, drawn.min(), np.nan), color=CONCEPT, linewidth=3)
    else:
        at.imshow(drawn, cmap="gray", vmin=0, vmax=1, aspect=sample[0] / sample[1], interpolation="nearest")
        cover = np.zeros((*on.shape, 4))
        cover[on > 0.5] = (0.88, 0.48, 0.10, 0.55)
        at.imshow(cover, aspect=sample[0] / sample[1], interpolation="nearest")
        if mark.any() and not mark.all():
            at.contour(mark, levels=[0.5], colors=["white"], linewidths=2.2)
            at.contour(mark, levels=[0.5], colors=[CONCEPT], linewidths=1.3)
    at.set_axis_off()
    at.set_anchor("NW")
