"""The climb: pictures change step by step so that their score rises; priors hold them back, small moves keep them from tricks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pellucid.ops.blur import gaussian
from pellucid.ops.descent import Adam
from pellucid.ops.warp import moves, warp
from pellucid.prototypes.asked import Asked, side_by_side
from pellucid.prototypes.canvas import Canvas
from pellucid.target import Target

TRIES, TURN, SHIFT, SOFT = 16, 4.0, 0.025, 0.7  # of ``steadiness``: moved copies, degrees, share of the extent, samples of blur


@dataclass(frozen=True)
class Priors:
    """What holds a picture back, in points of the score. ``l2``: for a mean squared change as large as the span; ``tv``: for a mean step of the change
    from sample to sample as large as the span. ``blur``: finest samples, every ``every`` steps."""

    l2: float = 0.0
    tv: float = 0.0
    blur: float = 0.0
    every: int = 4


@dataclass(frozen=True)
class Jolts:
    """What a picture must bear at every step: shift (samples), turn (degrees), zoom (share), each drawn anew."""

    shift: float = 0.0
    turn: float = 0.0
    zoom: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.shift or self.turn or self.zoom)

    def moved(self, x: Tensor, spacing: Sequence[float], random: torch.Generator) -> Tensor:
        """Each picture moved by its own draw."""
        if not self:
            return x
        drawn = moves(len(x), tuple(x.shape[2:]), spacing, random, shift=self.shift, turn=self.turn, zoom=self.zoom)
        return warp(x, drawn)


@dataclass(eq=False)
class Climb:
    """A climb of n pictures side by side. ``rows`` gives each step's targets, where they are not the one asked; ``held`` what holds each picture back,
    in place of ``priors``; ``last`` is the last step's rate as a share of the first's."""

    asked: Asked
    canvas: Canvas
    start: Tensor
    width: Tensor
    steps: int
    rate: float
    random: torch.Generator
    priors: Priors = field(default_factory=Priors)
    jolts: Jolts = field(default_factory=Jolts)
    rows: Callable[[Tensor], Sequence[Target]] | None = None
    seen: Callable[[Tensor], Tensor] | None = None  # what the network is shown of the pictures, in place of ``jolts``
    held: Callable[[Tensor], Tensor] | None = None
    last: float = 1.0

    def run(self, n: int) -> tuple[Tensor, list[list[float]], Tensor]:
        """The last parameters, the scores of each picture step by step, and the sum of |d score / d picture| over the way (n, 1, *space)."""
        at = self.canvas.begin(n, self.random)
        rule = Adam(self.rate)
        ways: list[list[float]] = [[] for _ in range(n)]
        mattered = torch.zeros((n, 1, *self.start.shape[1:]), dtype=torch.float64, device=self.start.device)
        for step in range(self.steps):
            at = at.detach().requires_grad_()
            x = self.canvas.image(at)
            rows = None if self.rows is None else self.rows(x.detach())
            scores = self.asked.scores(self._shown(x), rows)
            (slope,) = torch.autograd.grad(scores.sum(), x, retain_graph=True)
            held = self.pull(x)
            whole = slope if held is None else slope - held
            (change,) = torch.autograd.grad(x, at, whole)
            mattered += slope.abs().sum(1, keepdim=True)
            for way, s in zip(ways, scores.view(n, -1).mean(1).tolist(), strict=True):
                way.append(s)
            rule.rate = self.rate * self.last ** (step / max(self.steps - 1, 1))
            at = self.canvas.settle(rule.step(at.detach(), -change))
            if self.priors.blur > 0 and (step + 1) % self.priors.every == 0 and step + 1 < self.steps:
                at = self.canvas.blurred(at, self.priors.blur)
        return at.detach(), ways, mattered

    def _shown(self, x: Tensor) -> Tensor:
        return self.seen(x) if self.seen is not None else self.jolts.moved(x, self.asked.like.grid.spacing, self.random)

    def pull(self, x: Tensor) -> Tensor | None:
        """The slope of the priors at the pictures."""
        if self.held is None and not self.priors.l2 and not self.priors.tv:
            return None
        y = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad((self._price(y) if self.held is None else self.held(y)).sum(), y)
        return slope

    def _price(self, y: Tensor) -> Tensor:
        change = (y - self.start) / self.width
        rough = roughness(change, self.asked.like.grid.spacing) if self.priors.tv else 0.0
        return self.priors.l2 * change.square().flatten(1).mean(1) + self.priors.tv * rough


def roughness(x: Tensor, spacing: Sequence[float], power: float = 1.0) -> Tensor:
    """Total variation of pictures (n, c, *space), (n,): the mean length, to ``power``, of the step from sample to sample; steps of the finest spacing."""
    finest = min(spacing)
    total = torch.zeros_like(x)
    for axis, s in enumerate(spacing):
        if x.shape[axis + 2] > 1:
            step = torch.diff(x, dim=axis + 2, append=x.narrow(axis + 2, -1, 1)) * (finest / s)
            total = total + step.square()
    return (total + 1e-12).pow(power / 2).flatten(1).mean(1)


def steadiness(asked: Asked, x: Tensor, seed: int) -> tuple[list[float], list[float]]:
    """Scores of pictures (n, c, *space), and their mean scores once moved, turned and blurred a little: the same draws for all pictures."""
    space = tuple(x.shape[2:])
    grid = asked.like.grid
    random = torch.Generator().manual_seed(seed)
    drawn = moves(TRIES, space, grid.spacing, random, shift=SHIFT * max(space), turn=TURN)
    plain, _ = asked.told(x)
    mean = []
    for one in x:
        soft = gaussian(one, [SOFT if k > 1 else 0.0 for k in space])
        parts = [asked.told(warp(soft.expand(len(d), *soft.shape), d))[0] for d in drawn.split(side_by_side(soft, TRIES))]
        mean.append(sum(map(sum, parts)) / TRIES)
    return plain, mean
