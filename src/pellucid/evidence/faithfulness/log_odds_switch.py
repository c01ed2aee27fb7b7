"""Log-odds switch: how far the decision moves from one class to another when what speaks for the one and not for the other is erased."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from pellucid.baseline import Baseline, Starts
from pellucid.errors import BadTarget
from pellucid.evidence.faithfulness.curves import Collected, Curves, Removal, Telling, against_chance, nothing_in
from pellucid.evidence.metric import MAPS_ANEW, NETWORK, Price, metric
from pellucid.evidence.panel import Entry, Panel
from pellucid.evidence.patches import Patches
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count, Distance, Fraction, Kind
from pellucid.probe.ledger import untouched
from pellucid.reading import Class
from pellucid.target import Logit, Probability


def _class(value: Any) -> Class:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError(value)


OtherClass = Annotated[int | str, Kind("class", "a class name or index", _class)]


@metric(
    cite=Cite("Shrikumar, Greenside, Kundaje", 2017, "Learning important features through propagating activation differences", "ICML", "1704.02685"),
    unit="log-odds",
    better="up",
    reference="0, the mean of as many random samples as smooth as the map",
    needs=NETWORK | MAPS_ANEW,
    price=lambda orders, **_: Price(shared=2, each=1 + orders, anew=1, at_most=True),
    random=True,
)  # fmt: skip
def log_odds_switch(
    panel: Panel, *, other: OtherClass | None = None, share: Fraction = 0.2, orders: Count = 19, fill: Baseline = "black"
) -> dict[str, Measurement]:
    """How much further the log-odds of two classes move when the samples are erased that speak for the one and not for the other.

    ``c - mean over random orders of c``, with ``c = D(x) - D(x erased)``, ``D = logit(class) - logit(other)``. Erased are the samples with the
    largest difference between the map and the map of the other class, made anew by the same method, as far as it is positive.

    Args:
        other: the class that the image is to turn into; None: the most likely one besides the map's.
        share: of all samples: 20 % at most, as in the paper.
        orders: random orders of as many samples; with 19, a map that knows nothing passes in 5 % of the cases at most.
        fill: what an erased sample becomes; ``"black"``, the background of a digit, as in the paper.

    **Misleads when**: a turn into the other class needs something added (a 3 into an 8), or black is itself a finding.
    **Source**: Shrikumar et al. 2017, section 4.1 (there the change alone, without random orders).

    Raises:
        BadTarget: the maps do not explain one class of several.
    """
    assert isinstance(fill, Starts)
    pair = _Pair.of(panel, other)
    maps = pair.maps(panel)
    odds = Panel(panel.model, panel.image, pair.odds, panel.x, panel.run, panel.entries, spent=panel.spent)
    patches = Patches.cut(panel.grid, Distance(1.0, "px"))
    removal = Removal.of(odds, patches, panel.fill(fill), ())
    found, numbers = _collected(removal, panel, maps, max(1, round(share * len(patches.live))), orders)
    telling = Telling("log_odds_switch", "log-odds", lambda _, c: c[0][0] - c[0][1],
                      f"Erasing what speaks for {pair.own!r} rather than {pair.other!r} moves the log-odds")  # fmt: skip
    told = against_chance(removal, found, replace(telling, verb=("further", "no further")), ["erased"])
    more = {n: {"other": str(pair.other), "shares": [0.0, k / len(patches.live)]} for n, k in numbers.items()}
    return {n: replace(m, detail={**m.detail, **more.get(n, {})}) for n, m in told.items()}


@dataclass(frozen=True)
class _Pair:
    """The class that the maps explain, and another."""

    own: Class
    other: Class

    @classmethod
    def of(cls, panel: Panel, other: Class | None) -> _Pair:
        if not isinstance(panel.target, (Logit, Probability)):
            raise BadTarget("log_odds_switch follows maps of one class", repr(panel.target), "Explain logit(k), or leave it out.")
        with untouched(panel.model.module), torch.no_grad():
            out = panel.model.forward(panel.x[None])
        panel.spent["forward"] = panel.spent.get("forward", 0) + 1
        reading = panel.model.reading.of(out, panel.grid.ndim)
        z = reading.logits(out)
        if z.ndim != 2 or z.shape[1] < 2:
            raise BadTarget(
                "log_odds_switch needs two classes", f"an output of shape {tuple(out.shape)}", "Name both classes, or leave it out."
            )
        own = reading.index(panel.target.k, z.shape[1])
        if other is None:
            rest = z[0].clone()
            rest[own] = -math.inf
            second = int(rest.argmax())
        else:
            second = reading.index(other, z.shape[1])
        if second == own:
            raise BadTarget("the other class is not the map's own", repr(other), "Give another one.")
        names = reading.classes
        return cls(panel.target.k, names[second] if second < len(names) else second)

    @property
    def odds(self) -> Any:
        return Logit(self.own) - Logit(self.other)

    def maps(self, panel: Panel) -> dict[str, Tensor | str]:
        """For each entry the map less that of the other class, (*space), or why there is none."""
        turned = {n: t for n, e in panel.entries.items() if (t := self._turned(e)) is not None}
        twin = Panel(panel.model, panel.image, panel.target, panel.x, panel.run, turned, spent=panel.spent)
        found: dict[str, Tensor | str] = {n: panel.relevance(n) - made[0] for n, made in twin.anew(list(turned), [panel.x]).items()}
        return {n: found.get(n, "Without a question of its own, the map of the other class cannot be had.") for n in panel.names}

    def _turned(self, entry: Entry) -> Entry | None:
        """The same question about the other class, where it can be asked; a control that asks no network is drawn again."""
        if entry.ask is None:
            return entry if entry.draws is not None else None
        target = entry.ask.target
        if not isinstance(target, (Logit, Probability)) or target.k != self.own:
            return None
        return replace(entry, ask=replace(entry.ask, target=replace(target, k=self.other)))


def _collected(removal: Removal, panel: Panel, maps: dict[str, Tensor | str], most: int, orders: int) -> tuple[Collected, dict[str, int]]:
    """The log-odds of the image, without each map's samples, and without as many random ones."""
    void, orders_of, level = {}, {}, {}
    for name, found in maps.items():
        text = found if isinstance(found, str) else nothing_in(removal, panel.relevance(name))
        if not text and isinstance(found, Tensor):
            text = "The maps of the two classes are alike." if nothing_in(removal, found) else ""
            number = min(most, int((found > 0).sum()))
            if not text and not number:
                text = "Nothing in the map speaks more for its class than for the other."
            elif not text:
                orders_of[name], level[name] = removal.order(found)[:number], removal.level(found)
        if text:
            void[name] = text
    numbers = {n: len(o) for n, o in orders_of.items()}
    random = sorted({(level[n], k) for n, k in numbers.items()})

    def gone() -> Iterator[Tensor]:
        yield removal.patches.live[:0]
        yield from orders_of.values()
        yield from (removal.random_order(v, i)[:k] for v, k in random for i in range(orders))

    whole, *rest = removal.asked(gone()) if orders_of else [0.0]
    at = iter(rest)
    own: dict[str, Curves] = {n: ([whole, next(at)],) for n in orders_of}
    drawn: dict[tuple[float, int], list[Curves]] = {key: [([whole, next(at)],) for _ in range(orders)] for key in random}
    return Collected(own, level, {n: drawn[level[n], k] for n, k in numbers.items()}, void, whole, math.nan), numbers
