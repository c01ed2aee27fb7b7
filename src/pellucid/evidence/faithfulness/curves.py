"""Curves: the score while pieces of the image are exchanged for a fill, in a map's order and in random ones; each state is asked once for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from typing import Literal

import numpy as np
from torch import Tensor

from pellucid.baseline import Starts
from pellucid.evidence.metric import Price
from pellucid.evidence.panel import Panel
from pellucid.evidence.patches import Patches
from pellucid.explanation import Measurement, Status
from pellucid.image import digest
from pellucid.params import Distance

Spacing = Literal["doubling", "equal"]
Kind = Literal["removed", "shown", "reversed"]  # pieces go from the order's first, are shown from its first, go from its last
DOUBLINGS = 5  # from 1/32 of the pieces to all of them
LEVELS = (0.0, 1.0, 3.0, 9.0, 27.0)  # widths, in pieces, of random orders: few, so that maps share them
EVEN = 0.02  # of the score's range: closer curves count as equal
CHANCE = 0.05  # a map that knows nothing passes at most this often
LEAST = 8  # pieces below which there is no order to speak of
STILL = 1e-6  # of the scores: a smaller spread is rounding
Shares = tuple[float, ...]


def steps_of(n: int, steps: int, spacing: Spacing) -> tuple[int, ...]:
    """How many of n pieces are gone at each point between none and all: doubling from 1/32 on, or equal and the same from both ends."""
    if spacing == "doubling":
        found = {max(1, round(n * 2 ** (-k * DOUBLINGS / steps))) for k in range(1, steps + 1)}
    else:
        half = {math.floor(n * k / steps + 0.5) for k in range(1, steps // 2 + 1)}
        found = half | {n - k for k in half if 2 * k != n + 1}
    return tuple(sorted(k for k in found if 0 < k < n))


@dataclass(frozen=True, eq=False)
class Removal:
    """Pieces of a panel's image that are exchanged for a fill (c, *space), up to ``steps``; random orders live on a ``lattice`` of equal patches."""

    panel: Panel
    patches: Patches
    fill: Tensor
    steps: tuple[int, ...]
    lattice: Patches
    mark: str

    @classmethod
    def of(cls, panel: Panel, patches: Patches, fill: Tensor, steps: tuple[int, ...], lattice: Patches | None = None) -> Removal:
        return cls(panel, patches, fill, steps, lattice or patches, digest(fill)[:16])

    @classmethod
    def equal(cls, panel: Panel, patch: Distance | None, fill: Starts | None, steps: int, spacing: Spacing) -> Removal:
        """Equal patches: of a given edge, or (None) about 256 (512 in 3D), where those without content are never removed."""
        neutral = panel.blurred if fill is None else panel.fill(fill)
        x = panel.x.cpu()
        patches = Patches.of(panel.grid, x, neutral.cpu(), panel.setting.unit) if patch is None else Patches.cut(panel.grid, patch)
        return cls.of(panel, patches, neutral, steps_of(len(patches.live), steps, spacing))

    @property
    def shares(self) -> list[float]:
        n = len(self.patches.live)
        return [0.0, *(round(k / n, 6) for k in self.steps), 1.0]

    def asked(self, gone: Iterable[Tensor]) -> list[float]:
        """The score without each of these sets of pieces; a state that any metric asked for before is known."""

        def states() -> Iterator[tuple[str, Callable[[], Tensor]]]:
            for pieces in gone:
                mask = self.patches.gone(pieces)
                mark = sha256(np.packbits(mask.numpy()).tobytes()).hexdigest()[:32]
                key = f"without {mark}, fill {self.mark}" if len(pieces) else "image"
                yield key, lambda at=mask: self._without(at)  # type: ignore[misc]

        return self.panel.each(states())

    def _without(self, mask: Tensor) -> Tensor:
        return self.fill.where(mask.to(self.panel.x.device), self.panel.x)

    def along(self, order: Tensor, kind: Kind) -> Iterator[Tensor]:
        """The pieces that are gone at each step of an order."""
        last = order.flip(0) if kind == "reversed" else order
        return (last[k:] if kind == "shown" else last[:k] for k in self.steps)

    def level(self, relevance: Tensor) -> float:
        """The nearest of the few widths of random orders to the smoothness of a map (*space)."""
        if self.lattice is not self.patches:
            relevance = self.patches.mean(relevance)[self.patches.index]
        most = math.prod(self.lattice.shape) ** (1 / len(self.lattice.shape)) / 4
        width = self.lattice.smoothness(relevance, most=LEVELS[-1])
        return min((v for v in LEVELS if v <= most), key=lambda v: abs(math.log((v + 0.2) / (width + 0.2))))

    def random_order(self, level: float, i: int) -> Tensor:
        """The i-th random order of a smoothness: the same one for every map and metric."""
        chance = self.panel.chance(f"random order {i} of {self.lattice.shape} patches, {level:g} smooth")
        if self.lattice is self.patches:
            return self.patches.random_order(level, chance)
        return self.patches.order(self.lattice.noise(level, chance)[self.lattice.index], chance)

    def order(self, relevance: Tensor) -> Tensor:
        """The pieces from the highest mean relevance to the lowest; ties in random order, the same for every map."""
        return self.patches.order(relevance, self.panel.chance("ties of a map"))


