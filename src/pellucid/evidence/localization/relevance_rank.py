"""Relevance rank: how many of the top samples, as many as the mask has, lie inside it."""

from __future__ import annotations

from torch import Tensor

from pellucid.evidence.localization.placing import Found, Part, inside_top, judged, top_of
from pellucid.evidence.metric import MASK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite


@metric(
    cite=Cite("Arras, Osman, Samek", 2022, "CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural network explanations", "Information Fusion", "2003.07258"),
    unit="share",
    better="up",
    reference="the mask's share of the image",
    needs=MASK,
)  # fmt: skip
def relevance_rank(panel: Panel, *, of: Part = "positive") -> dict[str, Measurement]:
    """Of the K most relevant samples, K being the size of the mask, the share that lies inside it: 1 if they are the mask.

    ``|top_K(a) and M| / K`` over the samples (*space). Samples that tie at the end count by their mean, so that their order does not matter. It is
    the precision at n of XAI-TRIS.

    Args:
        of: the part of the map that counts; see ``roc_auc``.

    **Misleads when**: relevance is right but grainy: fewer than K samples may hold it all, and the rest of the K are then ties at zero.
    **Source**: Arras et al. 2022, equation 3 (rank accuracy).
    """
    return judged(panel, of, _found, unit="share", better="up", against="a map without knowledge")


def _found(a: Tensor, mask: Tensor) -> Found:
    k, area = int(mask.sum()), float(mask.double().mean())
    value = inside_top(a, mask, k)
    text = f"Of the {k} most relevant samples, as many as the mask has, {value:.1%} lie inside it; chance is {area:.1%}."
    return Found(value, area, text, top_of(a, k), {"k": k})
