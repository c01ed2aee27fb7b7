"""A curve drawn with Pillow: what has been so far in color, what comes faintly, and a point where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pellucid.io import picture
from pellucid.io.picture import FAINT, INK

LINE, GRID, LATER = (255, 176, 72), (44, 50, 60), (84, 92, 104)
OTHERS = ((108, 160, 220), (140, 150, 165), (120, 170, 140), (170, 130, 170), (160, 150, 110))


@dataclass(frozen=True)
class Curve:
    """Lines over one axis, the first the one that matters. ``level`` is a dotted line (the score of the image itself)."""

    lines: tuple[tuple[float, ...], ...]
    title: str
    words: str
    across: tuple[float, ...] | None = None
    span: tuple[float, float] | None = None
    level: float | None = None
    dots: bool = False


def draw_curve(pen: Any, curve: Curve, at: int, frame: tuple[int, int, int, int]) -> None:
    """Draw into the rectangle ``frame`` (left, top, right, bottom); ``at`` is the step that the film has reached."""
    left, top, right, bottom = frame[0] + 52, frame[1] + 24, frame[2] - 6, frame[3] - 36
    low, high = curve.span or _span(curve)
    across = curve.across or tuple(float(k) for k in range(len(curve.lines[0])))
    first, last = across[0], across[-1] if across[-1] != across[0] else across[0] + 1.0

    def spot(k: int, value: float) -> tuple[float, float]:
        x = left + (across[k] - first) / (last - first) * (right - left)
        return x, bottom - (value - low) / (high - low) * (bottom - top)

    pen.text((frame[0], frame[1] + 10), curve.title, fill=FAINT, font=picture.font(13, curve.title), anchor="lm")
    for share in (0.0, 0.5, 1.0):
        height, value = bottom - share * (bottom - top), low + share * (high - low)
        pen.line(((left, height), (right, height)), fill=GRID)
        number = f"{value:.0%}" if curve.span == (0.0, 1.0) else f"{value:.3g}"
        pen.text((left - 7, height), number, fill=FAINT, font=picture.font(12), anchor="rm")
    pen.text(((left + right) / 2, bottom + 20), curve.words, fill=FAINT, font=picture.font(12), anchor="mm")
    if curve.level is not None and low <= curve.level <= high:
        height = spot(0, curve.level)[1]
        for start in range(left, right, 8):
            pen.line(((start, height), (min(start + 3, right), height)), fill=INK)
    for line, color in [*zip(curve.lines[1:], OTHERS, strict=False), (curve.lines[0], LINE)]:
        spots = [spot(k, v) for k, v in enumerate(line)]
        if curve.dots:
            for k, (x, y) in enumerate(spots[: at + 1]):
                size = 4 if k == at else 1.5
                pen.ellipse((x - size, y - size, x + size, y + size), fill=INK if k == at else color)
            continue
        pen.line(spots, fill=LATER if line is curve.lines[0] else GRID, width=1)
        pen.line(spots[: at + 1], fill=color, width=3 if line is curve.lines[0] else 2)
    if not curve.dots:
        x, y = spot(at, curve.lines[0][at])
        pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=INK)


def _span(curve: Curve) -> tuple[float, float]:
    """From the least to the largest value, a little more, never nothing."""
    values = [v for line in curve.lines for v in line] + ([curve.level] if curve.level is not None else [])
    low, high = min(values), max(values)
    more = 0.06 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - more, high + more
