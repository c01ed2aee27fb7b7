"""Pixel flipping: the score while single samples are exchanged, most relevant first."""

from __future__ import annotations

from pellucid.baseline import Baseline, Starts
from pellucid.evidence.faithfulness.curves import Removal, Spacing, Telling, against_chance, area, collect, price
from pellucid.evidence.metric import NETWORK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count, Distance


@metric(
    cite=Cite("Bach, Binder, Montavon, Klauschen, Muller, Samek", 2015, "On pixel-wise explanations for non-linear classifier decisions", "PLOS ONE"),
    unit="score",
    better="up",
    reference="0, the mean of random orders as smooth as the map",
    needs=NETWORK,
    price=lambda steps, orders, ndim, **_: price(1, steps, orders, lattice=False, ndim=ndim),
    random=True,
)  # fmt: skip
def pixel_flipping(
    panel: Panel, *, steps: Count = 10, spacing: Spacing = "doubling", orders: Count = 19, fill: Baseline | None = None
) -> dict[str, Measurement]:
    """How much further the score falls, on average, when single samples are exchanged in the map's order than in random orders.

    ``mean over random orders of A - A of the map``, where ``A`` is the area (trapezoid) under ``f(x_k)``, k samples exchanged. All channels of
    a sample go together: what several channels tie for is no order. Equal relevance goes in random order, the same for all maps.

    Args:
        steps: states on the way; with doubling steps, ``steps / 5`` for each doubling.
        spacing: ``doubling``: from 1/32 of the samples to all, each doubling with the same weight; ``equal``: equally many at each step.
        orders: random orders; with 19, a map that knows nothing passes in 5 % of the cases at most.
        fill: what a sample is exchanged for; None: the blurred copy's, which takes away detail alone: ``"black"`` takes away more.

    **Misleads when**: scattered samples are noise to the network: a rough map wins by the damage that it does, not by what it knows; the
        random orders are therefore as smooth as the map.
    **Source**: Bach et al. 2015, pixel flipping on digits (there values turned to their opposite, and the curve alone).
    """
    assert fill is None or isinstance(fill, Starts)
    removal = Removal.equal(panel, Distance(1.0, "px"), fill, steps, spacing)
    telling = Telling("pixel_flipping", "score", lambda _, c: -area(c[0]), "Exchanging the samples that the map marks lowers the score")
    return against_chance(removal, collect(removal, ["removed"], orders), telling, ["removed"])
