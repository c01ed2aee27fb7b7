"""Plain gradient."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.method import GRADIENTS, SIGNED, SLOPES, Cite, Cost, Values, method
from pellucid.params import Flag
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Simonyan, Vedaldi, Zisserman", 2014, "Deep inside convolutional networks", "ICLR workshop", arxiv="1312.6034"),
    asks=GRADIENTS,
    gives=SIGNED,
    values=lambda absolute, **_: Values.SIZES if absolute else SLOPES,
    cost=lambda **_: Cost(forward=1, backward=1),
)
def saliency(probe: Probe, x: Float[Tensor, "c *space"], *, absolute: Flag = False) -> Drawn:
    """How fast the score would rise if a sample rose a little.

    ``d s(x) / d x``, shape (c, *space) of the image or site, in units of the score per unit of the image.

    Args:
        absolute: the magnitude instead of the signed slope; False, since the sign says for or against.

    Misleads when: the network saturates (a decisive region has slope zero), and as a measure of how much a region
        contributes: a slope is not a share. Signs of neighboring samples alternate, so a smoothed map cancels.

    Source: equation 3 of the paper, without its maximum over channels and absolute value.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
    >>> why = pl.explain(net, torch.rand(1, 2, 2), target=1, method="saliency")
    >>> bool(torch.allclose(why.values.flatten(), net[1].weight[1]))
    True
    """
    g = probe.local().gradient
    return probe.map(g.abs() if absolute else g)
