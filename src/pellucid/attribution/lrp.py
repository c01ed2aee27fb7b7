"""Layer-wise relevance propagation (LRP)."""

from __future__ import annotations

from types import MappingProxyType
from typing import cast

from jaxtyping import Float
from torch import Tensor

from pellucid.method import CONSERVING, CONTRIBUTIONS, RULES, SIGNED, Cite, Cost, method
from pellucid.params import Weight
from pellucid.probe.probe import Drawn, Probe
from pellucid.probe.relevance import drawn, limits
from pellucid.probe.rules.lrp import STABILIZER, Composite, Rule, relevance_rules
from pellucid.probe.rules.lrp_composites import CompositeName, RulesBySite, SiteRules


@method(
    cite=Cite(
        "Bach, Binder, Montavon, Klauschen, Mueller, Samek",
        2015,
        "On pixel-wise explanations by layer-wise relevance propagation",
        "PLoS ONE",
    ),
    asks=RULES,
    gives=SIGNED | CONSERVING,
    values=CONTRIBUTIONS,
    cost=lambda **_: Cost(forward=1, backward=1),
)
def lrp(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    *,
    composite: CompositeName = "epsilon_plus_flat",
    epsilon: Weight = 1e-6,
    gamma: Weight = 0.25,
    rules: RulesBySite = MappingProxyType({}),
) -> Drawn:
    """How the score, taken as relevance, is shared out among the samples of the image.

    Each operation shares out what it got: ``R_i = sum_j a_i w_ij / (sum_i a_i w_ij + b_j) R_j`` (c, *space), in units of the score. What
    biases, added constants and stabilizers take stands in the trace, by reason: map and ``absorbed`` sum to the score.

    Args:
        composite: which rule where: z_plus, alpha_beta(2, 1) or gamma for convolutions, epsilon for matrix products, and what touches the
            image first by flat or z_box; "epsilon", "gamma" and "z_plus" everywhere.
        epsilon: in the epsilon rule, in units of a unit's value; 0 is LRP-0.
        gamma: how much positive parts weigh more in the gamma rule.
        rules: rules of parts, by the beginning of their names: {"features.0": "z_box", "layer4": "gamma(0.25)"}; zero, epsilon, gamma,
            alpha_beta, z_plus, w_square, flat, z_box.

    Misleads when: rules that favor what speaks for the score (z_plus, flat) are read as evidence against it, or for fine detail; they depend
        little on upper layers (Sixt et al. 2020). With epsilon alone the map is close to input times gradient.

    Source: the rules of Bach et al. 2015 and Montavon et al. 2019, gamma as Andeol et al. 2021; composites named as in zennit. A sample answers for
        its normalized value. Attention, gates, norms and sums: see ``pellucid.probe.rules.lrp_products`` and ``lrp_norms``.

    >>> import pellucid as pl, torch
    >>> why = pl.explain(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)), torch.rand(1, 2, 2), 1, method=pl.lrp(epsilon=0))
    >>> abs(why.total + sum(why.trace["absorbed"].values()) - why.score) < 1e-5
    True
    """
    at_image = probe.question.place is None
    chosen = Composite.named(composite, epsilon, gamma, cast(SiteRules, rules), at_image)
    mixing = Rule("epsilon", (STABILIZER,)) if epsilon else Rule("zero")
    found = probe.ruled(relevance_rules("lrp", chosen, mixing, limits(probe)))
    chosen.check()
    return drawn(probe, found)
