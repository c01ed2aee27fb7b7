"""LIME: a sparse linear model of the score over superpixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Starts
from pellucid.errors import BadParameter
from pellucid.features.segments import Cuts, Segments
from pellucid.method import CONTRIBUTIONS, SCORES, SIGNED, Cite, Cost, Where, method
from pellucid.ops.coalitions import coins, determination, lasso_picks, merged, ridge
from pellucid.ops.regions import means, spread
from pellucid.params import Count, Positive
from pellucid.probe.probe import Drawn, Probe

SELECT = 0.01  # ridge penalty of the fit by which selection="ridge" ranks, as in the authors' code


@method(
    cite=Cite("Ribeiro, Singh, Guestrin", 2016, '"Why should I trust you?"', "KDD", arxiv="1602.04938"),
    asks=SCORES,
    gives=SIGNED,
    values=CONTRIBUTIONS,
    cost=lambda samples, fill, **_: Cost(forward=1 + (samples - 1) * (1 if fill is None else fill.count), at_most=True),
    where=Where.INPUT,
    random=True,
    needs_space=True,
)
def lime(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    *,
    segments: Segments = "slic(100)",
    samples: Count = 1000,
    features: Count | None = 10,
    selection: Literal["lasso", "ridge"] = "lasso",
    fill: Baseline | None = None,
    kernel: Positive = 0.25,
    alpha: Positive = 1.0,
) -> Drawn:
    """How much each superpixel adds to the score, by the linear model that fits images with random superpixels hidden best.

    ``argmin over w, b of sum(pi(z) * (s(z) - b - w z)^2) + alpha * |w|^2`` over random z in {0, 1}; w of a segment is split evenly over
    its samples, shape (1, *space), in units of the score. The trace holds samples, shown segments, scores, weights and the fit.

    Args:
        segments: how the image is cut, or given labels; superpixels in 2D, supervoxels in 3D, isotropic in mm.
        samples: images asked about; equal ones are asked once and count as often as drawn.
        features: at most so many segments have a weight, the others exactly 0; None: all.
        selection: ``lasso`` (K-Lasso, the paper's) or ``ridge`` (largest weights of a ridge fit, the authors' code for images).
        fill: what hides a segment; None: the segment's own mean, as the authors do.
        kernel: width of ``pi = exp(-d^2 / kernel^2)^(1/2)``, d the cosine distance of z from all ones.
        alpha: penalty of the fit; it draws the weights a little to zero.

    Misleads when: segments cut a sign in two, half-hidden images are unlike all that the network knows, or a linear model fits badly
        (``fit`` in the trace: R squared); another seed may select other segments.

    Source: section 3, algorithm 1; settings from the authors' code for images.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> pl.explain(net, torch.rand(1, 8, 8), 1, method="lime", segments="slic(4)", samples=16).values.shape
    torch.Size([1, 8, 8])
    """
    assert isinstance(segments, Cuts)
    labels = segments.one(probe.comparable, probe.grid, "lime").to(x.device)
    parts = int(labels.max()) + 1
    rows, times = merged(coins(samples, parts, probe.random))
    fills = _fills(probe, x, labels, fill)
    scores = torch.zeros(len(rows), dtype=torch.float64)
    scores[0] = probe.score() * len(fills)  # the row that shows everything comes first
    for answer in probe.scores(_shown(rows, fills), of=lambda a: torch.where(rows[a[0]].to(x.device)[labels], x, a[1])):
        scores[answer.asked[0]] += answer.score
    scores /= len(fills)
    distance = 1 - (rows.sum(1).double() / parts).sqrt()  # cosine distance of a binary row from all ones
    weights = times * (-(distance**2) / kernel**2 / 2).exp()
    found, intercept, fit = _fit(rows, scores, weights, features, selection, alpha)
    if len(rows) <= parts:
        probe.notes.append(f"lime fitted {parts} segments to {len(rows)} different samples: too few; give more samples or fewer segments")
    told = {"active": rows.sum(1).tolist(), "scores": scores.tolist(), "times": times.int().tolist(), "samples": rows}
    return probe.map(spread(found, labels), None, segments=labels.cpu(), weights=found.tolist(), intercept=intercept, fit=fit, **told)


def _fills(probe: Probe, x: Tensor, labels: Tensor, fill: Baseline | None) -> list[Tensor]:
    if fill is not None:
        assert isinstance(fill, Starts)
        return probe.starts(fill)
    own = means(x, labels)
    if torch.allclose(own, x):
        raise BadParameter("a fill that hides something", "segments whose own mean is all they show", "Give fill=0.0 or larger segments.")
    return [own]


def _shown(rows: Tensor, fills: list[Tensor]) -> Iterator[tuple[int, Tensor]]:
    return ((k, f) for k in range(1, len(rows)) for f in fills)


def _fit(rows: Tensor, scores: Tensor, weights: Tensor, features: int | None, selection: str, alpha: float) -> tuple[Tensor, float, float]:
    """Weights of all segments (zero where not selected), intercept, R squared."""
    picked = torch.arange(rows.shape[1])
    if features is not None and selection == "lasso":
        picked = lasso_picks(rows, scores, weights, features)
    elif features is not None:
        first, _ = ridge(rows, scores, weights, SELECT)
        picked = torch.argsort(first.abs(), descending=True, stable=True)[:features]
    found = torch.zeros(rows.shape[1], dtype=torch.float64)
    found[picked], intercept = ridge(rows[:, picked], scores, weights, alpha)
    return found, intercept, determination(rows, scores, weights, found, intercept)
