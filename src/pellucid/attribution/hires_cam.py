"""HiResCAM."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.method import ACTIVATIONS, CONTRIBUTIONS, GRADIENTS, SIGNED, Cite, Cost, Where, method
from pellucid.params import Flag
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Draelos, Carin", 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations", "arXiv", arxiv="2011.08891"),
    asks=GRADIENTS | ACTIVATIONS,
    gives=SIGNED,
    values=CONTRIBUTIONS,
    cost=lambda **_: Cost(forward=1, backward=1),
    where=Where.FEATURES,
    needs_space=True,
)
def hires_cam(probe: Probe, x: Float[Tensor, "c *space"], *, relu: Flag = False) -> Drawn:
    """How much each place of a feature map raises or lowers the score, each channel weighted by its slope at that very place.

    ``sum over channels of (d s / d x) * x`` of the activation x at the site, shape (1, *space of the site) on the site's own grid, in
    units of the score; where all behind the site is linear, the sum is the score less its bias.

    Args:
        relu: keep what speaks for the target only; False, since the paper's map is signed.

    Misleads when: more than one nonlinear layer follows the site: then slope times activation is an estimate, not a share.
        A cell also sees far beyond the place where it is drawn.

    Source: section 3.2, H-tilde before any display step.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2, bias=False))
    >>> why = pl.explain(net, torch.rand(1, 8, 8), target=1, method="hires_cam")
    >>> why.values.shape, abs(why.total - why.score) < 1e-5
    (torch.Size([1, 6, 6]), True)
    """
    cam = (probe.local().gradient * x).sum(0, keepdim=True)
    return probe.map(cam.relu() if relu else cam)
