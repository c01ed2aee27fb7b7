"""Question, block, reply: what is asked of the engine, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pellucid.grid import Grid
from pellucid.probe.rules import Rules
from pellucid.probe.sites import Place
from pellucid.target import Target


@dataclass
class Tally:
    """Passes that one explanation asked for (those shared with others count for each), and the most samples side by side."""

    forward: int = 0
    backward: int = 0
    setup: int = 0
    chunk: int = 1


@dataclass(eq=False)
class Question:
    """What stays the same while one explanation is made. ``target`` becomes settled with the first output."""

    target: Target
    grid: Grid
    x: Tensor
    place: Place | None = None
    settled: bool = False
    probabilities: tuple[float, ...] = ()
    tally: Tally = field(default_factory=Tally)


@dataclass(eq=False)
class Block:
    """Inputs asked about at one time: (n, c, *space) images or, at a site, activations in map form.

    ``inputs=None`` asks about the activation as it is, in the same pass that finds it.
    """

    question: Question
    inputs: Tensor | None
    gradient: bool
    rules: Rules | None = None  # what stands for each operation on the way back; ``inputs`` is then the reference, if rules are paired
    through: bool = False  # at a site: ``inputs`` are images, and what they cause there is what is explained

    @property
    def fed(self) -> Tensor:
        """The images (n, c, *space) that go into the network."""
        if self.inputs is not None and (self.through or self.question.place is None):
            return self.inputs
        return self.question.x.expand(1 if self.inputs is None else len(self.inputs), *self.question.x.shape)

    @property
    def planted(self) -> Tensor | None:
        """The activations that are exchanged for those at the site; None where the images' own stay."""
        return None if self.question.place is None or self.through else self.inputs


@dataclass(frozen=True, eq=False)
class Ruled:
    """What a backward pass under rules tells besides the gradient.

    ``input`` (c, *space) is what the gradient belongs to: after ``normalize``, if the rules say so. ``absorbed`` sums, by reason, the
    relevance that ended in operations; ``largest`` is the largest multiplier that a rule reported, ``caveats`` name what
    no paper defines. ``start`` is the reference's score, for paired rules.
    """

    input: Tensor
    absorbed: dict[str, float]
    largest: float
    caveats: tuple[str, ...]
    start: float | None = None


@dataclass(eq=False)
class Reply:
    """Scores (n,) in float64 on the CPU, gradients like the inputs, class logits (n, k) of a classifier, and what was asked."""

    scores: Tensor
    gradients: Tensor | None
    classes: Tensor | None
    inputs: Tensor
    ruled: Ruled | None = None


def distinct(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks grouped by equal inputs: they differ in their target only."""
    groups: list[list[Block]] = []
    for block in blocks:
        for same in groups:
            one = same[0]
            image = one.question.x is block.question.x or torch.equal(one.question.x, block.question.x)
            if image and (
                (one.inputs is None and block.inputs is None)
                or (one.inputs is not None and block.inputs is not None and torch.equal(one.inputs, block.inputs))
            ):
                same.append(block)
                break
        else:
            groups.append([block])
    return groups
