"""Internal influence: the slope of a score at a site, averaged over images of interest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Constant, Starts
from pellucid.method import ACTIVATIONS, GRADIENTS, SIGNED, SLOPES, Cite, Cost, method
from pellucid.ops.quadrature import nodes
from pellucid.params import Count
from pellucid.probe.probe import Drawn, Probe


def _cost(baseline: Starts, steps: int, over: str, **_: object) -> Cost:
    passes = baseline.count * (steps if over == "line" else 1)
    return Cost(forward=passes, backward=passes)


@method(
    cite=Cite(
        "Leino, Sen, Datta, Fredrikson, Li",
        2018,
        "Influence-directed explanations for deep convolutional networks",
        "IEEE ITC",
        arxiv="1802.03788",
    ),
    asks=GRADIENTS | ACTIVATIONS,
    gives=SIGNED,
    values=SLOPES,
    cost=_cost,
)
def internal_influence(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    *,
    baseline: Baseline = Constant(0.0),
    steps: Count = 64,
    over: Literal["line", "starts"] = "line",
) -> Drawn:
    """How strongly the score hears each unit of the site, on average over images of interest.

    ``mean over images p of d s / d z at z(p)``: the slice is ``site=``, the quantity of interest ``target=``, the distribution of interest
    ``over``; shape (c, *space) of the site, in units of the score per unit of activation: a slope, not a share.

    Args:
        baseline: where lines start, in the image's own values; or, with ``over="starts"``, the images of interest themselves.
        steps: Gauss-Legendre nodes along each line.
        over: ``line``: evenly on the straight lines from the starts to the image; ``starts``: on the starts, such as ``each_of`` the
            images of a class (what the class rests on; the explained image then does not matter). On the image alone it is
            ``saliency`` at the site, with Gaussian noise about it ``smoothgrad``.

    Misleads when: a unit is heard but silent: a high slope at a unit that never fires moves nothing (``conductance`` counts what flows).

    Source: equation 1; at the input over the line it is interior gradients.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16, 2))
    >>> why = pl.explain(net, torch.rand(1, 4, 4), target=1, site="1", method="internal_influence", steps=4)
    >>> bool(torch.allclose(why.values.flatten(), net[3].weight[1]))
    True
    """
    assert isinstance(baseline, Starts)
    image, starts = probe.source, probe.images(baseline)
    t, weights = nodes("gauss", steps) if over == "line" else ([0.0], [1.0])
    values, scores = torch.zeros_like(x, dtype=torch.float64), []
    path: Iterable[tuple[int, int]] = ((n, k) for n in range(len(starts)) for k in range(len(t)))
    for answer in probe.inside(path, of=lambda at: torch.lerp(starts[at[0]], image, t[at[1]])):
        values += weights[answer.asked[1]] * answer.gradient.double() / len(starts)
        scores.append(float(answer.score))
    return probe.map(values, alphas=t, scores=scores)
