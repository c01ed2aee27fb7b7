"""What a dissection found: units against concepts in numbers, words, a table and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pellucid.explanation import Evidence, Measurement, Provenance
from pellucid.findings import KEPT, Finding
from pellucid.image import Image
from pellucid.io.picture import gray_of, planes, single
from pellucid.prototypes.figure import INK, LINE, PAPER, SOFT, write
from pellucid.table import Table, percent

Judged = Literal["detector", "no more than chance", "too few patients", "below the threshold"]
UNIT, CONCEPT = "#e07b1a", "#2e62be"  # where the unit answers (filled), what was marked (outlined): told apart by color-blind eyes
MARKS: dict[Judged, tuple[str, str]] = {
    "detector": ("o", "detector"),
    "no more than chance": ("X", "no more than other patients' masks give"),
    "too few patients": ("^", "too few patients for a test"),
    "below the threshold": ("|", "below the threshold"),
}
ROWS = 10
WIDE, TILE = 7.6, 1.75  # inches
CAVEAT = (
    "A unit that answers where a concept lies need not be used for any decision, and a concept may live in several units together: dissection "
    "reads single units only."
)


@dataclass(frozen=True)
class UnitConcept:
    """One unit against one concept.

    ``iou``: area in both masks over area in either, over all images in which the concept was looked for, with its 95 % interval over patients (NaN
    where it was not asked: far below the threshold). ``overlap`` and ``chance``: the same in the common frame of all patients, with the own masks
    and, on average, with those of other patients; ``p``: of the former against the latter, over all units and concepts. ``ceiling``: the highest IoU
    that a unit on this share of the image could have.
    """

    unit: int
    concept: str
    iou: float
    low: float
    high: float
    overlap: float
    chance: float
    p: float
    ceiling: float
    images: int
    patients: int
    verdict: Judged

    @property
    def said(self) -> str:
        """IoU with its interval."""
        return f"{self.iou:.2f}" + ("" if math.isnan(self.low) else f" [{self.low:.2f}, {self.high:.2f}]")


@dataclass(frozen=True, eq=False)
class Answered:
    """A prepared image with where a unit answers and where the concept is marked (masks of 0 and 1 on its grid); ``iou`` in this image alone."""

    unit: int
    concept: str
    image: Image
    answer: Image
    mask: Image
    iou: float


@dataclass(frozen=True, eq=False)
class Dissection(Finding):
    """Units of a site against annotated concepts (Bau et al. 2017), each pair a row.

    ``quantile``: share of a unit's cells above its threshold, ``error`` by how much it may be off (0: exact); ``thresholds``: by unit, in its own
    units; ``dead``: units that never rise above it, giving nothing, or their highest value too often. ``pictures``: the images in which the best detectors answer most, whatever is marked there.
    """

    kind = "dissection"
    site: str
    units: int
    concepts: tuple[str, ...]
    quantile: float
    error: float
    threshold: float
    alpha: float
    thresholds: tuple[float, ...]
    dead: tuple[int, ...]
    rows: tuple[UnitConcept, ...]
    provenance: Provenance = field(repr=False)
    network: str = ""
    notes: tuple[str, ...] = ()
    pictures: tuple[Answered, ...] = field(default=(), repr=False, metadata={KEPT: True})

    @property
    def detectors(self) -> tuple[UnitConcept, ...]:
        """The rows that hold, each unit with the concept that it fits best, the best first."""
        best: dict[int, UnitConcept] = {}
        for r in self.rows:
            if r.verdict == "detector" and (r.unit not in best or r.iou > best[r.unit].iou):
                best[r.unit] = r
        return tuple(sorted(best.values(), key=lambda r: -r.iou))

    def of(self, unit: int, concept: str) -> UnitConcept:
        """The row of a unit and a concept."""
        for r in self.rows:
            if (r.unit, r.concept) == (unit, concept):
                return r
        raise KeyError(f"no unit {unit} with concept {concept!r}; there are units 0 to {self.units - 1} and {', '.join(self.concepts)}")

    def table(self) -> Table:
        """A row for each unit and concept, the best first."""
        names = "unit concept iou low high overlap chance p ceiling images patients verdict".split()
        rows = sorted(self.rows, key=lambda r: -r.iou)
        return Table(tuple(names), tuple(tuple(getattr(r, n) for n in names) for r in rows))

    def sentences(self) -> tuple[str, ...]:
        """What was found, for people; the last says what it does not show."""
        found = self.detectors
        told = [self._counted(found)]
        for name in self.concepts:
            own = [r for r in found if r.concept == name]
            if own:
                more = f" and {len(own) - 1} more" if len(own) > 1 else ""
                by = f"in the frame of all patients it overlaps by {own[0].overlap:.3f}, with other patients' masks by {own[0].chance:.3f}"
                told.append(f"{_upper(name)}: unit {own[0].unit}, IoU {own[0].said}{more}; {by} (p = {own[0].p:.2g}).")
            else:
                told.append(self._nothing(name))
        if self.dead:
            some = f"{len(self.dead)} of {self.units} units never rise above their threshold"
            told.append(f"{some}: they give nothing, or their highest value in more than {percent(self.quantile)} of the cells.")
        if self.error > 0:
            told.append(f"Thresholds are from a sketch: the share above them is {percent(self.quantile)} but for {percent(self.error)}.")
        return (*told, *self.notes, CAVEAT)

    def _counted(self, found: tuple[UnitConcept, ...]) -> str:
        held = f"IoU above {self.threshold:g} and above the masks of other patients (p at most {self.alpha:g} over all units and concepts)"
        share = f"the cells with the highest {percent(self.quantile)} of each unit's values"
        return f"At {self.site}, {len(found)} of {self.units} units answer where a concept was marked: {held}, by {share}."

    def _nothing(self, name: str) -> str:
        best = max((r for r in self.rows if r.concept == name), key=lambda r: r.iou)
        if best.verdict == "too few patients":
            return f"{_upper(name)}: nothing can be said, {best.patients} patients are too few to deal their masks."
        if best.verdict == "no more than chance":
            why = f"other patients' masks overlap as much ({best.chance:.3f} against {best.overlap:.3f} in their common frame, p = {best.p:.2g})"
            return f"{_upper(name)}: no unit; unit {best.unit} reaches IoU {best.said}, but {why}."
        limit = f", and at this quantile none could reach more than {best.ceiling:.2f}" if best.ceiling < 3 * self.threshold else ""
        return f"{_upper(name)}: no unit; the nearest is unit {best.unit} with IoU {best.said}{limit}."

    @property
    def evidence(self) -> Evidence:
        """For each concept its best unit, held against the masks of other patients."""
        found = []
        for name in self.concepts:
            best = max((r for r in self.rows if r.concept == name), key=lambda r: (r.verdict == "detector", r.iou))
            ends = (None, None) if math.isnan(best.low) else (best.low, best.high)
            status: Any = {"detector": "pass", "too few patients": "inconclusive"}.get(best.verdict, "fail")
            text = f"Unit {best.unit}: IoU {best.said}, {best.verdict}."
            found.append(Measurement(name, best.iou, "IoU", "up", status, text, self.threshold, "the threshold of Bau et al.", *ends))
        verdict: Any = "supported" if any(m.status == "pass" for m in found) else "not supported"
        return Evidence("quick", tuple(found), verdict, (CAVEAT,))

    def facts(self) -> dict[str, Any]:
        """Plain values, with the sentences; pictures are left out."""
        return super().facts() | {"sentences": list(self.sentences())}

    def figure(self, path: str | Path | None = None, *, title: str = "") -> Any:
        """Above: IoU of the best units with its interval, by concept; a dot is a detector, a cross no more than chance. Below: for each of the best
        detectors the images in which it answers most (orange), and what was marked there (blue outline), seen or missed.

        Args:
            path: where to write it (``.png``, ``.webp``, ``.svg``, ``.pdf``); None: only make it.
            title: above it.

        Returns:
            The matplotlib Figure.

        Raises:
            BadFile: a suffix that cannot be written, or no such folder.
        """
        figure = _drawn(self, title)
        if path is not None:
            write(figure, Path(path))
        return figure


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:].replace("_", " ")


# ---------------------------------------------------------------------------- the picture
def _drawn(found: Dissection, title: str) -> Any:
    from matplotlib.figure import Figure

    shown = _best(found)
    units = list(dict.fromkeys((p.unit, p.concept) for p in found.pictures))
    top, tile = 0.9 + 0.26 * len(shown), TILE + 0.3
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
            0.012,
            (low + TILE) / height,
            f"unit {unit}\n{concept.replace('_', ' ')}\nIoU {row.iou:.2f}",
            color=INK,
            fontsize=8.5,
            va="top",
            linespacing=1.4,
        )
        tiles = _tiles([p for p in found.pictures if (p.unit, p.concept) == (unit, concept)])
        for i, (image, one) in enumerate(tiles):
            side = (WIDE - 1.35) / max(3, len(tiles))
            _tile(figure.add_axes(((1.2 + side * i) / WIDE, low / height, (side - 0.08) / WIDE, TILE / height)), image, one)
    foot = "Dots: IoU and 95 % interval over patients; dashed: the threshold."
    if units:
        foot += "\nPictures: the images in which a unit answers most (orange), chosen without the marks (blue outline)."
    figure.text(0.012, 0.07 / height, foot, color=SOFT, fontsize=7.5, va="bottom", linespacing=1.4)
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
    at.set_yticks(range(len(shown)), [f"{r.concept.replace('_', ' ')}, unit {r.unit}" for r in shown], color=INK, fontsize=8.5)
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
    at.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, fontsize=7.5, frameon=False, labelcolor=INK, borderpad=0, handletextpad=0.2
    )


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
        found.append((first.base, (first.values, other.values, first.sample)))
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
        cover[on > 0.5] = (0.93, 0.50, 0.08, 0.65)
        at.imshow(cover, aspect=sample[0] / sample[1], interpolation="nearest")
        if mark.any() and not mark.all():
            at.contour(mark, levels=[0.5], colors=["white"], linewidths=1.8)
            at.contour(mark, levels=[0.5], colors=[CONCEPT], linewidths=1.0)
    at.set_axis_off()
    at.set_anchor("NW")
