"""Asked: scores of pictures as a differentiable function, by the engine that explanations use; it plans, counts, hears cancel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from pellucid.asking import Scan, as_image
from pellucid.channels import Normalize
from pellucid.errors import BadImage, BadTarget, Unsupported
from pellucid.image import Image
from pellucid.model import Model
from pellucid.probe.engine import Engine
from pellucid.probe.question import Block, Question
from pellucid.probe.sites import Place, find
from pellucid.reading import Output
from pellucid.run import Meter, Run
from pellucid.signals import OneRow
from pellucid.target import Logit, Probability, Scaled, Sum, Target, as_target

ROOM = 2**24  # values of pictures that are held at a time beyond those that are made


class Line(Normalize):
    """A signal of one row reaches the network without that row."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x).squeeze(2)


def unrowed(model: Model) -> Model:
    """A model of signals (``pl.on_signals``) whose row is taken off before the network: its hidden sites then have an extent, that of time."""
    if not isinstance(model.module, OneRow):
        return model
    known = model.normalize or Normalize()
    return replace(model, module=model.module.origin, normalize=Line(known.mean, known.std))


def scans_of(given: Any) -> list[Scan]:
    """One scan or several as a list.

    Raises:
        BadImage: none.
    """
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    if not several:
        raise BadImage("at least one image of the kind that the network takes", "none", "Give the user's images: they tell size and span.")
    return several


def side_by_side(x: Tensor, most: int = 16) -> int:
    """How many images like one (c, *space) are held at a time."""
    return max(1, min(most, ROOM // x.numel()))


def closed(target: Any) -> Target:
    """A target that needs no image to be settled.

    Raises:
        BadTarget: one that an image would choose.
    """
    wanted = as_target(target)
    if wanted.open:
        raise BadTarget("a target that no image chooses", repr(wanted), "Name a class, pl.channel(site, k), or a region with its mask.")
    return wanted


def saturates(target: Target) -> bool:
    """Whether a probability is among what is asked: near 0 and 1 it has no slope."""
    if isinstance(target, Sum):
        return saturates(target.a) or saturates(target.b)
    return saturates(target.a) if isinstance(target, Scaled) else isinstance(target, Probability)


def class_of(target: Target) -> str:
    """The class whose probability tells how sure the network is of a target; empty where it names none."""
    if isinstance(target, (Sum, Scaled)):
        return class_of(target.a)
    return str(target.k) if isinstance(target, (Logit, Probability)) else ""


class _Scored(torch.autograd.Function):
    """Scores with the slopes that came with them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, asked: Asked, rows: Sequence[Target]) -> Tensor:
        with torch.enable_grad():
            scores, slopes = asked.slopes(x.detach(), rows)
        ctx.save_for_backward(slopes)
        return scores.to(x)

    @staticmethod
    def backward(ctx: Any, *above: Any) -> Any:
        (slopes,) = ctx.saved_tensors
        return above[0].view(-1, *[1] * (slopes.ndim - 1)) * slopes, None, None


@dataclass(eq=False)
class Asked:
    """A network that is asked about many made pictures of one shape. ``like`` is a prepared image, ``x`` its tensor."""

    engine: Engine
    like: Image
    x: Tensor
    target: Target
    questions: dict[int, tuple[Target, Question]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, scan: Scan, target: Target, run: Run) -> Asked:
        """Ready to be asked; the network is looked at once, as for an explanation.

        Raises:
            Unsupported: a network whose output lies on the image, or tiles, where one number is needed.
        """
        model.check_weights()
        model = unrowed(model)
        engine = Engine(model, run, Meter(run))
        like, x = model.ready(as_image(scan))
        found = cls(engine, like, x, target)
        question = found.question(target)
        engine.settle(question)
        found.target = question.target
        found.questions = {id(found.target): (found.target, question)}
        return found

    def question(self, target: Target) -> Question:
        """The question for a target, opened once."""
        if id(target) not in self.questions:
            if len(self.questions) > 64:  # targets that change from step to step
                self.questions = {k: v for k, v in self.questions.items() if v[0] is self.target}
            self.questions[id(target)] = (target, Question(target, self.like.grid, self.x))
        return self.questions[id(target)][1]

    def _blocks(self, x: Tensor, rows: Sequence[Target], gradient: bool) -> Iterator[list[Block]]:
        """Rows in chunks as large as planned; neighbors with one target share a block."""
        at = 0
        while at < len(x):
            size = self.engine.plan("gradients" if gradient else "scores", self.question(rows[at])).size
            blocks, stop = [], min(at + size, len(x))
            start = at
            for i in range(at + 1, stop + 1):
                if i == stop or rows[i] is not rows[start]:
                    blocks.append(Block(self.question(rows[start]), x[start:i], gradient))
                    start = i
            yield blocks
            at = stop

    def slopes(self, x: Tensor, rows: Sequence[Target]) -> tuple[Tensor, Tensor]:
        """Scores (n,) in float64 and gradients like ``x`` (n, c, *space), a target for each row."""
        scores, slopes = [], []
        for blocks in self._blocks(x, rows, True):
            for reply in self.engine.answer(blocks):
                assert reply.gradients is not None
                scores.append(reply.scores)
                slopes.append(reply.gradients)
        return torch.cat(scores), torch.cat(slopes)

    def scores(self, x: Tensor, rows: Sequence[Target] | None = None) -> Tensor:
        """Scores (n,) of pictures (n, c, *space), differentiable in them."""
        return _Scored.apply(x, self, rows or [self.target] * len(x))  # type: ignore[no-any-return, no-untyped-call]

    def told(self, x: Tensor) -> tuple[list[float], list[tuple[float, ...]]]:
        """Scores, and probabilities of all classes (empty where there are none), of pictures (n, c, *space)."""
        scores: list[float] = []
        sure: list[tuple[float, ...]] = []
        for blocks in self._blocks(x, [self.target] * len(x), False):
            for reply in self.engine.answer(blocks):
                scores += reply.scores.tolist()
                sure += [()] * len(reply.scores) if reply.classes is None else self._sure(reply.classes)
        return scores, sure

    def _sure(self, logits: Tensor) -> list[tuple[float, ...]]:
        kind, reading = self.engine.output, self.engine.model.reading
        if kind not in ("logits", "multi-label", "single logit"):
            return [()] * len(logits)
        known = replace(reading, kind=cast(Output, kind))
        return [tuple(row) for row in known.squash(logits, single=kind == "single logit").tolist()]

    def place(self, site: str) -> Place:
        """A site, found."""
        if self.engine.model.windows is not None:
            raise Unsupported("a hidden site needs one pass over the whole image", "windows=", "Crop in prepare= and leave windows= out.")
        place, cost = find(self.engine.model, site, self.x)
        self.engine.meter.tick(setup=cost)
        return place

    def activation(self, x: Tensor, place: Place) -> Tensor:
        """What pictures (n, c, *space) cause at a site, (n, c, *cells)."""
        question = replace(self.question(self.target), place=place)
        size = self.engine.plan("scores", question).size
        return torch.cat([self.engine.answer([Block(question, part, False, through=True)])[0].inputs for part in x.split(size)])
