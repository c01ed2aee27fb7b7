"""Agreement of several maps of one thing: rank correlation, structural similarity, intraclass correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from pellucid.explanation import Measurement, Status
from pellucid.ops.similarity import spearman, ssim, unit

GOOD, POOR = 0.75, 0.5  # Koo and Li 2016: from 0.75 good, below 0.5 poor reliability


@dataclass
class Sums:
    """What the intraclass correlation needs of maps that come one after another; samples are subjects, maps are raters."""

    total: Tensor | None = None
    squares: float = 0.0
    means: list[float] = field(default_factory=list)

    def add(self, values: Tensor) -> None:
        v = values.double().flatten()
        self.total = v.clone() if self.total is None else self.total + v
        self.squares += float(v @ v)
        self.means.append(float(v.mean()))

    @property
    def icc(self) -> float:
        """ICC(2,1): two-way random effects, absolute agreement, single rater (Shrout and Fleiss 1979); NaN for fewer than two maps."""
        k = len(self.means)
        if self.total is None or k < 2:
            return math.nan
        n = self.total.numel()
        rows, grand = self.total / k, sum(self.means) / k
        between = k * float(((rows - grand) ** 2).sum())
        raters = n * sum((m - grand) ** 2 for m in self.means)
        rest = self.squares - n * k * grand**2 - between - raters
        msr, msc, mse = between / (n - 1), raters / (k - 1), rest / ((n - 1) * (k - 1))
        below = msr + (k - 1) * mse + k * (msc - mse) / n
        return (msr - mse) / below if below > 0 else math.nan


@dataclass(frozen=True)
class Likeness:
    """How alike two maps are: rank correlation with sign, and SSIM of both scaled to [0, 1]."""

    rank: float
    ssim: float

    @classmethod
    def of(cls, a: Tensor, b: Tensor) -> Likeness:
        return cls(spearman(a, b), ssim(unit(a), unit(b), data_range=1.0))


def mean(values: list[float]) -> float:
    """Mean of the numbers that are numbers."""
    kept = [v for v in values if not math.isnan(v)]
    return sum(kept) / len(kept) if kept else math.nan


def judged(
    name: str, value: float, low: float, high: float, text: str, level: float, against: str, detail: dict[str, object]
) -> Measurement:
    """A mean rank correlation by the words that reliability has: good, poor, between."""
    if math.isnan(value):
        text = "The map has one value everywhere, or holds values that are no numbers, so it agrees with nothing."
        return Measurement(name, value, "rank correlation", "up", "void", text)
    known = None if math.isnan(low) else low, None if math.isnan(high) else high
    status: Status = "pass" if value >= GOOD else "fail" if value < POOR else "inconclusive"
    return Measurement(name, value, "rank correlation", "up", status, text, level, against, known[0], known[1], detail)


def word(value: float) -> str:
    """How maps of that rank correlation agree, in a sentence."""
    return "well" if value >= GOOD else "poorly" if value < POOR else "in part"


def inner(values: Tensor, margin: list[int]) -> Tensor:
    """Without the rim, where there is more than a rim."""
    for axis, m in enumerate(margin):
        if values.shape[axis] > 2 * m + 1:
            values = values.narrow(axis, m, values.shape[axis] - 2 * m)
    return values
