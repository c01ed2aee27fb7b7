"""The case under examination: network, image, map and question, opened once for all checks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from pellucid.asking import explain_all
from pellucid.baseline import Setting, Starts
from pellucid.explanation import Map
from pellucid.method import Ask, Method
from pellucid.model import Model
from pellucid.ops.blur import gaussian
from pellucid.probe.engine import Engine
from pellucid.probe.ledger import untouched
from pellucid.probe.probe import Probe
from pellucid.probe.question import Question
from pellucid.run import Meter, Run

Level = Literal["none", "quick", "standard", "full"]
BLUR = 1 / 8  # of the shortest side: wide enough that a finding loses its shape


@dataclass(frozen=True)
class Effort:
    """How much a level spends: points per doubling of a curve, random orders, shuffled readouts and splits of the image that each answers, stages and
    draws of the cascade, steps of maps made anew.
    """

    points: int
    orders: int
    readouts: int
    splits: int
    stages: int
    draws: int
    steps: int


EFFORTS: dict[str, Effort] = {
    "quick": Effort(points=1, orders=6, readouts=19, splits=3, stages=2, draws=1, steps=8),
    "standard": Effort(points=2, orders=16, readouts=39, splits=4, stages=5, draws=2, steps=16),
    "full": Effort(points=4, orders=32, readouts=99, splits=8, stages=24, draws=3, steps=64),
}


@dataclass(eq=False)
class Case:
    """What all checks share. ``x`` is the prepared image as the network gets it; ``passes`` counts what was spent, by check."""

    model: Model
    why: Map
    ask: Ask
    run: Run
    effort: Effort
    x: Tensor
    passes: dict[str, int] = field(default_factory=dict)

    @property
    def spatial(self) -> bool:
        """Whether the map has an extent that can be laid over the image."""
        return self.why.values.ndim == 1 + self.why.image.grid.ndim

    def chance(self, part: int) -> torch.Generator:
        """A source of chance of its own for each check."""
        return torch.Generator().manual_seed(1_000_003 * (self.run.seed + 1) + part)

    def scores(self, check: str, inputs: Iterable[Tensor], model: Model | None = None) -> list[float]:
        """The explained target's score for each input (c, *space), streamed through common chunks; the network's copy may answer."""
        meter = Meter(replace(self.run, on_tick=None))
        engine = Engine(model or self.model, meter.run, meter)
        question = Question(self.ask.target, self.why.image.grid, self.x, settled=True)
        probe = Probe(engine, question, self.why.image, self.x, self.why.image.grid, self.chance(0))
        with untouched(engine.model.module):
            found = [float(a.score) for a in probe.scores(inputs)]
        self._count(check, meter.forward + meter.setup)
        return found

    def entropy(self, check: str, model: Model | None = None) -> float | None:
        """Entropy of the output for the image as a share of its highest; None unless the classes exclude each other. One pass."""
        model = model or self.model
        with untouched(model.module), torch.no_grad():
            out = model.forward(self.x[None])
        self._count(check, 1)
        reading = model.reading.of(out, self.why.image.grid.ndim)
        if out.ndim > 2 or reading.kind not in ("logits", "single logit"):
            return None
        p = reading.probabilities(out)[0].double()
        p = torch.cat([1 - p, p]) if len(p) == 1 else p / p.sum()
        return float(-(p * p.clamp_min(1e-300).log2()).sum()) / math.log2(len(p))

    def explain(self, check: str, model: Model | None = None, *, short: bool = True) -> Map:
        """The same question asked anew, of the network or of its copy; ``short`` with fewer steps, where the method has steps."""
        asked = Ask(self.method(short), self.ask.target, self.ask.site)
        run = replace(self.run, seed=self.why.provenance.seed, on_tick=None)
        image = replace(model or self.model, prepare=None)
        (found,) = explain_all(image, [self.why.image], [asked], run)
        p = found.provenance
        self._count(check, p.forward + p.backward + p.setup)
        return found

    def method(self, short: bool) -> Method[Any]:
        """The method of the map; ``short``: with no more steps than the level spends."""
        method = self.ask.method
        steps = method.params.get("steps")
        if short and isinstance(steps, int) and steps > self.effort.steps:
            return method(steps=self.effort.steps)
        return method

    def neutrals(self) -> dict[str, Tensor]:
        """Images without content: blurred by an eighth of the shortest side, and each channel's mean everywhere."""
        grid = self.why.image.grid
        width = BLUR * min(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
        mean = self.x.flatten(1).mean(1).view(-1, *[1] * grid.ndim)
        return {"blurred copy": gaussian(self.x, [width / s for s in grid.spacing]), "mean of each channel": mean.expand_as(self.x).clone()}

    def starts(self) -> list[Tensor]:
        """The images that the map's method compares with, where its parameters give them; none at hidden sites and for random ones."""
        baseline = self.ask.method.params.get("baseline")
        if not isinstance(baseline, Starts) or self.ask.site is not None or "random" in repr(baseline):
            return []
        low, high = float(self.x.min()), float(self.x.max())
        low, high = self.model.range or ((0.0, 1.0) if low >= 0 and high <= 1 else (low, high))
        return baseline.starts(Setting(self.x, self.why.image.grid, low, high, self.chance(1)))

    def _count(self, check: str, passes: int) -> None:
        self.passes[check] = self.passes.get(check, 0) + passes
