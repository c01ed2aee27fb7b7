"""Ablation-CAM."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.method import ACTIVATIONS, FEATURES, NOTHING, SCORES, Cite, Cost, Where, method
from pellucid.params import Flag
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Desai, Ramaswamy", 2020, "Ablation-CAM: visual explanations via gradient-free localization", "WACV"),
    asks=SCORES | ACTIVATIONS,
    gives=NOTHING,
    values=FEATURES,
    cost=lambda shape, **_: Cost(forward=shape[0] + 1),
    where=Where.FEATURES,
    needs_space=True,
)
def ablation_cam(probe: Probe, x: Float[Tensor, "c *space"], *, relu: Flag = True) -> Drawn:
    """Where the features are strong without which the score falls.

    ``relu(sum over channels of (s(x) - s(x with the channel at zero)) * x)`` of the activation x at the site, shape (1, *space of the
    site) on the site's own grid, in units of the score times the activation. It takes one pass per channel and one more.

    Args:
        relu: keep what speaks for the target only, as the paper does; False shows what speaks against it as negative.

    Misleads when: channels replace each other: without either alone the score stays, and neither gets weight. Zero is not "nothing
        there" before a ReLU or behind a GELU. The map may light up where the network did not look, as Grad-CAM's.

    Source: equations 4 and 5 without the division by s(x), a common factor that would turn the map round where the score is negative.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    >>> why = pl.explain(net, torch.rand(1, 8, 8), target=1, method="ablation_cam", site="1")
    >>> why.values.shape, why.provenance.forward
    (torch.Size([1, 6, 6]), 5)
    """
    score = probe.score()
    cam = torch.zeros(1, *x.shape[1:], dtype=torch.float64, device=x.device)
    for answer in probe.scores(range(len(x)), of=lambda c: _without(x, c)):
        cam += (score - float(answer.score)) * x[answer.asked].double()
    return probe.map(cam.relu() if relu else cam)


def _without(x: Tensor, channel: int) -> Tensor:
    z = x.clone()
    z[channel] = 0
    return z
