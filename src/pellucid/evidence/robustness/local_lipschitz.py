"""Local Lipschitz estimate: how much faster than the image does the map move?"""

from __future__ import annotations

import math

from pellucid.evidence.metric import MAPS_ANEW, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.robustness.ball import Of, ball
from pellucid.evidence.robustness.changes import AGAINST, foreign, judged, unrelated
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count, Positive

NAME, UNIT = "local_lipschitz", "relevance per unit of the image"


@metric(
    cite=Cite("Alvarez-Melis, Jaakkola", 2018, "On the robustness of interpretability methods", "arXiv", "1806.08049"),
    unit=UNIT,
    better="down",
    reference=AGAINST,
    needs=MAPS_ANEW,
    price=lambda samples, **_: Price(anew=samples),
    random=True,
)
def local_lipschitz(panel: Panel, *, radius: Positive = 0.02, of: Of = "range", samples: Count = 10) -> dict[str, Measurement]:
    """The steepest rise of the map around the image: its change over the image's change.

    ``max_e |a(x + e) - a(x)|_2 / |e|_2`` over draws e, uniform in an L-inf ball (c, *space); maps summed over channels (*space). ``relative`` in
    the detail divides both by what they are of: ``(|da| / |a|) / (|e| / |x|)``, which does not depend on units.

    Args:
        radius: of the ball; the largest slope is looked for inside.
        of: ``range``: a share of the value range; ``absolute``: in the image's own values.
        samples: draws, the same for all maps and the same as those of ``max_sensitivity``.

    **Misleads when**: maps of different units are compared by it: a map times 2 has twice the value (compare ``relative``); few draws
        find a slope far below the steepest.
    **Source**: Alvarez-Melis and Jaakkola 2018, equation 2, by draws instead of an optimizer. Held against the slope that an unrelated map
        would have at the same draw.
    """
    found, seen = ball(panel, radius, of, samples), {}
    for name in panel.names:
        if name not in found.paths:
            seen[name] = foreign(NAME, UNIT, "down")
            continue
        own, path = panel.relevance(name), found.paths[name]
        slopes = [d / n for d, n in zip(path.distance, found.norms, strict=True)]
        worst = max(slopes) if not any(map(math.isnan, slopes)) else math.nan
        size = float(own.norm())
        level = unrelated(own) * size / found.norms[slopes.index(worst)] if worst == worst else math.nan
        relative = worst * float(panel.x.double().norm()) / size if size > 0 else math.nan
        text = f"The map moves up to {worst:.3g} for each unit that the image moves (an unrelated map: {level:.3g})."
        seen[name] = judged(NAME, UNIT, worst, level, text, {"relative": relative, "slopes": slopes, "radius": found.reach})
    return seen
