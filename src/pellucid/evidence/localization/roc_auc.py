"""Area under the ROC curve: do samples inside the mask outrank those outside?"""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.evidence.localization.placing import Found, Part, cuts, judged
from pellucid.evidence.metric import MASK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.ops.similarity import ranks


@metric(
    cite=Cite("Fawcett", 2006, "An introduction to ROC analysis", "Pattern Recognition Letters"),
    unit="0 to 1",
    better="up",
    reference="0.5, that of a map without knowledge",
    needs=MASK,
)
def roc_auc(panel: Panel, *, of: Part = "positive") -> dict[str, Measurement]:
    """Share of pairs (a sample inside the mask, one outside) in which the one inside is more relevant; ties count half.

    ``AUC = P(a_in > a_out) + P(a_in = a_out) / 2`` over all samples (*space) of the map on the image's grid. It knows no scale and no threshold.

    Args:
        of: the part of the map that counts. ``positive``: what speaks for the target, all else ties at 0; ``absolute``: both signs; ``signed``:
            what speaks against it ranks below what says nothing.

    **Misleads when**: the mask is small or most of the image is empty background: easy samples fill the pairs and the value is high even where
    few of the top samples hit (see ``auprc``). A map around the image's middle does well where lesions lie there: compare with the controls.
    **Source**: Fawcett 2006, section 7; columns "AUC" of Xu et al. 2020, table 1, whose part of the map is not known to us.
    """
    return judged(panel, of, _found, unit="0 to 1", better="up", against="a map without knowledge")


def auc(a: Tensor, mask: Tensor) -> float:
    """The area for a map and a bool mask, both (*space)."""
    inside, all_ = cuts(a, mask)
    zero = torch.zeros(1, dtype=torch.float64)
    x, y = torch.cat([zero, (all_ - inside) / (all_[-1] - inside[-1])]), torch.cat([zero, inside / inside[-1]])
    return float(torch.trapezoid(y, x))


def _found(a: Tensor, mask: Tensor) -> Found:
    value = auc(a, mask)
    return Found(
        value, 0.5, f"A sample of the finding outranks one outside in {value:.0%} of pairs; chance is 50%.", ranks(a).view(a.shape)
    )
