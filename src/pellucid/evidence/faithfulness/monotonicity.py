"""Monotonicity: does the score rise with every further piece that speaks for it?"""

from __future__ import annotations

import math
from itertools import pairwise

from pellucid.baseline import Baseline, Starts
from pellucid.evidence.faithfulness.curves import STILL, Curves, Removal, Spacing, Telling, against_chance, collect, price
from pellucid.evidence.metric import NETWORK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count, Distance, Length

UNIT = "share of the steps"


@metric(
    cite=Cite("Luss, Chen, Dhurandhar, Sattigeri, Zhang, Shanmugam, Tu", 2021, "Leveraging latent features for local explanations", "KDD", "1905.12698"),
    unit=UNIT,
    better="up",
    reference="0, the mean of random orders as smooth as the map",
    needs=NETWORK,
    price=lambda steps, patch, orders, ndim, **_: price(1, steps, orders, lattice=patch is None, ndim=ndim),
    random=True,
)  # fmt: skip
def monotonicity(
    panel: Panel,
    *,
    steps: Count = 10,
    spacing: Spacing = "doubling",
    patch: Length | None = None,
    orders: Count = 19,
    fill: Baseline | None = None,
) -> dict[str, Measurement]:
    """In how many more steps the score rises than in random orders, when the patches that speak for it come back, least relevant first.

    ``m - mean over random orders of m``, where ``m`` is the share of steps in which the score rises, from the image without the patches of
    positive mean relevance to the whole one. The states are those of ``deletion``: asked with the same options, this costs nothing.

    Args:
        steps: states on the way; with doubling steps, ``steps / 5`` for each doubling.
        spacing: ``doubling``: from 1/32 of the patches to all; ``equal``: equally many in each step.
        patch: edge of a patch; None: about 256 (512 in 3D), those without content are never taken away.
        orders: random orders, over as many steps as the map's.
        fill: what stands in the place of a patch; None: the blurred copy of the image.

    **Misleads when**: the score saturates: with half of the evidence shown, the rest changes nothing in either direction; few steps.
    **Source**: Luss et al. 2021 (there a single yes or no over all features, from the lowest on; patches that speak against the score come
        first there and lower it, which is no fault of a map with signs, so that they are left out here).
    """
    assert patch is None or isinstance(patch, Distance)
    assert fill is None or isinstance(fill, Starts)
    removal = Removal.equal(panel, patch, fill, steps, spacing)
    live, patches = removal.patches.live, removal.patches
    at = [0, *removal.steps, len(live)]
    ends = {}
    for name in panel.names:
        positive = int((patches.mean(panel.relevance(name))[live] > 0).sum())
        ends[name] = sum(k <= positive for k in at)
    says = "As the patches that the map marks come back, the score rises"
    telling = Telling(
        "monotonicity", UNIT, lambda name, c: _rises(c, ends[name]), says, verb=("in more steps", "in no more steps"), most=1.0, bounds=1.0
    )
    return against_chance(removal, collect(removal, ["removed"], orders), telling, ["removed"])


def _rises(curves: Curves, points: int) -> float:
    """Share of the first steps of a falling curve in which more shown is a higher score; NaN for fewer than two steps."""
    curve = curves[0][:points]
    if len(curve) < 3:
        return math.nan
    even = STILL * max(map(abs, curve))
    return sum(a - b > even for a, b in pairwise(curve)) / (len(curve) - 1)
