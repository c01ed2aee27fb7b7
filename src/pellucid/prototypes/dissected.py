"""What a dissection found: units against concepts in numbers, words, a table and pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pellucid.explanation import Evidence, Measurement, Provenance
from pellucid.findings import KEPT, Finding
from pellucid.image import Image
from pellucid.table import Table, percent

Judged = Literal["detector", "no more than chance", "too few patients", "below the threshold"]
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
        """IoU of the best units by concept, and the images in which the best detectors answer most; see ``dissection_figure``."""
        from pellucid.prototypes.atlas import dissection_figure

        return dissection_figure(self, path, title=title)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
