"""Max-sensitivity: how far can a little noise move the map?"""

from __future__ import annotations

import math

from pellucid.baseline import in_words
from pellucid.evidence.metric import MAPS_ANEW, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.robustness.ball import Of, ball
from pellucid.evidence.robustness.changes import AGAINST, foreign, judged, unrelated
from pellucid.explanation import Measurement
from pellucid.intervals import average
from pellucid.method import Cite
from pellucid.params import Count, Positive

NAME, UNIT = "max_sensitivity", "share of the map"


@metric(
    cite=Cite("Yeh, Hsieh, Suggala, Inouye, Ravikumar", 2019, "On the (in)fidelity and sensitivity of explanations", "NeurIPS", "1901.09392"),
    unit=UNIT,
    better="down",
    reference=AGAINST,
    needs=MAPS_ANEW,
    price=lambda samples, **_: Price(anew=samples),
    random=True,
)  # fmt: skip
def max_sensitivity(panel: Panel, *, radius: Positive = 0.02, of: Of = "range", samples: Count = 10) -> dict[str, Measurement]:
    """How far the map moves at most when the image is given a little noise, as a share of the map.

    ``max_e |a(x + e) - a(x)|_2 / |a(x)|_2`` over draws e, uniform in an L-inf ball (c, *space), maps summed over channels (*space). The
    detail holds the mean over draws (``average``, Bhatt et al. 2020) with its interval, and the mean rank correlation.

    Args:
        radius: of the ball; 0.02 of the range is noise that nobody sees.
        of: ``range``: a share of the value range; ``absolute``: in the image's own values.
        samples: draws, the same for all maps. The highest of more draws is higher: compare equal numbers only.

    **Misleads when**: a map that ignores image and network is steadiest of all; the network's own answer jumps.
    **Source**: Yeh et al. 2019, definition 2, divided by the map's norm as Captum does; the mean: Bhatt et al. 2020, definition 2.
    """
    found, seen = ball(panel, radius, of, samples), {}
    for name in panel.names:
        if name not in found.paths:
            seen[name] = foreign(NAME, UNIT, "down")
            continue
        path, level = found.paths[name], unrelated(panel.relevance(name))
        mean = average(path.relative)
        worst = max(path.relative) if not any(map(math.isnan, path.relative)) else math.nan
        text = f"Noise of {in_words(found.reach)} moves the map by {mean.value:.0%} on average and {worst:.0%} at most (an unrelated map: {level:.0%})."
        alike = [r for r in path.alike if not math.isnan(r)]
        detail = {
            "average": mean.value, "average_low": mean.low, "average_high": mean.high, "radius": found.reach, "draws": path.relative,
            "rank_correlation": sum(alike) / len(alike) if alike else math.nan,
        }  # fmt: skip
        seen[name] = judged(NAME, UNIT, worst, level, text, detail)
    return seen
