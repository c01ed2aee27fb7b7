"""Meaningful perturbation: the smallest smooth region whose loss, or whose presence alone, decides the score."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import samples
from pellucid.errors import BadParameter, Unsupported
from pellucid.method import GRADIENTS, NOTHING, SHARES, Cite, Cost, method, short
from pellucid.ops.blur import gaussian
from pellucid.ops.descent import Adam
from pellucid.ops.masks import along_axes, enlarging, from_center, shifted, total_variation
from pellucid.ops.resample import pull
from pellucid.params import Count, Distance, Flag, Kind, Length, Positive, Reach, Real, Weight
from pellucid.probe.probe import Drawn, Probe

USUAL = 224  # samples of the authors' images: their lengths are shares of the shortest side
CELLS = 28  # of their mask, along each axis: their weights are for 28 x 28 cells
RADII = 35  # balls tried for a start


@dataclass(frozen=True, eq=False)
class Region:
    """A map from outside, as a hint where to look: a Map or Image on its own grid, or a tensor (c, *space)."""

    given: Any

    def shares(self, probe: Probe) -> Tensor:
        """Its positive part, summed over channels, on the samples of ``x``: 1 where it reaches its 99th percentile."""
        raw = self.given if isinstance(self.given, Tensor) else self.given.values
        values = raw.detach().cpu().double().sum(0, keepdim=True)
        if not isinstance(self.given, Tensor) and self.given.grid != probe.grid:
            values = pull(values, probe.grid.shape, probe.grid.map_to(self.given.grid), fill=0.0)
        if tuple(values.shape[1:]) != tuple(probe.x.shape[1:]):
            raise BadParameter(f"a map of shape {tuple(probe.x.shape[1:])}", f"{tuple(values.shape[1:])}", "Give a Map, which has a grid.")
        values = values[0].clamp_min(0)
        if not bool((values > 0).any()):
            raise BadParameter("a map that is positive somewhere", "one that is not", "Give -map to follow what speaks against the target.")
        high = float(values.flatten().kthvalue(max(1, round(0.99 * values.numel()))).values)
        return (values / (high or float(values.max()))).clamp_max(1)

    def __repr__(self) -> str:
        raw = self.given if isinstance(self.given, Tensor) else self.given.values
        return f"<map {hashlib.sha256(raw.detach().cpu().double().contiguous().numpy().tobytes()).hexdigest()[:12]}>"


def _region(value: Any) -> Region:
    if isinstance(value, Region):
        return value
    if not isinstance(value, Tensor) and not (hasattr(value, "values") and hasattr(value, "grid")):
        raise ValueError(value)
    return Region(value)


NOWHERE = "nothing"  # the region to begin with that holds no sample


def _begin(value: Any) -> Region | str:
    return NOWHERE if isinstance(value, str) and value == NOWHERE else _region(value)


Hint = Annotated[Any, Kind("map", "a Map, an Image or a tensor (c, *space)", _region)]
Begin = Annotated[Any, Kind("start", "a Map, an Image or a tensor (c, *space), or 'nothing'", _begin)]


def _cost(steps: int, draws: int, start: Any, within: Any, **_: object) -> Cost:
    scan = RADII if start is None and within is None else 0
    return Cost(forward=2 + scan + steps * draws, backward=steps * draws)


@method(
    cite=Cite("Fong, Vedaldi", 2017, "Interpretable explanations of black boxes by meaningful perturbation", "ICCV", arxiv="1704.03296"),
    asks=GRADIENTS,
    gives=NOTHING,
    values=SHARES,
    cost=_cost,
    random=True,
    needs_space=True,
)
def meaningful_perturbation(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    *,
    variant: Literal["deletion", "preservation"] = "deletion",
    fill: Literal["blur", "noise", "constant"] = "blur",
    sigma: Length | None = None,
    jitter: Reach | None = None,
    draws: Count = 1,
    l1: Weight = 1e-4,
    tv: Weight = 1e-2,
    tv_beta: Positive = 3.0,
    cell: Length | None = None,
    smoothing: Reach | None = None,
    steps: Count = 300,
    rate: Positive = 0.1,
    amsgrad: Flag = False,
    falls: Count | None = None,
    warm: Count | None = None,
    best: Count | None = None,
    relative: Flag = True,
    hinge: Real | None = 0.05,
    start: Begin | None = None,
    within: Hint | None = None,
) -> Drawn:
    """The smallest smooth region whose deletion takes the score away (or which alone preserves it), from 0 outside to 1 inside.

    ``argmin over r in [0, 1] of mean over jitters of s((1 - r) * x + r * fill) + l1 * sum(r) + tv * sum(|grad r|^tv_beta)``; preservation:
    ``-s(r * x + (1 - r) * fill) + ...``; shape (1, *space) of the image or site. Sums are those of a mask of 28 x 28 cells.

    Args:
        variant: which of the two games; the region is what goes in one and what stays in the other.
        fill: what replaces: the image blurred by ``sigma``, ``noise`` over its range, or a ``constant``, the mean of each channel.
        sigma: of that blur; None: 10/224 of the shortest side, and in the same way for the lengths below.
        jitter: the image moves under the mask by up to half of this (None: 4/224; "0px": not at all). draws: moves per step.
        l1: what a region costs. tv: what its edges cost, to the power tv_beta: as the authors set them (to localize: 1e-3, tv_beta=2).
        cell: edge of a cell, None: 1/28. smoothing: blur of the mask, None: 5/224. steps: of Adam, at this rate: with or without amsgrad:
        falls: steps after which, each time, the rate falls to a tenth. warm: steps over which the costs come up from 0. best: step from
            which on the region of least loss is kept; None: the last one.
        relative: the score as a share from 0 (all filled) to 1 (as it is), so that costs suit any target; False: the score itself.
        hinge: a score within this of the goal is good enough (the last bit costs much region); None: no end, as the authors, who
            explain probabilities with ``relative=False``.
        start: a map to begin with, or ``"nothing"``; None: the smallest ball that does it, or all of ``within``.
        within: only where this map is positive; start and within one map: refined to the smallest region that preserves the score.

    Misleads when: the mask finds an artifact that moves the score (a blurred edge, an adversarial dot), or the fill hides little.

    Source: equations 3 and 5 and the authors' code. The trace has score and costs per step and the score of the result.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> pl.explain(net, torch.rand(1, 8, 8), 1, method="meaningful_perturbation", steps=2).values.shape
    torch.Size([1, 8, 8])
    """
    game = _Game(probe, variant, fill, _lengths(probe, sigma, 10 / USUAL), relative, hinge)
    inside = torch.ones(x.shape[1:], dtype=torch.float64) if within is None else (within.shares(probe) > 0).double()
    shape = _cells(probe, cell)
    matrices = enlarging(shape, probe.grid.shape, _lengths(probe, smoothing, 5 / USUAL))
    reach = [max(1, int(s / 2 + 0.5)) if s > 0 else 0 for s in _lengths(probe, jitter, 4 / USUAL)]
    cells = _pooled(_first(probe, game, start, within), shape).to(x.device)
    rule, weight, trace, kept = Adam(rate, amsgrad), CELLS**2 / math.prod(shape), _Trace(), _Kept(best, steps)
    for step in range(steps):
        with torch.enable_grad():
            cells = cells.detach().requires_grad_()
            region = along_axes(cells, matrices).clamp(0, 1) * inside.to(x.device)
            seen = [game.seen(shifted(x, m), region, m) for m in _moves(reach, draws, probe.random)]
            area, edges = weight * l1 * cells.abs().sum(), weight * tv * total_variation(cells, tv_beta)
            # under the same grad mode: explanations side by side run without one
            cost = (area + edges) * (1.0 if warm is None else min(step / warm, 1.0))
        scores, slopes = probe.ask([s.detach() for s in seen])
        pulls = [g.to(s) * game.slope(float(v)) / draws for s, v, g in zip(seen, scores, slopes, strict=True)]
        (gradient,) = torch.autograd.grad([*seen, cost], cells, [*pulls, torch.ones_like(cost)])
        kept.look(step, cells.detach(), float(cost.detach()) + sum(game.loss(float(v)) for v in scores) / draws)
        rule.rate = rate if falls is None else rate * 0.1 ** (step // falls)
        cells = rule.step(cells.detach(), gradient).clamp(0, 1)
        trace.add(float(scores.mean()), float(area.detach()), float(edges.detach()))
    cells = cells if kept.cells is None else kept.cells
    region = (along_axes(cells, matrices).clamp(0, 1) * inside.to(x.device))[None]
    return probe.map(region, None, area=float(region.mean()), image=game.whole, filled=game.none, **trace.lists)


class _Trace:
    """Score and costs of each step."""

    def __init__(self) -> None:
        self.lists: dict[str, list[float]] = {"scores": [], "l1": [], "tv": []}

    def add(self, *values: float) -> None:
        for found, value in zip(self.lists.values(), values, strict=True):
            found.append(value)


class _Kept:
    """The cells of least loss among those of a step and after it; none where that is not asked for."""

    def __init__(self, best: int | None, steps: int) -> None:
        self.begin, self.least = steps if best is None else min(best, steps - 1), math.inf
        self.cells: Tensor | None = None

    def look(self, step: int, cells: Tensor, loss: float) -> None:
        if step >= self.begin and loss <= self.least:
            self.cells, self.least = cells, loss


class _Game:
    """What is asked of a region: what the network sees, and how the loss moves with its score."""

    def __init__(self, probe: Probe, variant: str, fill: str, sigma: list[float], relative: bool, hinge: float | None) -> None:
        self.probe, self.deletes, self.noisy, self.hinge = probe, variant == "deletion", fill == "noise", hinge
        x = probe.x
        mean = x.double().flatten(1).mean(1).to(x).view(-1, *[1] * (x.ndim - 1)).expand_as(x)
        self.hidden = gaussian(x, sigma) if fill == "blur" else mean
        self.whole = probe.score()
        self.none = float(next(probe.scores([self.fill([0] * (x.ndim - 1))])).score)
        self.base, self.span = (self.none, self.whole - self.none) if relative else (0.0, 1.0)
        if abs(self.whole - self.none) < 1e-6 * (abs(self.whole) + abs(self.none)) + 1e-12:
            raise Unsupported(
                "a fill that changes the score", f"{self.none:.6g} filled, {self.whole:.6g} as it is", "Choose another fill or sigma."
            )

    def fill(self, move: list[int]) -> Tensor:
        if not self.noisy:
            return shifted(self.hidden, move)
        low, high = self.probe.range
        drawn = torch.rand(self.hidden.shape, generator=self.probe.random, dtype=torch.float64).to(self.hidden)
        return low.to(drawn) + (high - low).to(drawn) * drawn

    def seen(self, image: Tensor, region: Tensor, move: list[int]) -> Tensor:
        """The image with the region filled (deletion), or nothing but the region (preservation)."""
        keep = (1 - region if self.deletes else region).to(image)
        fill = self.fill(move)
        return fill + keep * (image - fill)

    def loss(self, score: float) -> float:
        """``max(0, share - hinge)`` (deletion) or ``max(0, 1 - hinge - share)``."""
        share, goal = (score - self.base) / self.span, (self.whole - self.base) / self.span
        missing = share if self.deletes else goal - share
        return missing if self.hinge is None else max(missing - self.hinge, 0.0)

    def slope(self, score: float) -> float:
        """Derivative of the loss by the score."""
        if self.hinge is not None and self.loss(score) == 0:
            return 0.0
        return (1.0 if self.deletes else -1.0) / self.span

    def done(self, score: float) -> bool:
        """Whether a region does 99 % of what filling (keeping) all does."""
        share = (score - self.none) / (self.whole - self.none)
        return share <= 0.01 if self.deletes else share >= 0.99


def _first(probe: Probe, game: _Game, start: Begin | None, within: Hint | None) -> Tensor:
    """The region to begin with, on the samples of ``x``: a map, nothing, all of ``within``, or the smallest centered ball that does it."""
    distance = from_center(probe.grid.shape, probe.grid.spacing)
    if start == NOWHERE:
        return torch.zeros_like(distance)
    if start is not None:
        found: Tensor = start.shares(probe)
        return found
    if within is not None:
        return torch.ones_like(distance)
    blur = 10 / USUAL * min(n * s for n, s in zip(probe.grid.shape, probe.grid.spacing, strict=True))
    still = [0] * (probe.x.ndim - 1)
    balls = (
        torch.special.ndtr((float(distance.max()) * k / (RADII - 1) + 2 * blur * (k == RADII - 1) - distance) / blur) for k in range(RADII)
    )
    chosen: Tensor | None = None
    for answer in probe.scores(balls, of=lambda ball: game.seen(probe.x, ball.to(probe.x), still)):
        if chosen is None and game.done(float(answer.score)):
            chosen = answer.asked
        last = answer.asked
    return last if chosen is None else chosen


def _lengths(probe: Probe, length: Length | Reach | None, share: float) -> list[float]:
    """A length in samples along each axis; None: a share of the shortest side."""
    shortest = min(n * s for n, s in zip(probe.grid.shape, probe.grid.spacing, strict=True))
    found = Distance(share * shortest, probe.grid.unit) if length is None else length
    assert isinstance(found, Distance)
    return list(samples(found, probe.grid))


def _cells(probe: Probe, cell: Length | None) -> list[int]:
    return [min(n, max(1, round(n / max(e, 1)))) for n, e in zip(probe.grid.shape, _lengths(probe, cell, 1 / CELLS), strict=True)]


def _pooled(region: Tensor, shape: list[int]) -> Tensor:
    """The mean of a region over each cell."""
    for axis, m in enumerate(shape):
        n = region.shape[axis]
        whose = ((torch.arange(n) + 0.5) * m / n).long().clamp_max(m - 1)
        mean = torch.zeros(m, n, dtype=torch.float64).index_put_((whose, torch.arange(n)), torch.ones((), dtype=torch.float64))
        region = ((region.movedim(axis, -1)) @ (mean / mean.sum(1, keepdim=True)).T).movedim(-1, axis)
    return region


def _moves(reach: list[int], draws: int, random: torch.Generator) -> Iterator[list[int]]:
    """Whole steps along each axis, each way alike."""
    for _ in range(draws):
        yield [int(torch.randint(-r, r + 1, (1,), generator=random)) if r else 0 for r in reach]


meaningful_perturbation_3d = short(
    "meaningful_perturbation_3d",
    meaningful_perturbation(
        cell="4px", sigma="10px", smoothing="1.4px", jitter="4px", draws=10, l1=3 / CELLS**2, tv=1 / CELLS**2, tv_beta=7.0, rate=0.3,
        amsgrad=True, falls=30, warm=60, best=51, start=NOWHERE,
    ),
)  # fmt: skip
"""The settings of a study of sex differences in brain volumes (58 x 70 x 58 samples), for its grid: Kan et al. 2020 (2006.15969) and its
code: nothing deleted at first, costs that come up over a fifth of the steps, a tenth of the rate every 30, the best mask after the 50th.
Otherwise than there, the mask moves to both sides, the blur reaches as far as its sigma says (theirs was cut at two samples, which the
smoothing of 1.4 samples stands for), and the hinge is on the share of the score (``relative=False``: on the score itself)."""
