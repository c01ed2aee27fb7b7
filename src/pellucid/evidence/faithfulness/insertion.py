"""Insertion: does the score rise fastest where the map says?"""

from __future__ import annotations

from pellucid.baseline import Baseline, Starts
from pellucid.evidence.faithfulness.curves import Removal, Spacing, Telling, against_chance, area, collect, price
from pellucid.evidence.metric import NETWORK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count, Distance, Length

UNIT = "share of the score's range"


@metric(
    cite=Cite("Petsiuk, Das, Saenko", 2018, "RISE: randomized input sampling for explanation of black-box models", "BMVC", "1806.07421"),
    unit=UNIT,
    better="up",
    reference="0, the mean of random orders as smooth as the map",
    needs=NETWORK,
    price=lambda steps, patch, orders, ndim, **_: price(1, steps, orders, lattice=patch is None, ndim=ndim),
    random=True,
)
def insertion(
    panel: Panel,
    *,
    steps: Count = 10,
    spacing: Spacing = "doubling",
    patch: Length | None = None,
    orders: Count = 19,
    fill: Baseline | None = None,
) -> dict[str, Measurement]:
    """How much faster the score rises when patches are shown in the map's order than in random orders.

    ``(A of the map - mean over random orders of A) / range``, where ``A`` is the area (trapezoid) under the score from the fill to the whole
    image. The curve, its area (``own``) and those of the random orders are in the detail, in units of the score.

    Args:
        steps: states on the way; with doubling steps, ``steps / 5`` for each doubling.
        spacing: ``doubling``: from 1/32 of the patches to all, each doubling with the same weight; ``equal``: as in the paper.
        patch: edge of a patch, ``"1px"`` as in the paper; None: about 256 (512 in 3D), those without content are never exchanged.
        orders: random orders; with 19, a map that knows nothing passes in 5 % of the cases at most.
        fill: what the image begins from; None: the blurred copy of the image, as in the paper.

    **Misleads when**: the blurred copy already shows the finding, or a few patches in emptiness are read as something else.
    **Source**: Petsiuk et al. 2018, causal metrics (there pixels, equal steps, and the area alone).
    """
    assert patch is None or isinstance(patch, Distance)
    assert fill is None or isinstance(fill, Starts)
    removal = Removal.equal(panel, patch, fill, steps, spacing)
    telling = Telling(
        "insertion", UNIT, lambda _, c: area(c[0]), "Showing only what the map marks raises the score", True, ("faster", "no faster")
    )
    return against_chance(removal, collect(removal, ["shown"], orders), telling, ["shown"])
