"""XGrad-CAM."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import Unsupported
from pellucid.method import ACTIVATIONS, FEATURES, GRADIENTS, NOTHING, Cite, Cost, Where, method
from pellucid.params import Flag
from pellucid.probe.probe import Drawn, Probe

MOST = 10  # times the channel's steepest slope: a mean of slopes never exceeds it once


@method(
    cite=Cite("Fu, Hu, Dong, Guo, Gao, Li", 2020, "Axiom-based Grad-CAM", "BMVC", arxiv="2008.02312"),
    asks=GRADIENTS | ACTIVATIONS,
    gives=NOTHING,
    values=FEATURES,
    cost=lambda **_: Cost(forward=1, backward=1),
    where=Where.FEATURES,
    needs_space=True,
)
def xgrad_cam(probe: Probe, x: Float[Tensor, "c *space"], *, relu: Flag = True) -> Drawn:
    """Where the features are strong that raise the score, each channel weighted by its slope where it is active.

    ``relu(sum over channels of w * x)`` with ``w = sum over places of x * g / sum over places of x``, g = d s / d x (0 for a channel that
    sums to 0); shape (1, *space of the site) on the site's own grid, in units of the score. Without relu it sums to sum(x * g).

    Args:
        relu: keep what speaks for the target only, as the paper does; False shows what speaks against it as negative.

    Misleads when: a channel helps in one place and harms in another, as with Grad-CAM: one weight per channel mixes places.

    Source: equation 8; where all behind the site is piecewise linear, the sum keeps the score up to biases (their conservation).
        w is a mean of slopes where x has one sign; where both signs nearly cancel it is not, and the method refuses.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2, bias=False))
    >>> why = pl.explain(net, torch.rand(1, 8, 8), target=1, method="xgrad_cam", site="1", relu=False)
    >>> abs(why.total - why.score) < 1e-5
    True
    """
    z = x.double()
    total = z.flatten(1).sum(1)
    slopes = probe.local().gradient.double()
    weights = torch.where(total == 0, torch.zeros_like(total), (z * slopes).flatten(1).sum(1) / total)
    wild = int((weights.abs() > MOST * slopes.abs().flatten(1).amax(1)).sum())
    if wild:
        got = f"{wild} channels whose values of both signs cancel, which makes their weights wild"
        raise Unsupported("XGrad-CAM needs activations such as a ReLU gives", got, "Choose a site behind a ReLU, or hires_cam or grad_cam.")
    cam = (weights.view(-1, *[1] * (x.ndim - 1)) * z).sum(0, keepdim=True)
    return probe.map(cam.relu() if relu else cam)
