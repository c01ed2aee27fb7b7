"""SIC: how soon the score comes back while the image is revealed in the map's order."""

from __future__ import annotations

from pellucid.evidence.faithfulness.reveal import SHARES, UNIT, measured
from pellucid.evidence.metric import NETWORK, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count, Fraction


@metric(
    cite=Cite("Kapishnikov, Bolukbasi, Viegas, Terry", 2019, "XRAI: better attributions through regions", "ICCV", "1906.02825"),
    unit=UNIT,
    better="up",
    reference="the best of a few random orders",
    needs=NETWORK,
    price=lambda randoms, **_: Price(shared=2 + randoms * len(SHARES), each=len(SHARES), at_most=True),
    space={2},
    random=True,
)
def sic(panel: Panel, *, seeds: Fraction = 0.01, randoms: Count = 3) -> dict[str, Measurement]:
    """How soon the score comes back while the image is revealed in the map's order: 1 is at once, 0 only with the whole image.

    The area under performance against information. The image starts as a sparse one, a random hundredth of its samples with the rest
    interpolated linearly; then the top 0.5 %, 1 %, ... 75 % of the map (*space) are shown as they are. Information is the size of the
    revealed image as a lossless file, performance the score, both scaled so that the sparse image has 0 and the whole one 1; performance
    never falls. The published softmax information curve follows a probability: grade with ``score=probability(k)``. The curve is in the
    detail, for the median over images. Images of 2 dimensions only: no file format is an agreed estimate for volumes.

    Args:
        seeds: share of the samples that is shown from the start.
        randoms: random orders that the map is held against; random ones were seen to beat methods.

    **Misleads when**: one small part is enough for the score (any order soon shows a piece of it), or texture makes parts costly to show
    that cost nothing to see.
    **Source**: Kapishnikov et al. 2019, section 4.1, and the authors' code; the area is exact instead of read at a thousand points, and
    the image that the network gets is not rounded to 256 levels.
    """
    return measured(panel, "sic", panel, seeds, randoms, panel.score, "")
