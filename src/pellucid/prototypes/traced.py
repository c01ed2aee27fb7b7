"""What was traced: units along a sequence, in numbers, words, a table and a figure under the signal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pellucid.explanation import Evidence, Measurement, Provenance
from pellucid.findings import KEPT, Finding
from pellucid.image import Image
from pellucid.prototypes.figure import INK, LINE, PAPER, SOFT, write
from pellucid.table import Table

Followed = Literal["during", "since", "nothing", "not asked"]
CAVEAT = (
    "A unit that follows an event shows that the network could tell it, not that its answer rests on that: attribute the answer as well."
)
UP, DOWN, EVENT, SIGNAL = "#e07b1a", "#2e62be", "#c9d1d9", "#18232e"
SHOWN = 5
WIDE, STRIP = 7.6, 0.72  # inches


@dataclass(frozen=True)
class UnitTrace:
    """One unit: ``reach`` from its lowest to its highest value, mean over sequences; ``during`` and ``since``, the probability that it is higher in the
    event than outside, and after its beginning than before, mean over sequences with 95 % intervals over patients and p over all units (NaN: no
    events were given)."""

    unit: int
    reach: float
    during: float = math.nan
    during_low: float = math.nan
    during_high: float = math.nan
    during_p: float = math.nan
    since: float = math.nan
    since_low: float = math.nan
    since_high: float = math.nan
    since_p: float = math.nan
    follows: Followed = "not asked"

    @property
    def sure(self) -> float:
        """How far what it follows is from 0.5 (the better of the two where it follows neither); 0 where nothing was asked."""
        told = {"during": (self.during,), "since": (self.since,)}.get(self.follows, (self.during, self.since))
        return max((abs(v - 0.5) for v in told if not math.isnan(v)), default=0.0)

    @property
    def said(self) -> str:
        """What it follows, in a few words."""
        if self.follows in ("nothing", "not asked"):
            return ""
        of = (self.during, self.during_low, self.during_high) if self.follows == "during" else (self.since, self.since_low, self.since_high)
        value, low, high = of if of[0] >= 0.5 else (1 - of[0], 1 - of[2], 1 - of[1])
        held = "" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
        return (
            f"{'higher' if of[0] >= 0.5 else 'lower'} {'in the event' if self.follows == 'during' else 'once it began'}: {value:.2f}{held}"
        )


@dataclass(frozen=True, eq=False)
class Traces(Finding):
    """Units of a site along a sequence. ``values`` (steps, units) and ``event`` (steps,) are those of the first sequence, whose course is ``signal``;
    ``at`` is where its steps lie along ``label``, in ``unit``. ``rows`` tell of each unit over all ``sequences``."""

    kind = "traces"
    site: str
    state: str
    label: str
    unit: str
    at: NDArray[np.float64] = field(repr=False)
    values: NDArray[np.float64] = field(repr=False, metadata={KEPT: True})
    event: NDArray[np.float64] = field(repr=False)
    signal: Image = field(repr=False, metadata={KEPT: True})
    rows: tuple[UnitTrace, ...]
    sequences: int
    patients: int
    provenance: Provenance = field(repr=False)
    network: str = ""
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> tuple[UnitTrace, ...]:
        """The rows, those that follow the event most surely first; without events those that move most."""
        return tuple(sorted(self.rows, key=lambda r: (r.follows in ("nothing", "not asked"), -r.sure, -r.reach)))

    def table(self) -> Table:
        """A row for each unit, the best first."""
        names = "unit follows reach during during_low during_high during_p since since_low since_high since_p".split()
        return Table(tuple(names), tuple(tuple(getattr(r, n) for n in names) for r in self.best))

    def sentences(self) -> tuple[str, ...]:
        """What was found, for people; the last says what it does not show."""
        many = f"{self.sequences} sequence{'s' if self.sequences > 1 else ''}"
        what = "cell states" if self.state == "cell" else "outputs"
        told = [f"{len(self.rows)} units of {self.site} ({what}) were followed step by step through {many}."]
        if self.rows[0].follows != "not asked":
            held = [r for r in self.best if r.follows != "nothing"]
            told[0] += f" {len(held)} of them follow the event more than by chance (events turned around in time, p over all units)."
            told += [f"Unit {r.unit} is {r.said} (probability for a step inside and one outside)." for r in held[:3]]
            if self.patients < 3:
                told.append("Fewer than three patients bear no interval: what one sequence shows may be its own.")
        return (*told, *self.notes, CAVEAT)

    @property
    def evidence(self) -> Evidence:
        """The unit that follows the event most surely, against chance; nothing without events."""
        if self.rows[0].follows == "not asked":
            return Evidence("none", (), None, ("No events were given: traces were drawn, nothing was tested.",))
        best, status = self.best[0], "pass" if self.best[0].follows != "nothing" else "fail"
        value = best.since if best.follows == "since" else best.during
        ends = (best.since_low, best.since_high) if best.follows == "since" else (best.during_low, best.during_high)
        known = (None, None) if math.isnan(ends[0]) else ends
        text = f"Unit {best.unit} is {best.said}." if best.said else "No unit follows the event more than by chance."
        one = Measurement("follows the event", value, "AUC", "up", status, text, 0.5, "chance", *known)  # type: ignore[arg-type]
        return Evidence("quick", (one,), "supported" if status == "pass" else "not supported", (CAVEAT,))

    def facts(self) -> dict[str, Any]:
        """Plain values, with the sentences; the courses are left out."""
        return super().facts() | {"sentences": list(self.sentences())}

    def figure(self, path: str | Path | None = None, *, units: Sequence[int] | None = None, title: str = "") -> Any:
        """The signal, and under it the trace of some units on the same axis: orange above 0, blue below; the event is a gray band.

        Args:
            path: where to write it (``.png``, ``.webp``, ``.svg``, ``.pdf``); None: only make it.
            units: which; None: the five best.
            title: above it.

        Raises:
            BadFile: a suffix that cannot be written, or no such folder.
        """
        from matplotlib.figure import Figure

        rows = list(self.best[:SHOWN]) if units is None else [r for u in units for r in self.rows if r.unit == u]
        figure = Figure(figsize=(WIDE, 1.9 + STRIP * len(rows)), facecolor=PAPER, layout="constrained")
        strips = figure.subplots(len(rows) + 1, 1, sharex=True, squeeze=False, height_ratios=[1.5] + [1] * len(rows))[:, 0]
        self._signal(strips[0])
        for strip, row in zip(strips[1:], rows, strict=True):
            self._trace(strip, row)
        figure.align_ylabels(strips)
        strips[-1].set_xlabel(f"{self.label} ({self.unit})", color=SOFT, fontsize=8.5)
        figure.suptitle(title or f"Units of {self.site} along the sequence", color=INK, fontsize=10.5, x=0.012, ha="left", weight="bold")
        if path is not None:
            write(figure, Path(path))
        return figure

    def _signal(self, strip: Any) -> None:
        axis, values = self.signal.grid.axes[-1], self.signal.values[:, 0].detach().cpu().double().numpy()
        times = [axis.at(k) for k in range(values.shape[1])]
        for k, (channel, name) in enumerate(zip(values, self.signal.channels, strict=True)):
            strip.plot(times, channel, color=SIGNAL, linewidth=1, alpha=max(0.35, 1 - 0.25 * k), label=name)
        self._dress(strip, self.signal.quantity if self.signal.quantity != "a.u." else "signal")
        if len(values) > 1:
            strip.legend(loc="upper right", fontsize=7, frameon=False, ncols=len(values), labelcolor=SOFT)

    def _trace(self, strip: Any, row: UnitTrace) -> None:
        course = self.values[:, row.unit]
        strip.axhline(0, color=LINE, linewidth=0.8, zorder=1)
        for above, color in ((True, UP), (False, DOWN)):
            part = np.clip(course, 0, None) if above else np.clip(course, None, 0)
            strip.fill_between(self.at, part, 0, color=color, alpha=0.35, linewidth=0, zorder=2)
        strip.plot(self.at, course, color=INK, linewidth=1.1, marker="." if len(course) < 60 else None, markersize=3, zorder=3)
        self._dress(strip, f"unit {row.unit}")
        if row.said:
            strip.text(1.0, 1.0, row.said, transform=strip.transAxes, ha="right", va="bottom", fontsize=7.5, color=SOFT)

    def _dress(self, strip: Any, name: str) -> None:
        strip.set_ylabel(name, color=INK, fontsize=8.5, rotation=0, ha="right", va="center")
        strip.tick_params(colors=SOFT, labelsize=7, length=2)
        strip.margins(x=0)
        for side in ("top", "right", "left", "bottom"):
            strip.spines[side].set_color(LINE)
            strip.spines[side].set_visible(side in ("left", "bottom"))
        step = float(np.median(np.diff(self.at))) if len(self.at) > 1 else 1.0
        for start, stop in _runs(self.event):
            strip.axvspan(self.at[start] - step / 2, self.at[stop - 1] + step / 2, color=EVENT, alpha=0.55, linewidth=0, zorder=0)


def _runs(event: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Where a mask begins and ends, as often as it does."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0.0], (event != 0).astype(float), [0.0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
