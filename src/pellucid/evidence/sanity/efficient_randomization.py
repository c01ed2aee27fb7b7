"""Efficient model randomization: does the map become more complex when nothing learned is left?"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from torch import Tensor

from pellucid.evidence.metric import MAPS_ANEW, NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.sanity.alike import complexity, empty
from pellucid.evidence.sanity.cascade import repeatable, run
from pellucid.evidence.sanity.floors import interval
from pellucid.evidence.sanity.model_randomization import nothing, opened, plain
from pellucid.evidence.sanity.shuffling import Shuffler
from pellucid.explanation import Measurement, Status
from pellucid.method import Cite
from pellucid.params import Count

UNIT = "relative rise"


@metric(
    cite=Cite("Hedström, Weber, Lapuschkin, Höhne", 2024, "A fresh look at sanity checks for saliency maps", "xAI", "2405.02383"),
    unit=UNIT,
    better="up",
    reference="0: as complex as with everything learned",
    needs=NETWORK | MAPS_ANEW,
    price=lambda draws, **_: Price(shared=2 * draws, anew=draws),
    random=True,
    ranks=False,
)
def efficient_randomization(panel: Panel, *, how: Literal["shuffled", "drawn"] = "shuffled", draws: Count = 3) -> dict[str, Measurement]:
    """How much more complex the map becomes when all weights are randomized: above 0 if learning had made it simpler (eMPRT).

    ``(H(map of a copy) - H(map)) / H(map)``, mean over draws, ``H`` the entropy of the histogram of the values of a map (*space) in 100
    bins between its lowest and highest. No two maps are compared, so that neither their grain nor their order counts.

    Args:
        how: ``shuffled`` keeps each tensor's values; ``drawn`` uses the modules' own initializers, as the paper does.
        draws: copies; shared with ``model_randomization`` of the same ``how`` and ``draws``, whose last stage they are.

    **Misleads when**: a few extreme values fill one bin with all the rest; or a coarse map is as rich with learned weights as without.
        A map that keeps its values and moves them has no rise, though it changed.
    **Source**: its section on Efficient MPRT; in the authors' code the number of bins follows the data, with 100 as the default.
    """
    ready = opened(panel)
    if not isinstance(ready, Shuffler):
        return {n: replace(m, unit=UNIT, direction="up") for n, m in ready.items()}
    names, lost = repeatable(panel)
    lost += [n for n in names if empty(panel.relevance(n))]
    names = [n for n in names if n not in lost]
    own: dict[str, Tensor] = {n: panel.relevance(n) for n in names}
    (stage,) = run(panel, ready, [ready.blocks], lambda twin, k: plain(panel, names, twin, k), own, "plain", how, draws)
    found: dict[str, Measurement] = {}
    for n in names:
        before, after = complexity(own[n]), [s.complexity for s in stage.seen[n]]
        found[n] = _measured([(a - before) / before for a in after], before, after, {"how": how, "draws": draws})
    found |= {n: replace(nothing(n, panel), unit=UNIT, direction="up") for n in lost}
    return {n: found[n] for n in panel.names}


def _measured(rises: list[float], before: float, after: list[float], facts: dict[str, object]) -> Measurement:
    value, *reach = interval(rises)
    low, high = (None, None) if math.isnan(reach[0]) else reach
    detail = facts | {"complexity": before, "randomized": after, "empty": sum(math.isnan(r) for r in rises)}
    if math.isnan(value):
        text = "Networks with randomized weights give an empty map for this image, so its complexity cannot be compared."
        return Measurement("", value, UNIT, "up", "inconclusive", text, 0.0, detail=detail)
    status: Status = "pass" if (value if low is None else low) > 0 else "fail" if (value if high is None else high) <= 0 else "inconclusive"
    text = {
        "pass": f"Without what was learned the map is more complex ({value:+.0%}).",
        "fail": f"Without what was learned the map is no more complex ({value:+.0%}).",
        "inconclusive": f"Whether the map is more complex without what was learned is open ({value:+.0%}; copies differ).",
    }[status]
    return Measurement("", value, UNIT, "up", status, text, 0.0, "the map's own complexity; the interval is over copies", low, high, detail)
