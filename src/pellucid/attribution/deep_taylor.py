"""Deep Taylor decomposition."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.method import CONSERVING, CONTRIBUTIONS, RULES, Cite, Cost, method
from pellucid.params import Flag
from pellucid.probe.probe import Drawn, Probe
from pellucid.probe.relevance import drawn, limits
from pellucid.probe.rules.lrp import Composite, Rule, relevance_rules


@method(
    cite=Cite(
        "Montavon, Lapuschkin, Binder, Samek, Mueller",
        2017,
        "Explaining nonlinear classification decisions with deep Taylor decomposition",
        "Pattern Recognition",
        arxiv="1512.02479",
    ),
    asks=RULES,
    gives=CONSERVING,
    values=CONTRIBUTIONS,
    cost=lambda **_: Cost(forward=1, backward=1),
)
def deep_taylor(probe: Probe, x: Float[Tensor, "c *space"], *, bounded: Flag = True) -> Drawn:
    """Where the evidence lies that adds up to a positive score; nothing speaks against it, by construction.

    ``R_i = sum_j x_i w_ij+ / (sum_i x_i w_ij+) R_j`` in every layer, each a Taylor step from a root of the layer above; the image's own
    layer by the rule for its range. (c, *space), in units of the score, at least 0. Map and the trace's ``absorbed`` sum to the score.

    Args:
        bounded: the image's values are limited (z_box, with the model's range, normalized), so that dark samples can count too; False: by the
            squares of the weights, whatever the image's values.

    Misleads when: the score is not above 0 (then there is no map, and it says so), or evidence against the target matters: it is not
        shown. Upper layers hardly change the map (Sixt et al. 2020). Roots assume ReLU networks; elsewhere it is LRP-z+ without biases.

    Source: sections 4 and 5: z+ (equation 12), z^B and w^2 for the first layer. Biases take nothing; what units with no positive input got
        is absorbed. Sums share by their positive parts, norms hand relevance on, attention as in LRP.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16, 2))
    >>> _ = torch.nn.init.constant_(net[3].bias, 1.0), torch.nn.init.constant_(net[3].weight, 0.1)
    >>> bool((pl.explain(net, torch.rand(1, 4, 4), target=1, method="deep_taylor").values >= 0).all())
    True
    """
    plus = Rule("z_plus", bias=False)
    at_image = probe.question.place is None
    first = Rule("z_box" if bounded else "w_square", bias=False) if at_image else None
    chosen = Composite(plus, plus, first, ("convolution", "dense"))
    rules = relevance_rules("deep_taylor", chosen, plus, limits(probe), apart=True)
    return drawn(probe, probe.ruled(rules), positive=True)
