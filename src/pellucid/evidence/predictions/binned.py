"""Bins of stated probability: how far what is stated lies from what is seen, and how much of that chance makes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pellucid.intervals import wilson

Floats = NDArray[np.float64]
Binning = Literal["width", "mass"]


@dataclass(frozen=True, eq=False)
class Bins:
    """For each bin that holds cases: its edges, how many, the mean stated probability, and the share that came true."""

    low: Floats
    high: Floats
    count: Floats
    stated: Floats
    seen: Floats

    @classmethod
    def of(cls, stated: Floats, true: Floats, bins: int, binning: Binning) -> Bins:
        """``width``: bins (i / b, (i + 1) / b] of equal width, 0 in the first (Guo et al. 2017); ``mass``: of equal counts, ties together."""
        if binning == "width":
            edges = np.linspace(0.0, 1.0, bins + 1)
        else:
            edges = np.array([0.0, *np.unique(np.quantile(stated, np.linspace(0.0, 1.0, bins + 1)[1:], method="inverted_cdf"))])
        at = np.clip(np.searchsorted(edges, stated, side="left") - 1, 0, len(edges) - 2)
        size = len(edges) - 1
        count = np.bincount(at, minlength=size).astype(np.float64)
        held = count > 0
        sums = [np.bincount(at, weights=v, minlength=size)[held] / count[held] for v in (stated, true)]
        return cls(np.clip(edges[:-1], 0, 1)[held], np.clip(edges[1:], 0, 1)[held], count[held], sums[0], sums[1])

    @property
    def share(self) -> Floats:
        return self.count / self.count.sum()

    @property
    def error(self) -> float:
        """Expected calibration error: sum over bins of share x |seen - stated|."""
        return float((self.share * np.abs(self.seen - self.stated)).sum())

    @property
    def largest(self) -> float:
        """Maximum calibration error."""
        return float(np.abs(self.seen - self.stated).max())

    @property
    def debiased(self) -> float:
        """The expected calibration error less what chance alone adds to it.

        In each bin the seen share is about normal around its true value with the variance s^2 = seen (1 - seen) / (count - 1); |gap|
        of such a number exceeds the true |gap| by E|N(gap, s)| - |gap|, a folded normal's mean, which is taken off (Kumar, Liang and Ma
        2019, section 5 and their code, which draws what is closed form here). A bin of one case has no spread to be seen: its
        variance is stated (1 - stated), as if it were calibrated. It is never less than how far stated and seen lie apart over all cases.
        """
        gap = np.abs(self.seen - self.stated)
        s = np.sqrt(np.where(self.count > 1, self.seen * (1 - self.seen) / np.maximum(self.count - 1, 1), self.stated * (1 - self.stated)))
        each = gap - (_folded(gap, s) - gap)
        return max(0.0, float((self.share * each).sum()), abs(float((self.share * (self.seen - self.stated)).sum())))

    @property
    def squared(self) -> float:
        """Squared calibration error without bias (Kumar, Liang and Ma 2019, definition 5.1); may fall below 0."""
        kept = self.count > 1
        gap = (self.seen - self.stated)[kept] ** 2 - (self.seen * (1 - self.seen))[kept] / (self.count[kept] - 1)
        return float((self.share[kept] * gap).sum())

    def wilson(self) -> tuple[Floats, Floats]:
        """95 % interval of each seen share (Wilson 1927)."""
        ends = np.array([wilson(*each) for each in zip(self.seen, self.count, strict=True)])
        return ends[:, 0], ends[:, 1]


def _folded(mean: Floats, sd: Floats) -> Floats:
    """E|N(mean, sd)|; |mean| where sd is 0."""
    ratio = np.minimum(mean / np.maximum(sd, 1e-300) / math.sqrt(2), 1e6)  # its square must not overflow
    found: Floats = sd * math.sqrt(2 / math.pi) * np.exp(-(ratio**2)) + mean * torch.from_numpy(ratio).erf().numpy()
    return np.where(sd > 0, found, np.abs(mean))


def expected(stated: Floats, bins: int, binning: Binning, debias: bool, draws: int, seed: int) -> Floats:
    """The errors that a perfectly calibrated network with these very probabilities shows on as many cases (Broecker and Smith 2007)."""
    chance = np.random.default_rng(seed)
    found = np.empty(draws)
    for d in range(draws):
        drawn = Bins.of(stated, (chance.random(len(stated)) < stated).astype(np.float64), bins, binning)
        found[d] = drawn.debiased if debias else drawn.error
    return found
