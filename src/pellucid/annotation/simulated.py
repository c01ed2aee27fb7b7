"""A simulated reader: corrects proposals toward the truth by a stated rule, and what that costs by a stated model of hand and eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from pellucid.annotation.finding import Finding, overlap
from pellucid.annotation.session import Annotation, begin
from pellucid.evidence.masks import components
from pellucid.params import Fraction, Weight, check


@dataclass(frozen=True)
class Hand:
    """How a reader decides, how true the hand is, and how long it takes.

    A proposal that shares ``good`` or more (IoU of boxes) with a finding is accepted as it is, one that shares ``near`` or more is drawn anew at
    its edges, every other one is rejected; findings without a proposal are added. A box that the reader draws misses each edge by a normal
    slip of ``slip`` samples. Seconds are those of the keystroke-level model (Card, Moran and Newell 1980): to decide 1.35, to point 1.1, to press or
    release a button 0.1, a key 0.2. So a judgment by key takes 1.55, a box that is drawn or dragged (point, press, point, release) 3.75,
    and ``look`` goes to every picture.
    """

    good: float = 0.7
    near: float = 0.1
    slip: float = 0.5
    look: float = 1.35
    judged: float = 1.35 + 0.2
    drawn: float = 1.35 + 1.1 + 0.1 + 1.1 + 0.1

    def __post_init__(self) -> None:
        for name, kind in (
            ("good", Fraction),
            ("near", Fraction),
            ("slip", Weight),
            ("look", Weight),
            ("judged", Weight),
            ("drawn", Weight),
        ):
            check("Hand", name, kind, getattr(self, name))


def correct(proposed: Annotation, truth: Sequence[Finding], hand: Hand | None = None, *, seed: int = 0) -> Annotation:
    """What the reader makes of proposals, with every action and its time; from an annotation without proposals everything is drawn by hand.

    Pairs of proposal and finding are taken best first, each at most once.
    """
    hand = hand or Hand()
    chance = np.random.default_rng(seed)
    pairs = sorted(((overlap(p, t), p.number, n) for p in proposed.findings for n, t in enumerate(truth)), reverse=True)
    of: dict[int, tuple[int, float]] = {}
    for iou, number, n in pairs:
        if iou >= hand.near and number not in of and n not in [m for m, _ in of.values()]:
            of[number] = (n, iou)
    found, clock = proposed.act("open", 0.0), hand.look
    for p in proposed.findings:
        n, iou = of.get(p.number, (-1, 0.0))
        if iou >= hand.good or n < 0:
            clock += hand.judged
            found = found.act("accept" if n >= 0 else "reject", clock, p.number)
        else:
            clock += hand.drawn
            a, b = _box(truth[n], proposed.shape, hand, chance)
            found = found.act("resize", clock, p.number, start=a, stop=b)
    for n in sorted(set(range(len(truth))) - {m for m, _ in of.values()}):
        clock += hand.drawn
        a, b = _box(truth[n], proposed.shape, hand, chance)
        found = found.act("add", clock, start=a, stop=b)
    return found


def drawn_by_hand(shape: Sequence[int], truth: Sequence[Finding], hand: Hand | None = None, *, seed: int = 0) -> Annotation:
    """The same reader without any proposal."""
    return correct(begin(shape), truth, hand, seed=seed)


def seconds(work: Annotation, hand: Hand) -> float:
    """What it cost: the actions' seconds and one look at the picture."""
    return work.effort.seconds + (hand.look if len(work.events) == 1 else 0.0)


def _box(truth: Finding, shape: Sequence[int], hand: Hand, chance: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    slips = np.rint(chance.normal(0.0, hand.slip, (2, len(shape)))).astype(int)
    start = tuple(int(np.clip(a + s, 0, n - 1)) for a, s, n in zip(truth.start, slips[0], shape, strict=True))
    stop = tuple(int(np.clip(b + s, a + 1, n)) for b, s, n, a in zip(truth.stop, slips[1], shape, start, strict=True))
    return start, stop


def true_findings(mask: Tensor) -> list[Finding]:
    """The connected parts of a mask (*space) as findings, largest first; parts of fewer than 4 samples are left out."""
    numbered, slices = components(mask)
    found = [
        Finding(1, tuple(s.start for s in b), tuple(s.stop for s in b)) for k, b in enumerate(slices, 1) if (numbered[b] == k).sum() >= 4
    ]
    ordered = sorted(found, key=lambda f: -np.prod(f.extent))
    return [replace(f, number=n, state="accepted") for n, f in enumerate(ordered, 1)]
