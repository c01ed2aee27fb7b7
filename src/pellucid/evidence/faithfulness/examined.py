"""Curves as examine() asks for them: is the map's order ahead of chance, of its own negative, of its mirrored copies, and of the image's edges?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations

from torch import Tensor

from pellucid.evidence.case import Case
from pellucid.evidence.faithfulness.curves import CHANCE, DOUBLINGS, EVEN, Removal, area, judged, spread_of_mean, steps_of
from pellucid.evidence.patches import Patches
from pellucid.explanation import Measurement, Status
from pellucid.ops.edges import sobel
from pellucid.ops.similarity import spearman

NAME = "deletion"
NAMES = ("deletion", "insertion", "beyond_chance", "beyond_edges")
UNIT = "share of the score's range"
WORSE = -0.25  # of the score's range: an edge detector, or a mirrored copy, does clearly better
COPY = 0.8  # rank correlation from which on one map counts as the other


@dataclass(frozen=True)
class Areas:
    """Areas under deletion and insertion curves, the score scaled so that 0 and 1 are the lowest and highest met."""

    deletion: dict[str, float]
    insertion: dict[str, float]
    points: dict[str, list[float]]
    low: float
    high: float

    def told(self, name: str) -> float:
        """What an order tells of the score in both curves together."""
        return self.insertion[name] - self.deletion[name]


def curves_of(case: Case, relevance: Tensor, neutral: Tensor) -> list[Measurement]:
    """What the map's order tells of the score by deletion, by insertion, and by both together beyond chance and beyond the image's edges.

    ``relevance`` (*space) on the image's grid. Patches of equal area go in the order of the map, highest first, in numbers that double
    from 1/32 of the image on, since what a map is read for is its top, and an image that has lost half of itself is no image any more;
    each doubling has the same weight in the area. A patch is removed by exchanging it for the neutral image's. Patches without content
    are left out for every order alike. All orders are asked in one stream.
    Sources: Petsiuk, Das, Saenko 2018; Samek et al. 2017.
    """
    patches = Patches.of(case.why.image.grid, case.x.cpu(), neutral.cpu(), case.panel.setting.unit)
    if len(patches.live) < 8:
        text = "The image has hardly any content to take away, so deletion says nothing."
        return [Measurement(n, math.nan, UNIT, "up", "inconclusive", text) for n in NAMES]
    removal = Removal.of(case.panel, patches, neutral, steps_of(len(patches.live), DOUBLINGS * case.effort.points, "doubling"))
    chance, smooth = case.chance(2), patches.smoothness(relevance)
    field = patches.mean(relevance).view(patches.shape)
    own = patches.order(relevance, chance)
    orders = {"map": own, "negative": own.flip(0), "edges": patches.order(sobel(case.model.comparable(case.x)), chance)}
    copies = {f"copy {i}": copy.flatten() for i, copy in enumerate(_turned(field))}
    orders |= {name: patches.ranked(copy, chance) for name, copy in copies.items()}
    alike = {name: spearman(field.flatten()[patches.live], copy[patches.live]) for name, copy in copies.items()}
    random = [f"random {i}" for i in range(case.effort.orders)]
    orders |= {r: patches.random_order(smooth, chance) for r in random}
    curves = _areas(case, removal, orders)
    if curves.high - curves.low <= 1e-6 * (abs(curves.high) + abs(curves.low)):
        text = "Whatever is taken out of the image, the score stays: the network does not look at it."
        return [Measurement(n, 0.0, UNIT, "up", "void", text) for n in NAMES]
    detail = {
        "patches": list(patches.shape), "patches_with_content": len(patches.live), "neutral": "blurred copy",
        "shares": [round(k / len(patches.live), 4) for k in removal.steps],
        "smoothness": round(smooth, 3), "range": [curves.low, curves.high], "passes": case.passes[NAME],
    }  # fmt: skip
    found = [_against_random(curves, which, random, detail) for which in ("deletion", "insertion")]
    others = [name for name in copies if alike[name] < COPY]  # a copy that is the same map is no rival
    return [*found, _beyond_chance(curves, random, others), _beyond_edges(case, patches, relevance, curves)]


def _turned(field: Tensor) -> Iterator[Tensor]:
    """Every mirrored copy of a map of patches; in 2D, where the patches form a square, the transposed and turned ones too."""
    square = field.ndim == 2 and field.shape[0] == field.shape[1]
    for k in range(field.ndim + 1):
        for axes in combinations(range(field.ndim), k):
            mirrored = field.flip(axes)
            if axes:
                yield mirrored
            if square:
                yield mirrored.transpose(0, 1)


def _against_random(curves: Areas, which: str, random: list[str], detail: dict[str, object]) -> Measurement:
    """One curve of the map against random orders as smooth as it is."""
    sign, areas = (-1, curves.deletion) if which == "deletion" else (1, curves.insertion)
    drawn = [sign * areas[r] for r in random]
    gain, ahead = sign * areas["map"] - sum(drawn) / len(drawn), sum(d < sign * areas["map"] for d in drawn)
    word = "Taking away what the map marks lowers" if sign < 0 else "Showing only what the map marks raises"
    faster = "faster" if gain > EVEN else "no faster"
    text = f"{word} the score {faster} than random orders: {gain:+.0%} of its range, ahead of {ahead} of {len(drawn)}."
    more = {
        "area": areas["map"], "p": (1 + len(drawn) - ahead) / (1 + len(drawn)), "random": [areas[r] for r in random],
        "curve": curves.points[f"{which} map"], **detail,
    }  # fmt: skip
    against = f"the mean of {len(drawn)} random orders as smooth as the map; the interval is that of the mean over such orders"
    reach = spread_of_mean(drawn)
    return Measurement(which, gain, UNIT, "up", judged(gain, ahead, len(drawn), EVEN), text, 0.0, against, gain - reach, gain + reach, more)


def _beyond_chance(curves: Areas, random: list[str], copies: list[str]) -> Measurement:
    """Both curves together, in one test, against random orders, the map's own negative, and its mirrored and turned copies.

    A map that knows nothing of the score is as likely as each of the k random orders to tell the most of it: it is ahead of all with
    probability 1 / (k + 1). Being ahead of its negative and of its copies too is asked on top, so that of a map, its negative and its
    copies one at most can pass.
    """
    own, drawn = curves.told("map"), [curves.told(r) for r in random]
    gain, ahead = own - sum(drawn) / len(drawn), sum(d < own for d in drawn)
    sign = own - curves.told("negative")
    place = own - max((curves.told(c) for c in copies), default=-math.inf)
    status = judged(gain, ahead, len(drawn), EVEN)
    told = f"by deletion and insertion together {gain:+.0%} of the score's range, ahead of {ahead} of {len(drawn)} random orders"
    if gain <= EVEN:
        text = f"The map tells no more of the score than random orders do: {told}."
    elif sign <= EVEN:
        status = "fail" if sign <= -EVEN or place <= WORSE else "inconclusive"
        text = f"The map's own negative tells {'more of the score than' if sign <= -EVEN else 'as much of the score as'} the map does."
    elif place <= -EVEN:
        status = "fail" if place <= WORSE else "inconclusive"
        text = f"A mirrored or turned copy of the map tells {-place:.0%} of the score's range more than the map does: it may lie in the wrong place."
    elif status == "pass":
        text = f"The map tells more of the score than random orders, its own negative and its mirrored copies do: {told}."
    else:
        text = f"Not shown that the map tells more of the score than chance does: {told}."
    detail = {
        "p": (1 + len(drawn) - ahead) / (1 + len(drawn)), "over_negative": sign, "over_copies": place if copies else None,
        "copies": len(copies), "random": drawn,
    }  # fmt: skip
    against = f"the mean of {len(drawn)} random orders as smooth as the map; to pass p <= {CHANCE}, ahead of its negative and {len(copies)} copies"
    reach = spread_of_mean(drawn)
    return Measurement("beyond_chance", gain, UNIT, "up", status, text, 0.0, against, gain - reach, gain + reach, detail)


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
    gain = curves.told("map") - curves.told("edges")
    alike = spearman(patches.mean(relevance)[patches.live], patches.mean(sobel(case.model.comparable(case.x)))[patches.live])
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
