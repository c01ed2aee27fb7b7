"""LayerCAM."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.method import ACTIVATIONS, FEATURES, GRADIENTS, NOTHING, Cite, Cost, Where, method
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Jiang, Zhang, Hou, Cheng, Wei", 2021, "LayerCAM: exploring hierarchical class activation maps", "IEEE TIP"),
    asks=GRADIENTS | ACTIVATIONS,
    gives=NOTHING,
    values=FEATURES,
    cost=lambda **_: Cost(forward=1, backward=1),
    where=Where.FEATURES,
    needs_space=True,
)
def layer_cam(probe: Probe, x: Float[Tensor, "c *space"]) -> Drawn:
    """Where features are strong that would raise the score right there; made for early sites too, where places are fine.

    ``relu(sum over channels of relu(d s / d x) * x)`` of the activation x at the site, shape (1, *space of the site) on the site's own
    grid, in units of the score; neither stretched over the image nor rescaled.

    Misleads when: a place also speaks against the target: negative slopes are dropped, so nothing of it is seen, and the sum
        means nothing. Two targets that use the same features get similar maps.

    Source: equations 6 to 8; the paper's rescaling of early layers (equation 9, a display step) is left out.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    >>> why = pl.explain(net, torch.rand(1, 8, 8), target=1, method="layer_cam")
    >>> why.values.shape, bool((why.values >= 0).all())
    (torch.Size([1, 6, 6]), True)
    """
    return probe.map((probe.local().gradient.relu() * x).sum(0, keepdim=True).relu())