Curves = tuple[list[float], ...]  # one for each kind, scores from the whole image to the fill, or from the fill to the whole for "shown"


@dataclass(frozen=True)
class Collected:
    """Curves of all maps and of the random orders that each is held against. ``void`` says why a map has none."""

    own: dict[str, Curves]
    level: dict[str, float]
    drawn: dict[str, list[Curves]]
    void: dict[str, str]
    whole: float
    empty: float

    def with_more(self, other: Collected) -> Collected:
        """The curves of another fill beside these."""
        own = {n: c + other.own[n] for n, c in self.own.items()}
        drawn = {n: [a + b for a, b in zip(c, other.drawn[n], strict=True)] for n, c in self.drawn.items()}
        return replace(self, own=own, drawn=drawn)


def collect(removal: Removal, kinds: Sequence[Kind], orders: int) -> Collected:
    """All states of all maps and random orders in one stream."""
    relevance = removal.panel.relevance
    void = {n: why for n in removal.panel.names if (why := nothing_in(removal, relevance(n)))}
    names = [n for n in removal.panel.names if n not in void]
    level = {n: removal.level(relevance(n)) for n in names}
    levels = sorted(set(level.values()))

    def all_orders() -> Iterator[Tensor]:
        yield from (removal.order(relevance(n)) for n in names)
        yield from (removal.random_order(v, i) for v in levels for i in range(orders))

    live = removal.patches.live
    gone = (pieces for order in all_orders() for kind in kinds for pieces in removal.along(order, kind))
    whole, empty, *rest = removal.asked(chain([live[:0], live], gone)) if names else (0.0, 0.0)
    each, at = len(removal.steps), iter(rest)

    def curves() -> Curves:
        inner = [[next(at) for _ in range(each)] for _ in kinds]
        return tuple([empty, *c, whole] if k == "shown" else [whole, *c, empty] for k, c in zip(kinds, inner, strict=True))

    own = {n: curves() for n in names}
    drawn = {v: [curves() for _ in range(orders)] for v in levels}
    return Collected(own, level, {n: drawn[v] for n, v in level.items()}, void, whole, empty)


def nothing_in(removal: Removal, relevance: Tensor) -> str:
    """Why a map gives no order, as a sentence; empty where it does."""
    if not bool(relevance.isfinite().all()):
        return "The map holds values that are no numbers."
    found = removal.patches.mean(relevance)[removal.patches.live]
    if len(found) < LEAST:
        return f"The image has {len(found)} pieces with content, too few for an order."
    if float(found.max() - found.min()) <= 1e-12 * float(found.abs().max()):
        return "The map has one value everywhere: it gives no order."
    return ""


@dataclass(frozen=True)
class Telling:
    """How a metric tells its gain: its name, unit, what its number ``of`` one map's curves is (higher is better), and words for it.

    ``shared``: in shares of the score's range (the highest less the lowest of image, fill and random orders), else in units of the score.
    ``says`` is the beginning of the sentence: what was done, and what it does to the score.
    """

    name: str
    unit: str
    of: Callable[[str, Curves], float]
    says: str
    shared: bool = False
    verb: tuple[str, str] = ("more", "no more")
    most: float = math.inf  # beyond which no gain can lie, in either direction
    bounds: float | None = None  # range of the number itself, where it has one of its own (a share, a ratio)


