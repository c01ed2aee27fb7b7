"""Curves as examine() asks for them: does the score fall fastest where the map says, and rise fastest there, against chance and against edges?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from torch import Tensor

from pellucid.evidence.case import Case
from pellucid.evidence.faithfulness.curves import DOUBLINGS, EVEN, Removal, area, steps_of
from pellucid.evidence.patches import Patches
from pellucid.explanation import Measurement, Status
from pellucid.ops.edges import sobel
from pellucid.ops.similarity import spearman

NAME = "deletion"
UNIT = "share of the score's range"
# two-sided 95 % points of Student's t by degrees of freedom
T95 = {5: 2.571, 15: 2.131, 31: 2.040}
MOST = 0.8  # of the random orders that the map's must beat: their mean alone is beaten by chance too often
WORSE = -0.25  # of the score's range: an edge detector does clearly better
COPY = 0.8  # rank correlation with the edges from which on a map counts as their copy


@dataclass(frozen=True)
class Areas:
    """Areas under deletion and insertion curves, the score scaled so that 0 and 1 are the lowest and highest met."""

    deletion: dict[str, float]
    insertion: dict[str, float]
    points: dict[str, list[float]]
    low: float
    high: float


def curves_of(case: Case, relevance: Tensor, neutral: Tensor) -> list[Measurement]:
    """Deletion and insertion gain over random orders as smooth as the map, and the gain of both over the order of the image's edges.

    ``relevance`` (*space) on the image's grid. Patches of equal area go in the order of the map, highest first, in numbers that double
    from 1/32 of the image on, since what a map is read for is its top, and an image that has lost half of itself is no image any more;
    each doubling has the same weight in the area. A patch is removed by exchanging it for the neutral image's. Patches without content
    are left out for every order alike.
    Sources: Petsiuk, Das, Saenko 2018; Samek et al. 2017.
    """
    patches = Patches.of(case.why.image.grid, case.x.cpu(), neutral.cpu())
    if len(patches.live) < 8:
        text = "The image has hardly any content to take away, so deletion says nothing."
        return [Measurement(n, math.nan, UNIT, "up", "inconclusive", text) for n in ("deletion", "insertion", "beyond_edges")]
    removal = Removal.of(case.panel, patches, neutral, steps_of(len(patches.live), DOUBLINGS * case.effort.points, "doubling"))
    chance, smooth = case.chance(2), patches.smoothness(relevance)
    orders = {"map": patches.order(relevance, chance), "edges": patches.order(sobel(case.x), chance)}
    random = [f"random {i}" for i in range(case.effort.orders)]
    orders |= {r: patches.random_order(smooth, chance) for r in random}
    curves = _areas(case, removal, orders)
    if curves.high - curves.low <= 1e-6 * (abs(curves.high) + abs(curves.low)):
        text = "Whatever is taken out of the image, the score stays: the network does not look at it."
        return [Measurement(n, 0.0, UNIT, "up", "void", text) for n in ("deletion", "insertion", "beyond_edges")]
    detail = {
        "patches": list(patches.shape), "patches_with_content": len(patches.live), "neutral": "blurred copy",
        "shares": [round(k / len(patches.live), 4) for k in removal.steps],
        "smoothness": round(smooth, 3), "range": [curves.low, curves.high], "passes": case.passes[NAME],
    }  # fmt: skip
    found = []
    for which, areas, sign in (("deletion", curves.deletion, -1), ("insertion", curves.insertion, 1)):
        drawn = [sign * areas[r] for r in random]
        mean = sum(drawn) / len(drawn)
        spread = math.sqrt(sum((d - mean) ** 2 for d in drawn) / (len(drawn) - 1))
        reach = T95[len(drawn) - 1] * spread / math.sqrt(len(drawn))
        gain = sign * areas["map"] - mean
        beaten = sum(d < sign * areas["map"] for d in drawn) / len(drawn)
        status: Status = "pass" if gain > reach and beaten >= MOST else "fail" if gain <= EVEN else "inconclusive"
        word = "Taking away what the map marks lowers" if sign < 0 else "Showing only what the map marks raises"
        text = f"{word} the score {'faster' if gain > 0 else 'no faster'} than random orders: {gain:+.0%} of its range, ahead of {beaten:.0%} of them."
        more = {
            "area": areas["map"],
            "beaten": beaten,
            "random": [areas[r] for r in random],
            "curve": curves.points[f"{which} map"],
            **detail,
        }
        against = f"the mean of {len(drawn)} random orders as smooth as the map; the interval is that of the mean over such orders"
        found.append(Measurement(which, gain, UNIT, "up", status, text, 0.0, against, gain - reach, gain + reach, more))
    return [*found, _beyond_edges(case, patches, relevance, curves)]


def _areas(case: Case, removal: Removal, orders: dict[str, Tensor]) -> Areas:
    """All states of all orders in one stream; whole and empty image are asked once."""
    live = removal.patches.live

    def gone() -> Iterator[Tensor]:
        for order in orders.values():
            yield from chain(removal.along(order, "removed"), removal.along(order, "shown"))

    spent = case.panel.spent
    before = spent.get("forward", 0) + spent.get("setup", 0)
    scores = removal.asked(chain([live[:0], live], gone()))
    case.passes[NAME] = case.passes.get(NAME, 0) + spent.get("forward", 0) + spent.get("setup", 0) - before
    low, high = min(scores), max(scores)
    whole, empty, *rest = [(s - low) / (high - low) if high > low else 0.0 for s in scores]
    kinds = [(kind, name) for name in orders for kind in ("deletion", "insertion")]
    found: dict[str, dict[str, float]] = {"deletion": {}, "insertion": {}}
    curves: dict[str, list[float]] = {}
    each = len(removal.steps)
    for i, (kind, name) in enumerate(kinds):
        inner = rest[i * each : (i + 1) * each]
        curve = [whole, *inner, empty] if kind == "deletion" else [empty, *inner, whole]
        found[kind][name], curves[f"{kind} {name}"] = area(curve), curve
    return Areas(found["deletion"], found["insertion"], curves, low, high)


def _beyond_edges(case: Case, patches: Patches, relevance: Tensor, curves: Areas) -> Measurement:
    """Deletion and insertion together against the order of the image's edges."""
    gain = curves.deletion["edges"] - curves.deletion["map"] + curves.insertion["map"] - curves.insertion["edges"]
    alike = spearman(patches.mean(relevance)[patches.live], patches.mean(sobel(case.x))[patches.live])
    copied = alike >= COPY and gain <= EVEN
    status: Status = "pass" if gain > EVEN else "fail" if copied or gain <= WORSE else "inconclusive"
    text = f"The map tells {abs(gain):.0%} of the score's range {'more' if gain > 0 else 'less'} than the image's edges do."
    if status == "inconclusive":
        text = "The image's edges tell as much about the score as the map does: in this image, what the network uses has strong edges."
    elif copied:
        text = "The map is hardly more than the image's edges."
    detail = {"deletion_edges": curves.deletion["edges"], "insertion_edges": curves.insertion["edges"], "likeness": alike}
    against = "the order of the image's edges, deletion and insertion together"
    return Measurement("beyond_edges", gain, UNIT, "up", status, text, 0.0, against, detail=detail)
