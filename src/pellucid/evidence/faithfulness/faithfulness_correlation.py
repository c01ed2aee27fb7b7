"""Faithfulness correlation: does the relevance of random parts go with what the score loses without them?"""

from __future__ import annotations

import math
from typing import Any

from pellucid.baseline import Baseline, Starts
from pellucid.evidence.faithfulness.subsets import Parts, going_along, nothing_in, parts_of, unmoved, varies, without, worth
from pellucid.evidence.metric import NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement, Status
from pellucid.intervals import Floats
from pellucid.method import Cite
from pellucid.params import Count, Fraction

NAME, UNIT = "faithfulness_correlation", "correlation"
AGAINST = "a map that knows nothing; the interval is over the subsets drawn"


@metric(
    cite=Cite("Bhatt, Weller, Moura", 2020, "Evaluating and aggregating feature-based model explanations", "IJCAI", "2005.00631"),
    unit=UNIT,
    better="up",
    reference="0, that of a map that knows nothing",
    needs=NETWORK,
    price=lambda subsets, **_: Price(shared=subsets),
    random=True,
)
def faithfulness_correlation(
    panel: Panel, *, subsets: Count = 256, share: Fraction = 0.2, parts: Parts = "patches", fill: Baseline | None = None
) -> dict[str, Measurement]:
    """Whether parts that hold more relevance cost more of the score when they are missing: 1 is always, 0 is chance.

    ``corr over S of (sum_{i in S} a_i, s(x) - s(x without S))``, Pearson, over random subsets S of equal size; a (*space) is the map on
    the image's grid, with its signs. The subsets are the same for all maps, so that maps differ by what they say and not by the draw.

    Args:
        subsets: how many; the interval (over subsets, jackknife) tells whether they were enough.
        share: of all parts in one subset; small subsets leave images that the network still knows.
        parts: ``patches``, about 256 (512 in 3D) as square in the patient as the grid allows, or single ``samples`` as in the paper, whose
            absence networks hardly notice in large images.
        fill: what stands in the place of a part; None: the blurred copy of the image.

    **Misleads when**: parts work together (none is missed alone), the fill is itself a finding, or a map without knowledge happens to lie
    where the image has content: compare with the controls.
    **Source**: Bhatt et al. 2020, definition 4 (there a baseline of zeros and single pixels).
    """
    assert fill is None or isinstance(fill, Starts)
    patches = parts_of(panel, parts)
    size = max(1, min(math.prod(patches.shape) - 1, round(share * math.prod(patches.shape))))
    scores = without(panel, parts, patches, size, subsets, fill)
    detail = {"parts": math.prod(patches.shape), "size": size, "subsets": subsets, "scores": [float(scores.min()), float(scores.max())]}
    found = worth(panel, parts, patches, size, subsets)
    return {n: _judged(nothing_in(panel.relevance(n)), found[n], scores, detail) for n in panel.names}


def _judged(empty: str, said: Floats, scores: Floats, detail: dict[str, Any]) -> Measurement:
    if not empty and not varies(said):
        empty = "The map gives every subset the same relevance."
    if not empty and unmoved(scores):
        empty = "Whatever is taken out of the image, the score stays."
    if empty:
        return Measurement(NAME, math.nan, UNIT, "up", "void", empty, 0.0, AGAINST, detail=detail)
    _, got = going_along([said], [-scores])
    status: Status = "pass" if got.low > 0 else "fail" if got.value <= 0 else "inconclusive"
    word = {
        "pass": "Parts with more relevance cost more of the score when they are missing",
        "fail": "Parts with more relevance cost no more of the score when they are missing",
        "inconclusive": "Whether parts with more relevance cost more of the score cannot be told from so many subsets",
    }[status]
    return Measurement(NAME, got.value, UNIT, "up", status, f"{word} (correlation {got.value:.2f}).", 0.0, AGAINST, *got.ends, detail)
