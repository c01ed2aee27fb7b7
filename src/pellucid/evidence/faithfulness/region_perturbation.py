"""Region perturbation: the area over the curve (AOPC) when patches are exchanged, most relevant first, and least relevant first."""

from __future__ import annotations

from typing import Literal

from pellucid.baseline import Baseline, Starts
from pellucid.evidence.faithfulness.curves import Curves, Kind, Removal, Spacing, Telling, against_chance, collect, price
from pellucid.evidence.metric import NETWORK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count, Distance, Length


@metric(
    cite=Cite("Samek, Binder, Montavon, Lapuschkin, Muller", 2017, "Evaluating the visualization of what a deep neural network has learned",
              "IEEE TNNLS", "1509.06321"),
    unit="score",
    better="up",
    reference="0, the mean of random orders as smooth as the map",
    needs=NETWORK,
    price=lambda steps, patch, orders, less, ndim, **_: price(1 if less == "random" else 2, steps, orders, lattice=patch is None, ndim=ndim),
    random=True,
)  # fmt: skip
def region_perturbation(
    panel: Panel, *, steps: Count = 10, spacing: Spacing = "doubling", patch: Length | None = None, less: Literal["random", "least"] = "random",
    orders: Count = 19, fill: Baseline | None = None,
) -> dict[str, Measurement]:  # fmt: skip
    """How much further the score falls, on average, when patches go in the map's order: AOPC less that of random orders.

    ``AOPC = 1 / (L + 1) sum_{k=0..L} f(x) - f(x_k)``, k steps exchanged, the last one everything. With ``less="least"`` the number of an order is
    AOPC from its first patch on less AOPC from its last patch on, for the map and for random orders alike.

    Args:
        steps: states on the way; with doubling steps, ``steps / 5`` for each doubling.
        spacing: ``doubling``: from 1/32 of the patches to all; ``equal``: as in the paper. Equal steps share their states with insertion.
        patch: edge of a square or cube, in mm on scans; None: about 256 (512 in 3D), those without content are never taken away.
        less: ``random``: the map's order alone; ``least``: less the order from the least relevant on (the paper's ABPC).
        orders: random orders; with 19, a map that knows nothing passes in 5 % of the cases at most.
        fill: what stands in the place of a patch; None: the blurred copy of the image.

    **Misleads when**: the fill is a finding itself, or patches are so large that every order takes away the same.
    **Source**: Samek et al. 2017, AOPC and ABPC (there patches of 9 px filled with uniform noise, the first 100 of them).
    """
    assert patch is None or isinstance(patch, Distance)
    assert fill is None or isinstance(fill, Starts)
    removal = Removal.equal(panel, patch, fill, steps, spacing)
    kinds: list[Kind] = ["removed"] if less == "random" else ["removed", "reversed"]
    telling = Telling("region_perturbation", "score", lambda _, c: _over(c), "Exchanging what the map marks first lowers the score")
    return against_chance(removal, collect(removal, kinds, orders), telling, kinds)


def _over(curves: Curves) -> float:
    first, *last = (c[0] - sum(c) / len(c) for c in curves)
    return first - sum(last)
