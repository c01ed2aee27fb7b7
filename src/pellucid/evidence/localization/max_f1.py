"""Best F1 over all thresholds."""

from __future__ import annotations

from torch import Tensor

from pellucid.evidence.localization.placing import Found, Part, cuts, judged, precedence
from pellucid.evidence.metric import MASK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite


@metric(
    cite=Cite("Wisniewski, Giorgi, Kacprzak, et al.", 2024, "SE3D: a framework for saliency method evaluation in 3D imaging", "ICIP", "2405.14584"),
    unit="0 to 1",
    better="up",
    reference="marking the whole image",
    needs=MASK,
)  # fmt: skip
def max_f1(panel: Panel, *, of: Part = "positive") -> dict[str, Measurement]:
    """The best F1 (Dice) that any threshold through the map reaches against the mask: what the map could mark if the cut were known.

    ``max_t 2 |{a >= t} and M| / (|{a >= t}| + |M|)`` over all distinct values t of the map (*space).

    Args:
        of: the part of the map that counts; see ``roc_auc``.

    **Misleads when**: it is read as what a user would get: the threshold is chosen by the mask itself, for each image anew. Marking everything
    reaches ``2 m / (1 + m)``, m the mask's share of the image.
    **Source**: Wisniewski et al. 2024 (MaxF1); they take the best threshold of a whole set, we that of each image.
    """
    return judged(panel, of, _found, unit="0 to 1", better="up", against="marking the whole image")


def _found(a: Tensor, mask: Tensor) -> Found:
    inside, all_ = cuts(a, mask)
    scores = 2 * inside / (all_ + inside[-1])
    best = int(scores.argmax())
    value, m = float(scores[best]), float(mask.double().mean())
    share = float(all_[best]) / mask.numel()
    text = f"At the best cut, {share:.1%} of the image is marked, with F1 {value:.3f} against the mask (the whole image: {2 * m / (1 + m):.3f})."
    return Found(value, 2 * m / (1 + m), text, precedence(a), {"marked": share})
