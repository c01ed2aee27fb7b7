"""F1 of the map cut at a stated threshold."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from pellucid.evidence.localization.placing import Found, Part, Threshold, judged, marked, overlap, overlap_of_chance, scaled
from pellucid.evidence.metric import MASK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Fraction


@metric(
    cite=Cite("Xu, Venugopalan, Sundararajan", 2020, "Attribution in scale and space", "CVPR", "2004.03383"),
    unit="0 to 1",
    better="up",
    reference="as many samples marked at random",
    needs=MASK,
)
def f1(panel: Panel, *, of: Part = "positive", threshold: Threshold = "adaptive", top: Fraction = 1.0) -> dict[str, Measurement]:
    """F1 (Dice) of the samples that a cut through the map keeps, against the mask: harmonic mean of precision and recall.

    ``s = clip((a - min a) / (q_top(a) - min a), 0, 1)``, ``S = {s >= threshold}``, ``F1 = 2 |S and M| / (|S| + |M|)``.

    Args:
        of: the part of the map that counts, before scaling; see ``roc_auc``.
        threshold: ``adaptive``, twice the mean of s (Achanta et al. 2009, the habit of salient object detection); ``otsu``; or a number of the
            scale. Where it fell is in the detail.
        top: the quantile of the map that becomes 1. 1: its maximum; 0.99 makes sparse maps comparable with smooth ones.

    **Misleads when**: methods are compared at one fixed threshold: a sparse map and a smooth one with the same order of samples differ. ``max_f1`` knows
    no threshold. The level of chance is that of as many samples marked at random: it rises with the marked area.
    **Source**: columns "F1" of Xu et al. 2020, table 1; which threshold, scaling and part of the map they used is not known to us, so all three are stated.
    """
    return judged(panel, of, partial(_found, threshold=threshold, top=top), unit="0 to 1", better="up", against="as many samples at random")


def _found(a: Tensor, mask: Tensor, threshold: float | str, top: float) -> Found:
    kept, at = marked(scaled(a, top), threshold)
    value, chance = overlap(kept, mask)[1], overlap_of_chance(kept, mask)[1]
    share = float(kept.double().mean())
    how = {"adaptive": "twice its mean", "otsu": "Otsu's threshold"}.get(str(threshold), f"{at:g}")
    text = f"Cut at {how}, the map marks {share:.1%} of the image, with F1 {value:.3f} against the mask (as much at random: {chance:.3f})."
    return Found(value, chance, text, kept, {"threshold": threshold, "cut": at, "top": top, "marked": share})