def against_chance(removal: Removal, found: Collected, telling: Telling, kinds: Sequence[str]) -> dict[str, Measurement]:
    """The gain of every map over random orders as smooth as it is, with the interval over such orders."""
    return {n: _told(removal, found, telling, kinds, n) for n in removal.panel.names}


def _told(removal: Removal, found: Collected, telling: Telling, kinds: Sequence[str], name: str) -> Measurement:
    if name in found.void:
        return Measurement(telling.name, math.nan, telling.unit, "up", "void", found.void[name])
    own, random = found.own[name], found.drawn[name]
    met = [s for curves in random for c in curves for s in c]
    low, high = min(met, default=found.whole), max(met, default=found.whole)
    if high - low <= STILL * (abs(high) + abs(low)):
        low, high = min(low, *map(min, own)), max(high, *map(max, own))
    if high - low <= STILL * (abs(high) + abs(low)):
        text = "Whatever is taken out of the image, the score stays: the network does not look at it."
        return Measurement(telling.name, math.nan, telling.unit, "up", "void", text)
    unit = high - low if telling.shared else 1.0
    value, drawn = telling.of(name, own), [telling.of(name, c) for c in random]
    if math.isnan(value) or any(map(math.isnan, drawn)):
        return Measurement(telling.name, math.nan, telling.unit, "up", "void", "The map gives too few steps to count.")
    mean = sum(drawn) / len(drawn)
    gain, reach = (value - mean) / unit, spread_of_mean(drawn) / unit
    ahead = sum(d < value for d in drawn)
    even = EVEN * (telling.bounds if telling.bounds is not None else (high - low) / unit)
    status = judged(gain, ahead, len(drawn), even)
    amount = f"{gain:+.0%} of its range" if telling.shared else f"{gain:+.3g}"
    text = f"{telling.says} {telling.verb[0] if gain > even else telling.verb[1]} than random orders do: {amount}, ahead of {ahead} of {len(drawn)}."
    against = f"the mean of {len(drawn)} random orders as smooth as the map; the interval is that of the mean over such orders"
    detail = {
        "own": value, "chance": mean, "random": drawn, "p": (1 + len(drawn) - ahead) / (1 + len(drawn)), "shares": removal.shares,
        **{("curve" if i == 0 else f"curve_{k}"): c for i, (k, c) in enumerate(zip(kinds, own, strict=True))},
        "curve_random": [sum(s) / len(random) for s in zip(*(c[0] for c in random), strict=True)],
        "pieces": len(removal.patches.live), "smoothness": found.level[name], "range": [low, high],
    }  # fmt: skip
    low_, high_ = (None, None) if math.isinf(reach) else (max(-telling.most, gain - reach), min(telling.most, gain + reach))
    return Measurement(telling.name, gain, telling.unit, "up", status, text, 0.0, against, low_, high_, detail)


def spread_of_mean(drawn: Sequence[float]) -> float:
    """Half the 95 % interval of a mean (Student's t); infinite for a single value."""
    from scipy.special import stdtrit

    n = len(drawn)
    if n < 2:
        return math.inf
    mean = sum(drawn) / n
    spread = math.sqrt(sum((d - mean) ** 2 for d in drawn) / (n - 1))
    return float(stdtrit(n - 1, 0.975)) * spread / math.sqrt(n)


def judged(gain: float, ahead: int, orders: int, even: float) -> Status:
    """``pass``: more than even, and ahead of so many random orders that chance does as well in 5 % at most; ``fail``: no gain."""
    p = (1 + orders - ahead) / (1 + orders)
    return "fail" if gain <= even else "pass" if p <= max(CHANCE, 1 / (1 + orders)) + 1e-9 else "inconclusive"


def area(curve: Sequence[float]) -> float:
    """Trapezoid; every step counts the same."""
    return (sum(curve) - (curve[0] + curve[-1]) / 2) / (len(curve) - 1)


def price(kinds: int, steps: int, orders: int, *, lattice: bool, ndim: int) -> Price:
    """At most so many passes: random orders of up to five smoothnesses (of patches on a lattice three, two in 3D) are shared by all maps."""
    levels = (3 if ndim == 2 else 2) if lattice else len(LEVELS)
    return Price(shared=2 + kinds * levels * orders * steps, each=kinds * steps, at_most=True)
