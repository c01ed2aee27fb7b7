"""Relevance through transformers: LRP for attention."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.errors import Unsupported
from pellucid.method import CONSERVING, CONTRIBUTIONS, RULES, SIGNED, Cite, Cost, method
from pellucid.params import Weight
from pellucid.probe.probe import Drawn, Probe
from pellucid.probe.relevance import drawn
from pellucid.probe.rules.lrp import STABILIZER, Composite, Rule
from pellucid.probe.rules.transformer import Attention


@method(
    cite=Cite("Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin, Samek", 2024, "AttnLRP", "ICML", arxiv="2402.05602"),
    asks=RULES,
    gives=SIGNED | CONSERVING,
    values=CONTRIBUTIONS,
    cost=lambda **_: Cost(forward=1, backward=1),
    needs_attention=True,
)
def transformer_attribution(probe: Probe, x: Float[Tensor, "c *space"], *, gamma: Weight = 0.05, epsilon: Weight = 1e-6) -> Drawn:
    """How the score of a transformer is shared out among the samples of the image, through what is attended to and where attention looks.

    LRP (c, *space) in units of the score, with attention shared out like any other operation: half of a product's relevance to each
    factor, through the softmax ``R_x = x * (R - s * sum(R))``, norms and activations hand relevance through, weights by the gamma rule. What
    biases, position embeddings and the softmax's constant part take is in the trace: map and ``absorbed`` sum to the score.

    Args:
        gamma: how much positive parts of weighted operations count more; 0 is the epsilon rule, close to input times gradient, whose
            noise in vision transformers the paper cures with gamma.
        epsilon: of the epsilon rule (``gamma=0``), in units of a unit's value; 0 leaves sums unstabilized too.

    Misleads when: much is absorbed (see the trace): then the map is a small part of the account. Patches that hold no picture but serve
        as memory in large models get relevance that was gathered elsewhere.

    Source: propositions 3.1 (softmax), 3.3 (products) and 3.4 (norms), gamma as in its appendix on vision transformers. To see attention
        as given (Ali et al. 2022), ask ``lrp``. Networks without attention are refused.

    >>> import pellucid as pl
    >>> from pellucid.testing import small_transformer, small_image
    >>> why = pl.explain(small_transformer(2), small_image(2), 1, method="transformer_attribution")
    >>> abs(why.total + sum(why.trace["absorbed"].values()) - why.score) < 1e-6
    True
    """
    rule = Rule("gamma", (gamma,)) if gamma else Rule("epsilon", (epsilon,)) if epsilon else Rule("zero")
    mixing = Rule("epsilon", (STABILIZER,)) if epsilon else Rule("zero")
    attention = Attention()
    found = probe.ruled(attention.rules("transformer_attribution", Composite(rule, rule), mixing))
    if not attention.count:
        raise Unsupported("transformer_attribution needs attention behind the site", "none", "Try 'lrp'.")
    return drawn(probe, found)
