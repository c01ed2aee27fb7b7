"""Making: what every way to a picture shares. The picture without priors beside it, how steady all are, and the result signed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.asking import Scan
from pellucid.findings import signed
from pellucid.image import Image, digest
from pellucid.model import Model
from pellucid.ops.blur import gaussian
from pellucid.prototypes.asked import Asked, class_of, saturates
from pellucid.prototypes.canvas import Samples
from pellucid.prototypes.climb import Climb, steadiness
from pellucid.prototypes.given import Given, read_given
from pellucid.prototypes.result import Picture, Prototype, Role
from pellucid.run import Run
from pellucid.target import Target

NEAR = 0.04  # of the extent: around a sample
PACE = 0.02  # of the span: the first step of a climb over samples
SATURATED = "A probability has no slope near 0 and 1: the class's logit shows more."


@dataclass(frozen=True, eq=False)
class Made:
    """A picture that was made, (c, *space), with the way of its score, and how much each sample mattered (1, *space)."""

    name: str
    role: Role
    x: Tensor
    way: Sequence[float] = ()
    mattered: Tensor | None = None


@dataclass(eq=False)
class Bench:
    """What is at hand while pictures are made: the network asked, what the images given tell, where pictures begin."""

    model: Model
    run: Run
    asked: Asked
    given: Given
    start: Tensor
    began: float

    @classmethod
    def of(cls, model: Model, target: Target, scans: Sequence[Scan], start: Any, run: Run) -> Bench:
        """Look at network and images; to be called while the network is ``untouched``."""
        began = time.perf_counter()
        asked = Asked.of(model, scans[0], target, run)
        given = read_given(asked, scans)
        return cls(model, run, asked, given, given.start(asked, start), began)

    @property
    def rise(self) -> float:
        """How far the best of the images given lies above the start: the size of a score that matters. Where none does: the largest score, or 1."""
        (first,), _ = self.asked.told(self.start[None])
        largest = max(map(abs, (*self.given.scores, first)))
        best = max(self.given.scores) - first
        return best if best > 1e-3 * largest else largest or 1.0

    def random(self, what: int) -> torch.Generator:
        """A source of chance of its own for each part, so that none moves another."""
        return torch.Generator().manual_seed(self.run.seed * 1009 + what)

    def climb(self, steps: int, rate: float, what: int) -> Climb:
        """A climb over samples without any prior, to be changed by whoever makes pictures."""
        canvas = Samples(self.start, self.given.low, self.given.high)
        return Climb(self.asked, canvas, self.start, self.given.width, steps, rate, self.random(what))

    def fooling(self, steps: int) -> Made:
        """The picture that nothing holds back: as many steps from the same start."""
        climb = self.climb(steps, PACE, 2)
        at, ways, _ = climb.run(1)
        return Made("without priors", "fooling", climb.canvas.image(at)[0], ways[0])

    def _weight(self, made: Made) -> Image | None:
        if made.mattered is None:
            return None
        size = made.mattered[None, ...].flatten(1)
        top = float(torch.quantile(size[:, :: max(1, size.shape[1] // 10**6)], 0.99))
        share = (made.mattered / max(top, 1e-30)).clamp(0, 1).float().cpu()
        return Image(share, self.asked.like.grid, "weight", ("weight",))

    def _clipped(self, x: Tensor) -> float:
        near = 1e-4 * self.given.width
        ends = (x <= self.given.low + near) | (x >= self.given.high - near)
        began = (self.start <= self.given.low + near) | (self.start >= self.given.high - near)
        return float((ends & ~began).double().mean())

    def focus(self, x: Tensor) -> tuple[int, ...]:
        """The sample around which most changed."""
        change = ((x - self.start) / self.given.width).abs().sum(0, keepdim=True).double()
        around = gaussian(change, [NEAR * n if n > 1 else 0.0 for n in change.shape[1:]], "zero")[0]
        if not bool(around.any()):
            return tuple(n // 2 for n in around.shape)
        return tuple(int(i) for i in torch.unravel_index(around.argmax(), around.shape))

    def result(
        self, method: str, called: str, made: Sequence[Made], *, cite: str, alike: float = math.nan, numbers: Mapping[str, float] | None = None,
        notes: Sequence[str] = (),
    ) -> Prototype:  # fmt: skip
        """Ask about all pictures, the start and the best image given, and sign."""
        asked, given = self.asked, self.given
        every = [*made, Made("the start", "start", self.start)]
        x = torch.stack([m.x.detach() for m in every])
        scores, sure = asked.told(x)
        plain, moved = steadiness(asked, torch.cat([x, given.best[None]]), self.run.seed)
        first, base = plain[len(made)], moved[len(made)]
        kept = [_kept(s, m, first, base) for s, m in zip(plain, moved, strict=True)]
        pictures = tuple(
            Picture(
                m.name, m.role, picture_of(asked.like, m.x), s, p, math.nan if m.role == "start" else k, 0.0 if m.role == "start" else self._clipped(m.x),
                self._weight(m),
            )
            for m, s, p, k in zip(every, scores, sure, kept[:-1], strict=True)
        )  # fmt: skip
        target = asked.target
        told = [*(notes or ()), *([SATURATED] if saturates(target) else [])]
        remarks = tuple(dict.fromkeys([*self.model.source.get("notes", ()), *asked.engine.notes, *told]))
        meter = asked.engine.meter
        provenance = signed(
            self.model, self.run, called, image=digest(*given.marks), seconds=time.perf_counter() - self.began, target=repr(target),
            cite=cite, notes=remarks,
        )  # fmt: skip
        provenance = replace(provenance, forward=meter.forward, backward=meter.backward, setup=meter.setup, output=asked.engine.output)
        best = max((m for m in made if m.role == "optimum"), key=lambda m: scores[made.index(m)])
        ends = (float(given.low.min()), float(given.high.max()))
        return Prototype(
            method, repr(target), class_of(target), pictures, given.scores, tuple(tuple(m.way) for m in made), self.model.classes, ends,
            self.focus(best.x), provenance, self.model.identity, alike, {"real keeps": kept[-1], **(numbers or {})}, tuple(told),
        )  # fmt: skip


def picture_of(like: Image, x: Tensor) -> Image:
    """A picture (c, *space) on the grid of an image given, with nothing of its facts but what the values mean."""
    kept = {k: v for k, v in like.facts.items() if k in ("sided", "photometric", "polarity")}
    return Image(x.detach().cpu(), like.grid, like.quantity, like.channels, None, kept)


def _kept(score: float, moved: float, first: float, base: float) -> float:
    """The share of a rise over the start that stays; nan where there is no rise."""
    rise = score - first
    return (moved - base) / rise if rise > 1e-9 * max(1.0, abs(first)) else math.nan
