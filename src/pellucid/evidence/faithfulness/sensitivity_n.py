"""Sensitivity-n: faithfulness correlation as a function of how many parts go."""

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
from pellucid.params import Count

NAME, UNIT = "sensitivity_n", "correlation"
MOST = 0.8  # of all parts: as in the paper; subsets of nearly everything are all alike
AGAINST = "a map that knows nothing; the interval is over the subsets drawn"
Detail = dict[str, Any]


@metric(
    cite=Cite(
        "Ancona, Ceolini, Oztireli, Gross", 2018,
        "Towards better understanding of gradient-based attribution methods", "ICLR", "1711.06104",
    ),
    unit=UNIT,
    better="up",
    reference="0, that of a map that knows nothing",
    needs=NETWORK,
    price=lambda n, sizes, subsets, **_: Price(shared=subsets * (sizes if n is None else 1), at_most=n is None and sizes > 1),
    random=True,
)  # fmt: skip
def sensitivity_n(
    panel: Panel, *, n: Count | None = None, sizes: Count = 8, subsets: Count = 100, parts: Parts = "patches", fill: Baseline | None = None
) -> dict[str, Measurement]:
    """Whether the map adds up: does the relevance of n parts go with what the score loses without them, for small and for large n?

    ``r(n) = corr over S, |S| = n, of (sum_{i in S} a_i, s(x) - s(x without S))``, Pearson, over random subsets S that all maps share; the
    value is the mean of r over the sizes, the curve is in the detail. A map with r(n) = 1 for all n satisfies sensitivity-n exactly: only
    a score that is a sum over parts allows that.

    Args:
        n: one size; None: ``sizes`` of them in equal ratios from one part to 80 % of all.
        sizes: how many sizes the curve has.
        subsets: of each size, 100 as in the paper; the interval is over them (jackknife).
        parts: ``patches``, about 256 (512 in 3D) as square in the patient as the grid allows, or single ``samples`` as in the paper.
        fill: what stands in the place of a part; None: the blurred copy of the image.

    **Misleads when**: subsets of most parts leave images that the network never met, and their scores say little about any map.
    **Source**: Ancona et al. 2018, section 4 and equation 3 (there zeros, and the mean over a thousand images).
    """
    assert fill is None or isinstance(fill, Starts)
    patches = parts_of(panel, parts)
    count = math.prod(patches.shape)
    at = ladder(count, sizes) if n is None else [min(n, count - 1)]
    scores = {k: without(panel, parts, patches, k, subsets, fill) for k in at}
    said = {k: worth(panel, parts, patches, k, subsets) for k in at}
    detail: Detail = {"parts": count, "sizes": at, "subsets": subsets}
    return {m: _judged(nothing_in(panel.relevance(m)), [said[k][m] for k in at], [scores[k] for k in at], detail) for m in panel.names}


def ladder(count: int, sizes: int) -> list[int]:
    """Different sizes in equal ratios from 1 to 80 % of ``count``, rounded; of few parts there are fewer."""
    top = max(1.0, MOST * count)
    return sorted({round(top ** (k / max(1, sizes - 1))) for k in range(sizes)})


def _judged(empty: str, said: list[Floats], scores: list[Floats], detail: Detail) -> Measurement:
    kept = [i for i in range(len(scores)) if varies(said[i]) and not unmoved(scores[i])]
    if not empty and not kept:
        empty = "Whatever is taken out of the image, the score or the map's sum stays."
    if empty:
        return Measurement(NAME, math.nan, UNIT, "up", "void", empty, 0.0, AGAINST, detail=detail)
    there, got = going_along([said[i] for i in kept], [-scores[i] for i in kept])
    curve = [there[kept.index(i)] if i in kept else None for i in range(len(scores))]
    status: Status = "pass" if got.low > 0 else "fail" if got.value <= 0 else "inconclusive"
    word = {
        "pass": "The relevance of several parts goes with what the score loses without them",
        "fail": "The relevance of several parts does not go with what the score loses without them",
        "inconclusive": "Whether relevance goes with what the score loses cannot be told from so many subsets",
    }[status]
    text = f"{word} (correlation {got.value:.2f}, mean over {len(kept)} sizes)."
    return Measurement(NAME, got.value, UNIT, "up", status, text, 0.0, AGAINST, *got.ends, {**detail, "curve": curve})
