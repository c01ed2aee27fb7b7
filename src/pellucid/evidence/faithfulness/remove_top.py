"""Remove-top: the drop of the score when the map's top samples lose their values."""

from __future__ import annotations

import math
from functools import reduce

from pellucid.baseline import Baseline, Starts
from pellucid.baseline import random as noise
from pellucid.evidence.faithfulness.curves import Collected, Curves, Removal, Telling, against_chance, collect, price
from pellucid.evidence.metric import NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.evidence.patches import Patches
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count, Distance, Fraction


def _price(draws: int, orders: int, fill: Starts | None, ndim: int) -> Price:
    n = draws if fill is None else fill.count
    one = price(1, 1, orders, lattice=False, ndim=ndim)
    return Price(shared=1 + n * (one.shared - 1), each=n * one.each, at_most=True)


@metric(
    cite=Cite("Samek, Binder, Montavon, Lapuschkin, Muller", 2017, "Evaluating the visualization of what a deep neural network has learned",
              "IEEE TNNLS", "1509.06321"),
    unit="score",
    better="up",
    reference="0, the mean of as many random samples as smooth as the map",
    needs=NETWORK,
    price=lambda draws, orders, fill, ndim, **_: _price(draws, orders, fill, ndim),
    random=True,
)  # fmt: skip
def remove_top(
    panel: Panel, *, share: Fraction = 0.05, draws: Count = 2, orders: Count = 19, fill: Baseline | None = None
) -> dict[str, Measurement]:
    """How much further the score drops without the map's top samples than without as many random ones.

    ``d - mean over random orders of d``, where ``d = s(x) - mean over fills of s(x with its top samples from the fill)``; all channels of a
    sample go together, equal relevance goes in random order.

    Args:
        share: of all samples: the most relevant 5 %.
        draws: images of uniform noise between the lowest and the highest value, the same ones for every map; not used with a ``fill``.
        orders: random orders; with 19, a map that knows nothing passes in 5 % of the cases at most.
        fill: what the samples become instead of noise, e.g. ``"black"``.

    **Misleads when**: noise is a finding to the network (microcalcifications, granular lesions), or the finding is smaller than the share.
    **Source**: Samek et al. 2017 in the form of Ghosh, Jain and TLD, "Visualizing deep learning networks, part I" (Qure.ai, 2017):
        select the top k pixels, vary their intensities at random, measure the drop.
    """
    assert fill is None or isinstance(fill, Starts)
    patches = Patches.cut(panel.grid, Distance(1.0, "px"))
    n = len(patches.live)
    step = (min(n - 1, max(1, round(share * n))),)
    fills = (noise(draws) if fill is None else fill).starts(panel.setting)
    removals = [Removal.of(panel, patches, f, step) for f in fills]
    found = reduce(Collected.with_more, (collect(r, ["removed"], orders) for r in removals))
    telling = Telling("remove_top", "score", lambda _, c: _drop(c), f"Without the top {share:.0%} of the map the score drops")
    return against_chance(removals[0], found, telling, [f"of fill {i}" for i in range(len(fills))])


def _drop(curves: Curves) -> float:
    return math.fsum(whole - top for whole, top, _ in curves) / len(curves)
