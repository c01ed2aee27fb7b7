"""Mean absolute error between the scaled map and the mask."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from pellucid.evidence.localization.placing import Found, Part, judged, scaled
from pellucid.evidence.metric import MASK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Fraction


@metric(
    cite=Cite("Xu, Venugopalan, Sundararajan", 2020, "Attribution in scale and space", "CVPR", "2004.03383"),
    unit="0 to 1",
    better="down",
    reference="the same values at random places",
    needs=MASK,
)
def mae(panel: Panel, *, of: Part = "positive", top: Fraction = 1.0) -> dict[str, Measurement]:
    """Mean distance between the map, scaled to 0 to 1, and the mask (0 or 1).

    ``MAE = mean |s - M|``, ``s = clip((a - min a) / (q_top(a) - min a), 0, 1)`` over the samples (*space).

    Args:
        of: the part of the map that counts, before scaling; see ``roc_auc``.
        top: the quantile of the map that becomes 1; 1: its maximum.

    **Misleads when**: masks are small: an empty map has an error of the mask's share of the image (``detail["empty map"]``), which sparse maps
    come near wherever they point. The reference is therefore the same map with its values at random places; below it, the map knows something.
    **Source**: columns "MAE" of Xu et al. 2020, table 1; their scaling and part of the map are not known to us, so both are stated.
    """
    return judged(panel, of, partial(_found, top=top), unit="0 to 1", better="down", against="the same values at random places")


def _found(a: Tensor, mask: Tensor, top: float) -> Found:
    s, m = scaled(a, top), mask.double()
    value, area, mean = float((s - m).abs().mean()), float(m.mean()), float(s.mean())
    chance = area * (1 - mean) + (1 - area) * mean
    text = f"The map is {value:.3f} away from the mask on average (its values at random places: {chance:.3f}; an empty map: {area:.3f})."
    return Found(value, chance, text, s, {"top": top, "empty map": area})
