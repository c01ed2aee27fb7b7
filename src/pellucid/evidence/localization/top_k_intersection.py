"""Top-k intersection: how many of the k most relevant samples lie inside the mask."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from pellucid.evidence.localization.placing import Found, Part, inside_top, judged, top_of
from pellucid.evidence.metric import MASK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count


@metric(
    cite=Cite("Theiner, Müller-Budack, Ewerth", 2022, "Interpretable semantic photo geolocation", "WACV", "2104.14995"),
    unit="share",
    better="up",
    reference="the mask's share of the image",
    needs=MASK,
)
def top_k_intersection(panel: Panel, *, of: Part = "positive", k: Count = 100) -> dict[str, Measurement]:
    """Of the k most relevant samples, the share that lies inside the mask.

    ``|top_k(a) and M| / k`` over the samples (*space); samples that tie at the end count by their mean.

    Args:
        of: the part of the map that counts; see ``roc_auc``.
        k: how many samples; an image that has no more of them takes all, which is chance. Where k is larger than the mask, 1 cannot be reached
            (``detail["most"]``).

    **Misleads when**: images of different resolution are compared: the same k is another area. ``relevance_rank`` takes k from the mask.
    **Source**: Theiner et al. 2022, section 3.4; divided by the mask's share, it is their concept influence (``detail["times chance"]``).
    """
    return judged(panel, of, partial(_found, k=k), unit="share", better="up", against="a map without knowledge")


def _found(a: Tensor, mask: Tensor, k: int) -> Found:
    area = float(mask.double().mean())
    k = min(k, a.numel())
    value = inside_top(a, mask, k)
    text = f"Of the {k} most relevant samples {value:.1%} lie inside the mask; chance is {area:.1%}."
    return Found(value, area, text, top_of(a, k), {"k": k, "most": min(1.0, int(mask.sum()) / k), "times chance": value / area})
