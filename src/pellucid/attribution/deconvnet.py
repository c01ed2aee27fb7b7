"""The deconvolutional network."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.method import PATTERNS, RULES, SIGNED, Cite, Cost, method
from pellucid.probe.probe import Drawn, Probe
from pellucid.probe.rules.gates import gates


@method(
    cite=Cite("Zeiler, Fergus", 2014, "Visualizing and understanding convolutional networks", "ECCV", arxiv="1311.2901"),
    asks=RULES,
    gives=SIGNED,
    values=PATTERNS,
    cost=lambda **_: Cost(forward=1, backward=1),
    hears_weights=False,
)
def deconvnet(probe: Probe, x: Float[Tensor, "c *space"]) -> Drawn:
    """The pattern that the target looks for, projected back through the filters, with what would be negative cut off at each rectifier.

    The gradient with ``g_in = g_out * [g_out > 0]`` at every rectifier, whether it was active or not, shape (c, *space) of the image or
    site; max pooling sends back to where its maximum was (the switches). Norms, products and softmax keep their own gradient.

    Misleads when: taken for what this image holds: only the switches and gates know the image, the rest are the filters; like guided
        backpropagation it changes little if weights are randomized (Adebayo et al. 2018).

    Source: section 2.1. Other rectifiers than ReLU are open in the paper and treated alike; the map says so.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    >>> _ = torch.nn.init.constant_(net[3].weight, 1.0)
    >>> why = pl.explain(net, torch.rand(1, 8, 8), target=1, method="deconvnet")
    >>> kernels = net[0].weight.sum(0)
    >>> bool(torch.allclose(why.values[0, 3, 3], kernels.sum(), atol=1e-5))
    True
    """
    return probe.map(probe.ruled(gates("deconvnet", own_slope=False)).gradient)
