"""Area under the precision-recall curve: how pure are the map's top samples?"""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.evidence.localization.placing import Found, Part, cuts, judged, precedence
from pellucid.evidence.metric import MASK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite


@metric(
    cite=Cite("Arun et al.", 2021, "Assessing the trustworthiness of saliency maps for localizing abnormalities in medical imaging", "Radiology: AI"),
    unit="0 to 1",
    better="up",
    reference="the mask's share of the image",
    needs=MASK,
)  # fmt: skip
def auprc(panel: Panel, *, of: Part = "positive") -> dict[str, Measurement]:
    """Average precision of the map as a detector of the mask's samples: 1 if all of them outrank all others.

    ``AP = sum_k (R_k - R_(k-1)) P_k`` over the distinct values of the map (*space) from the highest; P precision, R recall of the samples at or
    above. In 3D it is the VxAP of Wisniewski et al. 2024.

    Args:
        of: the part of the map that counts; see ``roc_auc``.

    **Misleads when**: values of masks of different size are compared: chance is the mask's share of the image (``reference``; the quotient is
    ``detail["times chance"]``). The stronger baseline of Arun et al., the mean mask of other patients, is graded as a map of its own
    (``evidence.localization.mean_mask``).
    **Source**: Arun et al. 2021; they use the trapezoid of scikit-learn's ``auc`` over the same curve, which is optimistic (Davis and Goadrich 2006),
    we its average precision.
    """
    return judged(panel, of, _found, unit="0 to 1", better="up", against="a map without knowledge")


def average_precision(a: Tensor, mask: Tensor) -> float:
    """The area for a map and a bool mask, both (*space)."""
    inside, all_ = cuts(a, mask)
    recall = torch.cat([torch.zeros(1, dtype=torch.float64), inside / inside[-1]])
    return float((recall.diff() * inside / all_).sum())


def _found(a: Tensor, mask: Tensor) -> Found:
    value, chance = average_precision(a, mask), float(mask.double().mean())
    text = f"Average precision against the mask is {value:.3f}, {value / chance:.1f} times that of chance ({chance:.3f})."
    return Found(value, chance, text, precedence(a), {"times chance": value / chance})
