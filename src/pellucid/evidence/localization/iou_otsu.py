"""Intersection over union of the map cut by Otsu's threshold."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from pellucid.evidence.localization.placing import Found, Part, judged, marked, overlap, overlap_of_chance, scaled
from pellucid.evidence.metric import MASK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Fraction


@metric(
    cite=Cite("Saporta et al.", 2022, "Benchmarking saliency methods for chest X-ray interpretation", "Nature Machine Intelligence"),
    unit="0 to 1",
    better="up",
    reference="as many samples marked at random",
    needs=MASK,
)
def iou_otsu(panel: Panel, *, of: Part = "positive", top: Fraction = 1.0) -> dict[str, Measurement]:
    """Overlap of the mask and of what Otsu's threshold keeps of the map: 1 if they are the same samples.

    The map is read on the image's grid (linear), scaled from its minimum to its maximum, cut where two classes of its values differ most, and
    ``IoU = |S and M| / |S or M|``. Their mean over images is the mIoU of CheXlocalize, where only images with the finding that the network
    calls so count.

    Args:
        of: the part of the map that counts, before scaling; see ``roc_auc``.
        top: the quantile of the map that becomes 1; 1: its maximum.

    **Misleads when**: the map is sparse (gradients at samples): the cut keeps a few grains, and the value is small wherever they lie. Small masks get
    small values from every method.
    **Source**: Saporta et al. 2022, methods; Otsu 1979 over 256 bins of the scaled map (they: of its 8-bit copy).
    """
    return judged(panel, of, partial(_found, top=top), unit="0 to 1", better="up", against="as many samples at random")


def _found(a: Tensor, mask: Tensor, top: float) -> Found:
    kept, at = marked(scaled(a, top), "otsu")
    value, chance = overlap(kept, mask)[0], overlap_of_chance(kept, mask)[0]
    share = float(kept.double().mean())
    text = f"Cut at Otsu's threshold, map and mask share {value:.1%} of what they cover (as much at random: {chance:.1%})."
    return Found(value, chance, text, kept, {"cut": at, "top": top, "marked": share})
