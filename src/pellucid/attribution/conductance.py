"""Conductance: how much of a score flows through each unit of a site."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Constant, Starts
from pellucid.method import ACTIVATIONS, COMPLETE, CONTRIBUTIONS, GRADIENTS, SIGNED, Cite, Cost, method
from pellucid.params import Count
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Dhamdhere, Sundararajan, Yan", 2019, "How important is a neuron?", "ICLR", arxiv="1805.12233"),
    asks=GRADIENTS | ACTIVATIONS,
    gives=SIGNED | COMPLETE,
    values=CONTRIBUTIONS,
    cost=lambda steps, baseline, **_: Cost(forward=(steps + 2) * baseline.count, backward=(steps + 1) * baseline.count),
)
def conductance(probe: Probe, x: Float[Tensor, "c *space"], *, baseline: Baseline = Constant(0.0), steps: Count = 64) -> Drawn:
    """How much of s(image) - s(start) flows through each unit z of the site while the image comes up from the baseline.

    ``integral over t in [0, 1] of d s / d z * d z / d t``, z being caused by ``start + t * (image - start)``; shape (c, *space) of the
    site, in units of the score; at the input it is integrated gradients. For several starts their mean.

    Args:
        baseline: the image from which nothing can be told, in the image's own values; the way is straight in the image, not at the site.
        steps: parts of the way. The sum of ``mean slope at both ends * change of z`` leaves a gap that falls with 1 / steps ** 2 where the
            network is smooth; see the gap in the trace.

    Misleads when: part of the score flows around the site (residual sums): the shares then add up to what flows through it alone. Told by
        one pass more: the start's image, with the image's activation held at the site, must have the image's score; where not,
        ``around`` in the trace and a caveat say what is missing. Or when units work against each other: shares of both signs cancel.

    Source: equation 3. Captum sums the slope at the near end times the change; ours is the mean of its sums in both directions.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16, 2))
    >>> why = pl.explain(net, torch.rand(1, 4, 4), target=1, site="0", method="conductance")
    >>> why.values.shape, abs(why.trace["gap"]) < 1e-2
    (torch.Size([4, 2, 2]), True)
    """
    assert isinstance(baseline, Starts)
    image, starts = probe.source, probe.images(baseline)
    values, change, whole, scores = torch.zeros_like(x, dtype=torch.float64), 0.0, 0.0, []
    coarse, z_even, slope_even = 0.0, values, values  # the same sum over every second point: how far both differ is the integral's error
    path = ((n, k) for n in range(len(starts)) for k in range(steps + 1))
    z_before = slope_before = values  # of the point before; not looked at for the first of a way
    for now in probe.inside(path, of=lambda at: torch.lerp(starts[at[0]], image, at[1] / steps)):
        n, k = now.asked
        z, slope = now.found.double(), now.gradient.double()
        if k > 0:
            values += (slope_before + slope) / 2 * (z - z_before) / len(starts)
        if k > 0 and (k % 2 == 0 or k == steps):
            coarse += float(((slope_even + slope) / 2 * (z - z_even)).sum()) / len(starts)
        if k % 2 == 0:
            z_even, slope_even = z, slope
        z_before, slope_before = z, slope
        if n == 0:
            scores.append(float(now.score))
        whole = float(now.score)  # at last the image's
        change += (float(k == steps) - float(k == 0)) * float(now.score) / len(starts)
    total = float(values.sum())
    around = _around(probe, x, starts, whole, change, total, abs(total - coarse))
    alphas = [k / steps for k in range(steps + 1)]
    if not around:  # what flows around the site is told already
        probe.missed(total - change, change, "give more steps")
    return probe.map(values, gap=total - change, change=change, around=around, alphas=alphas, scores=scores)


def _around(probe: Probe, x: Tensor, starts: list[Tensor], whole: float, change: float, total: float, error: float) -> float:
    """How much of the change flows around the site: nothing if the activation alone decides the score, else what the sum misses.

    Told as a caveat where that is beyond the error of the integral.
    """
    held = [float(next(probe.over(start).scores([x])).score) for start in starts]
    close = (1e-9 if x.dtype == torch.float64 else 1e-4) * (abs(whole) + abs(change))
    if all(abs(score - whole) <= close for score in held):
        return 0.0
    missing = change - total
    if abs(missing) > error:
        share = f"{missing / change:.1%}" if change else f"{missing:.3g}"
        probe.notes.append(f"conductance: {share} of the change of the score flows around the site; the map's sum lacks it")
    return missing
