"""Guided backpropagation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.method import PATTERNS, RULES, SIGNED, Cite, Cost, method
from pellucid.probe.probe import Drawn, Probe
from pellucid.probe.rules.gates import gates


@method(
    cite=Cite("Springenberg, Dosovitskiy, Brox, Riedmiller", 2015, "Striving for simplicity", "ICLR workshop", arxiv="1412.6806"),
    asks=RULES,
    gives=SIGNED,
    values=PATTERNS,
    cost=lambda **_: Cost(forward=1, backward=1),
    hears_weights=False,
)
def guided_backprop(probe: Probe, x: Float[Tensor, "c *space"]) -> Drawn:
    """Fine structure that excites the target through units which are active and which all help it.

    The gradient with ``g_in = g_out * [g_out > 0] * [z > 0]`` at every rectifier, shape (c, *space) of the image or site, in units of
    the score per unit of intensity. Pooling, products, softmax and norms keep their own gradient.

    Misleads when: nearly always: it comes close to an edge detector that restores the image, and changes little if upper layers are
        randomized (Adebayo et al. 2018; Nie et al. 2018). Fine lines are no evidence that the network uses them.

    Source: section 3.4. Other rectifiers than ReLU (leaky, SiLU, GELU, ...) are open in the paper: here active where their value is
        above 0, with their own slope; the map says so.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    >>> _ = torch.nn.init.constant_(net[3].weight, 1.0)
    >>> x = torch.rand(1, 8, 8)
    >>> guided, plain = (pl.explain(net, x, target=1, method=m).values for m in ("guided_backprop", "saliency"))
    >>> bool(torch.allclose(guided, plain, atol=1e-6))
    True
    """
    return probe.map(probe.ruled(gates("guided_backprop", own_slope=True)).gradient)
