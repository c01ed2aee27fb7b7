"""Input times gradient."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.method import CONTRIBUTIONS, GRADIENTS, SIGNED, Cite, Cost, method
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Shrikumar, Greenside, Shcherbina, Kundaje", 2016, "Not just a black box", "arXiv", arxiv="1605.01713"),
    asks=GRADIENTS,
    gives=SIGNED,
    values=CONTRIBUTIONS,
    cost=lambda **_: Cost(forward=1, backward=1),
)
def input_x_gradient(probe: Probe, x: Float[Tensor, "c *space"]) -> Drawn:
    """What each sample would contribute to the score if the network were linear with the slope that it has here.

    ``x * d s(x) / d x``, shape (c, *space) of the image or site, in units of the score; in a linear network without biases
    the sum is the score. Zero is taken as "nothing there": no baseline is subtracted.

    Misleads when: zero means something (air, black lesions, standardized images, whose zero is the mean): what is zero gets
        nothing, and bright parts shine through although they do not matter. As every gradient it is blind where the
        network saturates.

    Source: section 1 of the paper; in ReLU networks equal to epsilon-LRP with epsilon to zero (Ancona et al. 2018) if biases keep theirs.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
    >>> why = pl.explain(net, torch.rand(1, 2, 2), target=1, method="input_x_gradient")
    >>> abs(why.total - why.score) < 1e-6
    True
    """
    return probe.map(x * probe.local().gradient)
