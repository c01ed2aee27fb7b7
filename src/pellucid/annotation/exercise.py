"""The semi-supervised exercise: a detector trained on what maps propose, on what a reader makes of it, and on boxes drawn by hand; IoU against effort."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.annotation.detector import train_detector
from pellucid.annotation.finding import Finding, overlap
from pellucid.annotation.session import Annotation, begin
from pellucid.annotation.simulated import Hand, correct, seconds
from pellucid.errors import BadParameter
from pellucid.image import Image
from pellucid.intervals import Interval, average, paired
from pellucid.params import Count, check
from pellucid.table import Table

SHARES = (0.25, 0.5, 1.0)
MET = 0.5  # IoU from which a finding counts as found
NOTHING, MAP, RAW, CORRECTED, HAND, TRUE = "nothing", "the map itself", "proposals", "corrected", "drawn by hand", "true boxes"


@dataclass(frozen=True, eq=False)
class Case:
    """A scan, what the map proposes, what a reader made of it (None: the simulated reader is asked), and the truth."""

    image: Image
    proposed: Annotation
    corrected: Annotation | None
    truth: tuple[Finding, ...]
    patient: str


@dataclass(frozen=True)
class Arm:
    """A detector's training set: whose boxes, of how many of the cases; what it cost a reader; how the detector did on the held-out cases.

    ``ious``: for each held-out case with a finding the mean over seeds; ``by_seed`` the mean over these cases for each seed; ``found`` the share of
    findings met, ``false`` boxes a case that meet none.
    """

    name: str
    share: float
    cases: int
    actions: float
    seconds: float
    ious: tuple[float, ...]
    by_seed: tuple[float, ...]
    found: float
    false: float
    iou: Interval
    more: tuple[float, float] = (math.nan, math.nan)


@dataclass(frozen=True)
class Exercise:
    """Arms of one exercise, and what they rest on, in words."""

    arms: tuple[Arm, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> tuple[Arm, ...]:
        """The arms of one kind, by rising share."""
        return tuple(a for a in self.arms if a.name == name)

    def table(self) -> Table:
        """A row for each training set: effort, IoU with its interval over cases and spread over seeds, difference to the raw proposals."""
        columns = ("trained on", "cases", "actions", "seconds", "IoU", "95 %", "seeds", "found", "false", "to proposals", "p")
        rows = []
        for a in self.arms:
            span = "" if math.isnan(a.iou.low) else f"{a.iou.low:.3f} to {a.iou.high:.3f}"
            gain = ("", "") if math.isnan(a.more[0]) else (f"{a.more[0]:+.3f}", _rare(a.more[1]))
            spread = f"± {np.std(a.by_seed, ddof=1):.3f}" if len(a.by_seed) > 1 else ""
            rows.append((a.name, a.cases, round(a.actions, 1), round(a.seconds, 1), f"{a.iou.value:.3f}", span, spread,
                         f"{a.found:.2f}", f"{a.false:.2f}", *gain))  # fmt: skip
        return Table(columns, tuple(rows))

    @property
    def said(self) -> list[str]:
        """What the numbers say in plain words; where proposals did not help, that."""
        return _said(self)

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        arms = [
            {"name": a.name, "share": a.share, "cases": a.cases, "actions": a.actions, "seconds": a.seconds, "iou": a.iou.value, "low": a.iou.low,
             "high": a.iou.high, "held_out": a.iou.images, "by_seed": list(a.by_seed), "found": a.found, "false": a.false,
             "to_proposals": a.more[0], "p": a.more[1]}
            for a in self.arms
        ]  # fmt: skip
        told = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in arm.items()} for arm in arms]
        return {"arms": told, "said": self.said, **self.facts}


def exercise(
    training: Sequence[Case], held_out: Sequence[Case], *, shares: Sequence[float] = SHARES, seeds: Count = 3, steps: Count = 100,
    hand: Hand | None = None, on_training: Callable[[int, int], None] | None = None,
) -> Exercise:  # fmt: skip
    """Train detectors on the same pictures with boxes of different origin, and measure them on cases that nobody marked for training.

    - ``nothing``: the network as its seed drew it. ``the map itself``: no detector, the map's proposals on the held-out cases.
    - ``proposals``: as the map gave them, at no effort.
    - ``corrected``: a reader corrects the proposals of a share of the cases; the others keep theirs.
    - ``drawn by hand``: a reader draws every box of a share of the cases; the others are left out.
    - ``true boxes``: the upper reference.

    Each seed draws its own network, order of pictures, and choice of cases that the reader works on. IoU is that of all boxes' area, over the
    held-out cases that have a finding; it is 0 where nothing is found.

    Raises:
        BadParameter: no cases to train on, or none with a finding to be measured on.
    """
    seeds, hand = check("exercise", "seeds", Count, seeds), hand or Hand()
    if not training or not any(c.truth for c in held_out):
        got = f"{len(training)} for training, {sum(bool(c.truth) for c in held_out)} with a finding held out"
        raise BadParameter("cases to train on, and held-out cases with findings", got, "Give more cases.")
    plan: list[tuple[str, float]] = [(NOTHING, 0.0), (MAP, 0.0), (RAW, 0.0)]
    plan += [(name, s) for name in (CORRECTED, HAND) for s in sorted(shares)] + [(TRUE, 1.0)]
    arms: list[Arm] = []
    for n, (name, share) in enumerate(plan):
        runs = [_run(training, held_out, name, share, seed, steps, hand) for seed in range(1 if name == MAP else seeds)]
        arms.append(_arm(name, share, runs, held_out))
        if on_training is not None:
            on_training(n + 1, len(plan))
    raw = next(a for a in arms if a.name == RAW)
    with_truth = [c.patient for c in held_out if c.truth]
    compared = [_against(a, raw, with_truth) for a in arms]
    facts = {
        "training": len(training), "held_out": len(held_out), "with_finding": len(with_truth), "seeds": seeds, "steps": steps,
        "hand": {k: getattr(hand, k) for k in Hand.__dataclass_fields__}, "made": next((c.proposed.made for c in training if c.proposed.made), ""),
    }  # fmt: skip
    return Exercise(tuple(compared), facts)


@dataclass(frozen=True)
class _Run:
    cases: int
    actions: float
    seconds: float
    scores: tuple[tuple[float, float, int], ...]  # IoU (NaN without a finding), share found, false boxes


def _run(training: Sequence[Case], held_out: Sequence[Case], name: str, share: float, seed: int, steps: int, hand: Hand) -> _Run:
    if name == MAP:
        marked = [c.proposed.findings for c in held_out]
        return _Run(0, 0.0, 0.0, tuple(measure(m, c.truth, c.image.grid.shape) for m, c in zip(marked, held_out, strict=True)))
    order = np.random.default_rng(seed).permutation(len(training))
    worked = set(order[: max(1, round(share * len(training)))].tolist()) if share else set()
    pictures, boxes, actions, spent = [], [], 0.0, 0.0
    for n, c in enumerate(training):
        if name in (CORRECTED, HAND) and n in worked:
            work = _work(c, name, hand, 1000 * seed + n)
            actions, spent = actions + work.effort.actions, spent + seconds(work, hand)
            own: Sequence[Finding] = work.accepted
        elif name == HAND:
            continue
        else:
            own = c.truth if name == TRUE else c.proposed.findings
        pictures.append(c.image.values)
        boxes.append(own)
    detector = train_detector(pictures, boxes, steps=0 if name == NOTHING else steps, seed=seed)
    scores = tuple(measure(detector(c.image.values), c.truth, c.image.grid.shape) for c in held_out)
    return _Run(0 if name in (NOTHING, RAW) else len(worked), actions, spent, scores)


def _work(case: Case, name: str, hand: Hand, seed: int) -> Annotation:
    if name == CORRECTED and case.corrected is not None:
        return case.corrected
    return correct(case.proposed if name == CORRECTED else begin(case.image.grid.shape), case.truth, hand, seed=seed)


def measure(found: Sequence[Finding], truth: Sequence[Finding], shape: Sequence[int]) -> tuple[float, float, int]:
    """IoU of the area of all boxes (NaN without a finding), the share of findings met by one of IoU 0.5 or more, and boxes that meet none."""
    met = sum(any(overlap(f, t) >= MET for f in found) for t in truth)
    false = sum(all(overlap(f, t) < MET for t in truth) for f in found)
    if not truth:
        return math.nan, math.nan, false
    a, b = (_area(boxes, shape) for boxes in (found, truth))
    return float((a & b).sum()) / float((a | b).sum()), met / len(truth), false


def _area(boxes: Sequence[Finding], shape: Sequence[int]) -> Tensor:
    drawn = torch.zeros(tuple(shape), dtype=torch.bool)
    for f in boxes:
        drawn[f.place] = True
    return drawn


def _arm(name: str, share: float, runs: Sequence[_Run], held_out: Sequence[Case]) -> Arm:
    table = np.array([r.scores for r in runs], dtype=np.float64)  # seeds x cases x 3
    have = [bool(c.truth) for c in held_out]
    ious = table[:, have, 0]
    who = [c.patient for c in held_out if c.truth]
    mean = [float(np.mean([getattr(r, k) for r in runs])) for k in ("cases", "actions", "seconds")]
    return Arm(
        name, share, round(mean[0]), mean[1], mean[2], tuple(ious.mean(0).tolist()), tuple(ious.mean(1).tolist()),
        float(np.nanmean(table[:, have, 1])), float(table[:, :, 2].mean()), average(ious.mean(0), who, within=(0.0, 1.0)),
    )  # fmt: skip


def _against(a: Arm, raw: Arm, who: Sequence[str]) -> Arm:
    from dataclasses import replace

    return a if a.name == RAW else replace(a, more=paired(a.ious, raw.ious, who))


def _said(e: Exercise) -> list[str]:
    raw, nothing, true = e[RAW][0], e[NOTHING][0], e[TRUE][0]
    said = [f"Raw proposals give {raw.iou.value:.2f} at no effort, true boxes {true.iou.value:.2f}, nothing {nothing.iou.value:.2f}."]
    if raw.iou.low <= nothing.iou.high:
        said.append("The raw proposals help no more than nothing: their interval reaches that of the untrained network.")
    full, hand = e[CORRECTED][-1], e[HAND][-1]
    gain, p = full.more
    clear = "" if p < 0.05 else ", which chance alone may make"
    said.append(
        f"Correcting all of them changes the IoU by {gain:+.2f} (p {'' if p < 0.001 else '= '}{_rare(p)}){clear}, for {full.seconds:.0f} s of a reader's work."
    )
    word = "less" if full.seconds < hand.seconds else "more"
    difference = abs(hand.seconds - full.seconds) / max(hand.seconds, 1e-9)
    said.append(f"That is {difference:.0%} {word} time than to draw all boxes by hand ({hand.seconds:.0f} s, IoU {hand.iou.value:.2f}).")
    reached = [a for a in e[HAND] if a.iou.value >= raw.iou.value]
    if reached:
        least = min(reached, key=lambda a: a.seconds)
        said.append(f"{least.cases} cases drawn by hand ({least.seconds:.0f} s) do as well as all raw proposals.")
    return said


def _rare(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
