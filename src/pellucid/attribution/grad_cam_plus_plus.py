"""Grad-CAM++."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import Unsupported
from pellucid.method import ACTIVATIONS, FEATURES, GRADIENTS, NOTHING, Cite, Cost, Where, method
from pellucid.params import Flag
from pellucid.probe.probe import Drawn, Probe

LEAST = 0.1  # of a denominator: it is 2 and more over activations that are not negative; below this a place would count twenty times


@method(
    cite=Cite("Chattopadhay, Sarkar, Howlader, Balasubramanian", 2018, "Grad-CAM++", "WACV", arxiv="1710.11063"),
    asks=GRADIENTS | ACTIVATIONS,
    gives=NOTHING,
    values=FEATURES,
    cost=lambda **_: Cost(forward=1, backward=1),
    where=Where.FEATURES,
    needs_space=True,
)
def grad_cam_plus_plus(probe: Probe, x: Float[Tensor, "c *space"], *, relu: Flag = True) -> Drawn:
    """Where the features are strong that raise the score somewhere, each channel weighted by its rising places alone.

    ``relu(sum over channels of w * x)`` with ``w = mean over places of alpha * relu(g)``, g = d s / d x,
    ``alpha = 1 / (2 + g * sum over places of x)``; shape (1, *space of the site) on the site's own grid, in units of the score, not rescaled.

    Args:
        relu: drop what is negative, as the paper does; only channels that are negative themselves can make it so.

    Misleads when: features count against the target: places where the slope falls have no say. In a network that pools over the
        whole image the slope is the same everywhere, and the map is close to Grad-CAM's of the rising channels. The channels'
        shares change with the score's unit (the alphas do not scale).

    Source: equations 7 and 19, taken for exp(s) as in the paper, whose common factor exp(s) is left out;
        alpha = g^2 / (2 g^2 + g^3 sum x) is shortened by g^2; a mean where the paper sums, which gives the map Grad-CAM's scale.
        Refused where activations below zero turn a denominator round.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    >>> pl.explain(net, torch.rand(1, 8, 8), target=1, method="grad_cam_plus_plus").values.shape
    torch.Size([1, 6, 6])
    """
    g, z = probe.local().gradient.double(), x.double()
    column = (-1, *[1] * (x.ndim - 1))
    below = 2 + g * z.flatten(1).sum(1).view(column)
    least = float(below[g > 0].min()) if bool((g > 0).any()) else 2.0
    if least < LEAST:
        got = f"2 + g * sum(x) = {least:.3g} where channels are mostly negative"
        raise Unsupported(
            "Grad-CAM++ needs activations such as a ReLU gives", got, "Choose a site behind a ReLU, or grad_cam or hires_cam."
        )
    rising = torch.where(g > 0, g / below, torch.zeros_like(g))
    cam = (rising.flatten(1).mean(1).view(column) * z).sum(0, keepdim=True)
    return probe.map(cam.relu() if relu else cam)
