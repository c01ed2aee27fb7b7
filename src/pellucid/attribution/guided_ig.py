"""Guided integrated gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Constant, Starts
from pellucid.errors import BadParameter
from pellucid.method import COMPLETE, CONTRIBUTIONS, GRADIENTS, NOTHING, SIGNED, Cite, Cost, method
from pellucid.params import Count, Fraction
from pellucid.probe.probe import Drawn, Probe

CLOSE = 1e-9  # of the whole way (or of a slope): what rounding leaves


def _cost(steps: int, baseline: Starts, **_: object) -> Cost:
    return Cost(forward=(steps + 1) * baseline.count + 1, backward=steps * baseline.count)


@method(
    cite=Cite("Kapishnikov, Venugopalan, Avci, Wedin, Terry, Bolukbasi", 2021, "Guided integrated gradients", "CVPR", arxiv="2106.09788"),
    asks=GRADIENTS,
    gives=SIGNED | COMPLETE,
    values=CONTRIBUTIONS,
    cost=_cost,
    less=lambda max_dist, **_: COMPLETE if max_dist > 0 else NOTHING,
)
def guided_ig(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    *,
    baseline: Baseline = Constant(0.0),
    steps: Count = 200,
    fraction: Fraction = 0.25,
    max_dist: Fraction = 0.02,
) -> Drawn:
    """How much each sample contributes to s(x) - s(start), on a way from the baseline to x that moves where the slope is small first.

    ``sum over steps of d s / d x at p * (next p - p)``, shape (c, *space), in units of the score. After step k the L1 distance to x is
    (1 - k / steps) of the whole; samples of least |slope| go first; none is further than ``max_dist`` from the straight way.

    Args:
        baseline: the image from which nothing can be told, in the image's own values; for several the mean of their maps.
        steps: gradients per start, one after another. The sum is taken on the left, as in the paper's code: its gap falls with 1 / steps in
            smooth networks. Along a kink (ReLU) the way slides, each step crossing it once more, and no number of steps closes the gap
            (3 % to 10 % on the test network, of 400). So no sum is promised unless ``max_dist=0``; above 5 % the map says what it misses.
        fraction: share of all samples that go first, then the next share, until a step's distance is covered; the paper's 0.25.
        max_dist: share of the way that a sample may lead or lag; 0 is integrated gradients summed on the left, 1 leaves the way free.

    Misleads when: the way bends around what matters: a strong sample moves late, beside all others already there, and is credited for
        what they do together. As always the baseline resembling part of the image hides that part.

    Source: section 3.3 and the authors' code, which this follows in shares of the way. The trace holds alphas, scores and the gap.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> why = pl.explain(net, torch.rand(1, 2, 2), target=1, method="guided_ig", steps=4)
    >>> abs(why.trace["gap"]) < 1e-5
    True
    """
    assert isinstance(baseline, Starts)
    if fraction == 0:
        raise BadParameter("a fraction above 0, so that some sample moves", "fraction=0", "Give fraction=0.25.")
    starts = probe.starts(baseline)
    change = probe.score() - sum(float(a.score) for a in probe.scores(starts)) / len(starts)
    unit = probe.setting().unit.to(x.device)
    ways = [(x - start).double() for start in starts]
    shares = [torch.zeros_like(way) for way in ways]  # how far each sample has come
    values, scores = torch.zeros_like(x, dtype=torch.float64), []
    for step in range(steps):
        points = [s.double() + share * way for s, share, way in zip(starts, shares, ways, strict=True)]
        score, slopes = probe.ask(points)
        scores.append(float(score[0]))
        for k, (way, slope) in enumerate(zip(ways, slopes.double(), strict=True)):
            reached = _advance(shares[k], way.abs() / unit, slope.abs() * unit, (step + 1) / steps, fraction, max_dist)
            values += (reached - shares[k]) * way * slope / len(starts)
            shares[k] = reached
    alphas, gap = [step / steps for step in range(steps)], float(values.sum()) - change
    probe.missed(gap, change, "max_dist=0 sums to it")
    return probe.map(values, gap=gap, change=change, alphas=alphas, scores=scores)


def _advance(share: Tensor, length: Tensor, slope: Tensor, alpha: float, fraction: float, max_dist: float) -> Tensor:
    """Shares of the way after a step: the least steep samples move until ``alpha`` of all lengths together is covered."""
    low, high = max(alpha - max_dist, 0.0), min(alpha + max_dist, 1.0)
    whole = float(length.sum())
    share = share.clamp_min(low)  # what lags catches up, whatever its slope
    rank = 1 + int(fraction * (slope.numel() - 1))
    while (missing := float((length * (alpha - share)).sum())) > CLOSE * whole:
        steep = torch.where((share < high) & (length > 0), slope, torch.inf)
        # slopes that differ by rounding alone move together: so the map does not depend on the order of samples
        first = (steep <= steep.flatten().kthvalue(rank).values * (1 + CLOSE)) & steep.isfinite()
        room = float((length * (high - share))[first].sum())
        if room <= 0:
            break
        share = torch.where(first, share + min(missing / room, 1.0) * (high - share), share)
        share = torch.where(first & (missing >= room), high, share)
    return share
