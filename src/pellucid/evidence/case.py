"""The case under examination: one map, its question, and a panel that asks the network; opened once for all checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from pellucid.asking import explain_all
from pellucid.evidence.panel import Entry, Panel
from pellucid.explanation import Map
from pellucid.method import Ask, Method
from pellucid.model import Model
from pellucid.run import Run

Level = Literal["none", "quick", "standard", "full"]


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
    "quick": Effort(points=1, orders=19, readouts=19, splits=3, stages=2, draws=1, steps=8),
    "standard": Effort(points=2, orders=39, readouts=39, splits=4, stages=5, draws=2, steps=16),
    "full": Effort(points=4, orders=39, readouts=99, splits=8, stages=24, draws=3, steps=64),
}


@dataclass(eq=False)
class Case:
    """What all checks share. ``passes`` counts what was spent, by check."""

    panel: Panel
    why: Map
    ask: Ask
    effort: Effort
    passes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, why: Map, ask: Ask, run: Run, effort: Effort) -> Case:
        """The case of a map, examined with its network."""
        x = why.image.values.to(model.device, model.dtype or why.image.values.dtype)
        spatial = why.values.ndim == 1 + why.image.grid.ndim
        entries = {"map": Entry(why.on(why.image.grid).relevance.double(), why, ask)} if spatial else {}
        return cls(Panel(model, why.image, ask.target, x, run, entries), why, ask, effort)

    @property
    def model(self) -> Model:
        return self.panel.model

    @property
    def run(self) -> Run:
        return self.panel.run

    @property
    def x(self) -> Tensor:
        return self.panel.x

    @property
    def spatial(self) -> bool:
        """Whether the map has an extent that can be laid over the image."""
        return bool(self.panel.entries)

    def chance(self, part: int) -> torch.Generator:
        """A source of chance of its own for each check."""
        return torch.Generator().manual_seed(1_000_003 * (self.run.seed + 1) + part)

    def scores(self, check: str, inputs: Iterable[Tensor], model: Model | None = None) -> list[float]:
        """The explained target's score for each input (c, *space), streamed through common chunks; the network's copy may answer."""
        spent = self.panel.spent
        before = spent.get("forward", 0) + spent.get("setup", 0)
        found = self.panel.scores(inputs, model)
        self._count(check, spent.get("forward", 0) + spent.get("setup", 0) - before)
        return found

    def entropy(self, check: str, model: Model | None = None) -> float | None:
        """Entropy of the output for the image as a share of its highest; None unless the classes exclude each other. One pass."""
        self._count(check, 1)
        return self.panel.entropy(model)

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

    def _count(self, check: str, passes: int) -> None:
        self.passes[check] = self.passes.get(check, 0) + passes
