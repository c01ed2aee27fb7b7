"""What a score does as two things are moved together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pellucid.effects.curve import HALF, Axis, Effect, Floats
from pellucid.effects.drawing import Theme
from pellucid.effects.figure import draw_surface
from pellucid.explanation import Evidence, Measurement, Provenance
from pellucid.findings import KEPT
from pellucid.table import Table

Both = Literal["partial dependence", "accumulated interaction", "intervention"]


@dataclass(frozen=True, eq=False)
class Surface(Effect):
    """A mean score (g, h) over two axes of g and h values; of ``accumulated interaction`` what is left once each axis' own effect is taken off.

    ``support`` (g, h) is the share of cases that, set to both values, are like a real one. ``score`` says what the numbers are.
    """

    kind = "surface"
    how: Both
    axes: tuple[Axis, Axis]
    score: str
    values: Floats = field(metadata={KEPT: True}, repr=False)
    support: Floats = field(metadata={KEPT: True}, repr=False)
    cases: int
    patients: int
    evidence: Evidence
    network: str
    notes: tuple[str, ...]
    provenance: Provenance = field(repr=False)

    @property
    def there(self) -> NDArray[np.bool_]:
        """(g, h): whether at least half of the cases, set to these values, are like a real one."""
        return np.asarray(self.support >= HALF)

    def figure(self, path: Any = None, *, theme: Theme = "light") -> Any:
        """Height by color, dots where cases are; gray: asked beyond the data."""
        return draw_surface(self, path, theme)

    def table(self) -> Table:
        """A row for each pair of values."""
        a, b = self.axes
        names: tuple[tuple[Any, ...], ...] = tuple(x.labels or tuple(float(v) for v in x.values) for x in self.axes)
        rows = [
            (names[0][i], names[1][j], float(self.values[i, j]), float(self.support[i, j])) for i in range(len(a)) for j in range(len(b))
        ]
        return Table((a.title, b.title, "mean", "like a real case"), tuple(rows))

    def sentences(self) -> tuple[str, ...]:
        """What was measured, and what it does not show."""
        a, b = self.axes
        known = bool(self.there.any())
        kept = np.where(self.there, self.values, np.nan) if known else self.values
        (i, j), (k, m) = (np.unravel_index(f(kept), kept.shape) for f in (np.nanargmin, np.nanargmax))
        who = f"{self.cases} cases" + (f" of {self.patients} patients" if self.patients < self.cases else "")
        lowest, highest = (f"{self.values[r, c]:.3g} at {a.name} {a.at(int(r))} and {b.name} {b.at(int(c))}" for r, c in ((i, j), (k, m)))
        score = self.score[0].upper() + self.score[1:]
        extra = "" if self.how != "accumulated interaction" else " beyond what each does alone"
        said = f"{score} with {a.name} and {b.name} moved together{extra}, in {who}: lowest {lowest}, highest {highest}{', where the data are' if known else ''}."
        share = 1 - self.there.mean()
        beyond = f"{share:.0%} of the pairs of values lie beyond the data (gray): what the model says there was never seen."
        limit = f"This tells what the model answers, not what would become of a patient whose {a.name} and {b.name} changed."
        return (said, *([beyond] if share else []), limit)


def surface_of(
    values: Floats, axes: tuple[Axis, Axis], support: Floats, provenance: Provenance, *, how: Both, score: str, cases: int, patients: int,
    network: str = "", notes: Sequence[str] = (),
) -> Surface:  # fmt: skip
    """A surface with its evidence: how much of it lies beyond the data."""
    share = float((support < HALF).mean())
    text = f"At {share:.0%} of the pairs of values most cases, set to them, are unlike any real one."
    row = Measurement("beyond_data", share, "share of pairs", "down", "pass" if share == 0 else "fail", text, 0.0, "all within the data")
    evidence = Evidence("quick", (row,), "questionable" if share else "supported", (text,) if share else ())
    return Surface(how, axes, score, values, support, cases, patients, evidence, network, tuple(notes), provenance)
