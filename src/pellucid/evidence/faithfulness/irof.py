"""IROF: the area over the curve when superpixels are removed, most relevant first."""

from __future__ import annotations

import math

from pellucid.baseline import Baseline, Starts
from pellucid.evidence.faithfulness.curves import Curves, Removal, Telling, against_chance, collect, price, steps_of
from pellucid.evidence.metric import NETWORK, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.patches import Patches
from pellucid.explanation import Measurement
from pellucid.features.segments import Cuts, Segments
from pellucid.method import Cite
from pellucid.params import Count

UNIT = "share of the score"


@metric(
    cite=Cite("Rieger, Hansen", 2020, "IROF: a low resource evaluation metric for explanation methods", "ICLR workshop", "2003.08747"),
    unit=UNIT,
    better="up",
    reference="0, the mean of random orders as smooth as the map",
    needs=NETWORK,
    price=lambda steps, orders, ndim, **_: price(1, steps, orders, lattice=True, ndim=ndim),
    random=True,
)
def irof(
    panel: Panel, *, segments: Segments = "slic(100)", steps: Count = 10, orders: Count = 19, fill: Baseline | None = None
) -> dict[str, Measurement]:
    """How much more of the score is lost, on average, when superpixels go in the map's order than in random orders.

    ``AOC of the map - mean over random orders of AOC``, with ``AOC = 1 / L sum_{l=1..L} (1 - f(x_l) / f(x))``, l steps removed, the last one
    everything; the pieces are superpixels (2D) or supervoxels (3D), which follow the image, in the order of their mean relevance.

    Args:
        segments: the cut of the image, see ``features.segments``: about 100 pieces, as wide as long in the patient.
        steps: equal steps; as many as there are pieces, or more, take them one by one as in the paper.
        orders: random orders of the pieces; with 19, a map that knows nothing passes in 5 % of the cases at most.
        fill: what stands in the place of a piece; None: the mean of each channel, as in the paper.

    **Misleads when**: the score is no share of anything: a logit of 0.1 that falls to -5 has lost 51 times itself. Follow a probability
        (``score=pl.probability(k)``); where the score of the image is not above 0, the number is void.
    **Source**: Rieger and Hansen 2020, area over the curve (there the mean of many images).
    """
    assert isinstance(segments, Cuts)
    assert fill is None or isinstance(fill, Starts)
    if panel.score <= 0:
        text = f"The score of the image is {panel.score:.3g}, so that there is no share of it to lose: follow a probability."
        return dict.fromkeys(panel.names, Measurement("irof", math.nan, UNIT, "up", "void", text))
    x = panel.x.cpu()
    patches = Patches.pieces(segments.one(panel.model.comparable(x), panel.grid, "irof"))
    neutral = panel.neutrals["mean of each channel"] if fill is None else panel.fill(fill)
    lattice = Patches.of(panel.grid, x, neutral.cpu(), panel.setting.unit)
    removal = Removal.of(panel, patches, neutral, steps_of(len(patches.live), steps, "equal"), lattice)
    telling = Telling("irof", UNIT, lambda _, c: _over(c), "Removing the pieces that the map marks takes from the score", bounds=1.0)
    return against_chance(removal, collect(removal, ["removed"], orders), telling, ["removed"])


def _over(curves: Curves) -> float:
    whole, *rest = curves[0]
    return sum(1 - s / whole for s in rest) / len(rest) if whole else math.nan
