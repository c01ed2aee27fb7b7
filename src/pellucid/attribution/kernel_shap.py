"""Kernel SHAP: Shapley values of superpixels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Constant, Starts
from pellucid.features.segments import Cuts, Segments
from pellucid.method import COMPLETE, CONTRIBUTIONS, SCORES, SIGNED, Cite, Cost, Where, method
from pellucid.ops.coalitions import ALL_UP_TO, shapley_rows, summing_fit
from pellucid.ops.regions import spread
from pellucid.params import Count
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Lundberg, Lee", 2017, "A unified approach to interpreting model predictions", "NeurIPS", arxiv="1705.07874"),
    asks=SCORES,
    gives=SIGNED | COMPLETE,
    values=CONTRIBUTIONS,
    cost=lambda samples, fill, **_: Cost(forward=1 + fill.count * (1 + max(samples, 2**ALL_UP_TO - 2)), at_most=True),
    where=Where.INPUT,
    random=True,
    needs_space=True,
)
def kernel_shap(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    *,
    segments: Segments = "slic(50)",
    samples: Count = 1000,
    fill: Baseline = Constant(0.0),
) -> Drawn:
    """How much each superpixel contributes to s(x) - s(fill), averaged over all orders in which superpixels could be shown.

    Shapley values phi: ``argmin of sum(pi(z) * (s(z) - s(fill) - phi z)^2)`` with ``sum(phi) = s(x) - s(fill)`` exactly, where pi(z) is
    ``(M - 1) / (comb(M, k) k (M - k))`` for k of M segments shown; phi of a segment is split evenly over its samples, shape (1, *space),
    in units of the score. The trace holds samples, shown segments, scores and phi.

    Args:
        segments: how the image is cut, or given labels; superpixels in 2D, supervoxels in 3D, isotropic in mm.
        samples: images asked about. Up to 10 segments all 2^M are, and phi is exact. Beyond, coalitions of few or nearly all segments
            are asked whole, the others drawn in pairs with their complements; equal ones are asked once.
        fill: what hides a segment, in the image's own values; several (``black_and_white``) give the mean.

    Misleads when: the fill is itself a finding, half-hidden images are unlike all that the network knows, or samples are few for the
        number of segments (the sum is kept all the same; try another seed).

    Source: theorem 2; sampling from the outside in follows the authors' code.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> why = pl.explain(net, torch.rand(1, 8, 8), 1, method="kernel_shap", segments="slic(4)")
    >>> abs(why.total - why.trace["change"]) < 1e-5
    True
    """
    assert isinstance(segments, Cuts) and isinstance(fill, Starts)
    labels = segments.one(probe.comparable, probe.grid, "kernel_shap").to(x.device)
    parts = int(labels.max()) + 1
    rows, weights, exact = shapley_rows(parts, samples, probe.random)
    fills = probe.starts(fill)
    known = torch.cat([rows, torch.zeros(1, parts, dtype=torch.bool)])  # the last shows nothing: s(fill)
    scores = torch.zeros(len(known), dtype=torch.float64)
    shown = ((k, f) for k in range(len(known)) for f in fills)
    for answer in probe.scores(shown, of=lambda a: torch.where(known[a[0]].to(x.device)[labels], x, a[1])):
        scores[answer.asked[0]] += answer.score / len(fills)
    change = probe.score() - float(scores[-1])
    found = summing_fit(rows, scores[:-1] - scores[-1], weights, change)
    values = spread(found, labels)
    told = {"active": known.sum(1).tolist(), "scores": scores.tolist(), "samples": known, "weights": found.tolist()}
    gap = float(values.sum()) - change
    return probe.map(values, None, segments=labels.cpu(), exact=exact, change=change, gap=gap, **told)
