"""Grad-CAM."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.method import ACTIVATIONS, FEATURES, GRADIENTS, NOTHING, Cite, Cost, Where, method
from pellucid.params import Flag
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra", 2017, "Grad-CAM", "ICCV", arxiv="1610.02391"),
    asks=GRADIENTS | ACTIVATIONS,
    gives=NOTHING,
    values=FEATURES,
    cost=lambda **_: Cost(forward=1, backward=1),
    where=Where.FEATURES,
    needs_space=True,
)
def grad_cam(probe: Probe, x: Float[Tensor, "c *space"], *, relu: Flag = True, counterfactual: Flag = False) -> Drawn:
    """Where the features are strong that, taken over the whole image, raise the score.

    ``relu(sum over channels of mean(d s / d x) * x)`` of the activation x at the site, shape (1, *space of the site) on the site's own
    grid, in units of the score; neither stretched over the image nor rescaled.

    Args:
        relu: keep what speaks for the target only, as the paper does; False shows what speaks against it as negative.
        counterfactual: the negated gradient: where the features are that would have to go for the score to rise.

    Misleads when: a channel helps in one place and harms in another: the mean slope hides it, and the map may light up where the
        network did not look (``hires_cam`` does not mix places). Early sites give fine but meaningless maps.

    Source: equations 1 and 2, counterfactual explanations in section 3.3. At a site before global pooling and a linear head it is CAM.

    >>> import pellucid as pl, torch
    >>> head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False)]
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), *head)
    >>> why = pl.explain(net, torch.rand(1, 8, 8), target=1, method="grad_cam", relu=False)
    >>> why.values.shape, abs(why.total - why.score) < 1e-5
    (torch.Size([1, 6, 6]), True)
    """
    gradient = probe.local().gradient
    weights = gradient.flatten(1).mean(1).view(-1, *[1] * (x.ndim - 1))
    cam = ((-weights if counterfactual else weights) * x).sum(0, keepdim=True)
    return probe.map(cam.relu() if relu else cam)
