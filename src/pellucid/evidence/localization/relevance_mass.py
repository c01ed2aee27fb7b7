"""Relevance mass: how much of the map lies inside the mask."""

from __future__ import annotations

from torch import Tensor

from pellucid.evidence.localization.placing import Found, Mass, judged
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
def relevance_mass(panel: Panel, *, of: Mass = "positive") -> dict[str, Measurement]:
    """Share of the map's relevance that lies inside the mask.

    ``sum of a in M / sum of a`` over the samples (*space); ``detail["enrichment"]`` is that share over the mask's share of the image (1 is chance).

    Args:
        of: ``positive`` relevance, or ``absolute`` values. A quotient of signed sums is no share and is not offered.

    **Misleads when**: the network has good reason to look beside the mask (a shifted organ, context), or the map is blurred: mass that
    spills over a small mask's edge counts as wrong.
    **Source**: Arras et al. 2022, equation 2 (mass accuracy); the attribution localization of Kohlbrenner et al. 2020. Weighted by size, the latter
    is the enrichment here.
    """
    return judged(panel, of, _found, unit="share", better="up", against="relevance spread evenly")


def _found(a: Tensor, mask: Tensor) -> Found:
    value, area = float(a[mask].sum() / a.sum()), float(mask.double().mean())
    text = f"{value:.1%} of the relevance lies inside the mask, which is {area:.1%} of the image: {value / area:.1f} times chance."
    return Found(value, area, text, a, {"enrichment": value / area})
