"""Box accuracy: does a box around the map's highest part match the finding's box, at the best threshold?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.evidence.localization.placing import Found, Part, judged, scaled
from pellucid.evidence.masks import components
from pellucid.evidence.metric import MASK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count

OVERLAPS = (0.3, 0.5, 0.7)  # of MaxBoxAccV2
Which = Literal["largest", "all"]
Floats = NDArray[np.float64]


@metric(
    cite=Cite(
        "Choe, Oh, Lee, Chun, Akata, Shim", 2020, "Evaluating weakly supervised object localization methods right", "CVPR", "2001.07437"
    ),
    unit="share",
    better="up",
    reference="the box of the whole image",
    needs=MASK,
)
def max_box_accuracy(panel: Panel, *, of: Part = "positive", parts: Which = "largest", levels: Count = 50) -> dict[str, Measurement]:
    """Share of the demanded overlaps (0.3, 0.5, 0.7) that a box around the map's highest part reaches with a box of the mask, at the best threshold.

    The map, scaled from its minimum to its maximum, is cut at ``levels`` thresholds; around the largest connected part (or each) lies the tightest box;
    the boxes of the mask's connected parts are the truth; the best IoU of any pair counts. In 2D and 3D.

    Args:
        of: the part of the map that counts, before scaling; see ``roc_auc``.
        parts: ``largest`` part alone (MaxBoxAcc), or ``all`` (MaxBoxAccV2).
        levels: thresholds, evenly spaced from 0.

    **Misleads when**: it is averaged over images: each has its own best threshold then, while the published number has one for all. That one is
    ``max_box_accuracy_over(measurements)``, from the IoU at every threshold in ``detail["iou"]``. Boxes say little of branched findings.
    **Source**: Choe et al. 2020, equations 4 to 6; in 3D Wisniewski et al. 2024 (Max3DBoxAcc). Parts by samples, not by the area of a contour.
    """
    return judged(panel, of, partial(_found, parts=parts, levels=levels), unit="share", better="up", against="the box of the whole image")


def max_box_accuracy_over(found: Sequence[Measurement], overlap: float | None = None) -> tuple[float, float]:
    """MaxBoxAcc of several images: the share whose box reaches ``overlap`` at the best threshold for all of them, and that threshold.

    None: the mean over the overlaps 0.3, 0.5 and 0.7 (with the threshold that is best for 0.5). Void measurements are left out.

    Raises:
        BadParameter: none of them has a value, or they were made with different levels.
    """
    curves = [m.detail["iou"] for m in found if m.status != "void"]
    if not curves or len({len(c) for c in curves}) > 1:
        raise BadParameter("measurements by max_box_accuracy with equal levels", f"{len(curves)} with a value", "Measure them alike.")
    iou = np.asarray(curves)
    best = {o: (iou >= o).mean(0) for o in ((overlap,) if overlap is not None else OVERLAPS)}
    shown = best[overlap] if overlap is not None else best[0.5]
    return float(np.mean([b.max() for b in best.values()])), float(shown.argmax() / iou.shape[1])


def _found(a: Tensor, mask: Tensor, parts: Which, levels: int) -> Found:
    s, truth = scaled(a), _corners(components(mask)[1])
    curve = [_best(s >= k / levels, truth, parts) for k in range(levels)]
    whole = np.asarray([[[0.0] * a.ndim, [float(n) for n in a.shape]]])
    level = float(box_iou(whole, truth).max())
    top = max(curve)
    value, chance = (sum(v >= o for o in OVERLAPS) / len(OVERLAPS) for v in (top, level))
    text = (
        f"At the best threshold, the box around the map's highest part overlaps the finding's by {top:.0%} (the whole image: {level:.0%})."
    )
    return Found(value, chance, text, a, {"iou": curve, "best": top, "threshold": curve.index(top) / levels, "parts": parts})


def _best(kept: Tensor, truth: Floats, parts: Which) -> float:
    numbered, boxes = components(kept)
    if not boxes:
        return 0.0
    if parts == "largest":
        boxes = [boxes[int(np.bincount(numbered.ravel())[1:].argmax())]]
    return float(box_iou(_corners(boxes), truth).max())


def _corners(boxes: list[tuple[slice, ...]]) -> Floats:
    """Boxes as (n, 2, d): first sample, and the one after the last."""
    return np.asarray([[[s.start for s in b], [s.stop for s in b]] for b in boxes], dtype=np.float64)


def box_iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of boxes (n, 2, d) and (m, 2, d): (n, m)."""
    low, high = np.maximum(a[:, None, 0], b[None, :, 0]), np.minimum(a[:, None, 1], b[None, :, 1])
    both = np.clip(high - low, 0, None).prod(-1)
    sizes = [np.clip(c[:, 1] - c[:, 0], 0, None).prod(-1) for c in (a, b)]
    return np.asarray(both / (sizes[0][:, None] + sizes[1][None] - both), dtype=np.float64)
