"""Extremal perturbation: of all smooth regions of a given area, the one that raises the score most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import samples
from pellucid.method import GRADIENTS, NOTHING, SHARES, Cite, Cost, method
from pellucid.ops.blur import Edge, gaussian
from pellucid.ops.descent import Momentum
from pellucid.ops.masks import SmoothMaximum, shifted
from pellucid.params import Count, Distance, Kind, Length, Positive, Reach
from pellucid.probe.probe import Drawn, Probe

USUAL = 224  # samples of the authors' images: their lengths are shares of the shortest side
FEW = 1024  # cells of the authors' masks; the slope for each of more is so much smaller
TIE = 0.05  # mask values closer than this to the one at the edge of the area are ordered by what they gain
FIRM, FIRMER = 300.0, 1.0035  # weight of the area, and by what it grows each step


def _areas(value: Any) -> tuple[float, ...]:
    areas = tuple(float(v) for v in ([value] if isinstance(value, (int, float)) else value))
    if isinstance(value, (bool, str)) or not areas or any(not 0 < a < 1 for a in areas):
        raise ValueError
    return areas


Areas = Annotated[float | Sequence[float], Kind("areas", "a share of the image between 0 and 1, or several", _areas)]


def _cost(areas: tuple[float, ...], steps: int, variant: str, **_: object) -> Cost:
    passes = steps * len(areas) * (2 if variant == "dual" else 1)
    return Cost(forward=passes + len(areas), backward=passes)


@method(
    cite=Cite("Fong, Patrick, Vedaldi", 2019, "Understanding deep networks via extremal perturbations", "ICCV", arxiv="1910.08485"),
    asks=GRADIENTS,
    gives=NOTHING,
    values=SHARES,
    cost=_cost,
    random=True,
    needs_space=True,
)
def extremal_perturbation(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    *,
    areas: Areas = 0.1,
    variant: Literal["preserve", "delete", "dual"] = "preserve",
    perturbation: Literal["blur", "fade"] = "blur",
    levels: Count = 8,
    max_sigma: Length | None = None,
    edge: Edge = "nearest",
    step: Length | None = None,
    sigma: Length | None = None,
    jitter: Reach | None = None,
    steps: Count = 800,
    rate: Positive = 0.01,
) -> Drawn:
    """Which smooth region of a given area, shown alone, raises the score most; for several areas the share of them that hold a sample.

    ``argmax over m of s(m shown, the rest perturbed) - weight * mean((sort(m) - ramp(area))^2)``, the weight growing step by step; a mask
    m is a smooth maximum over coarse cells (``ops.masks.SmoothMaximum``). Shape (1, *space) of the image or site, from 0 to 1.

    Args:
        areas: shares of the image, one mask each, found side by side; the trace keeps each mask, its score and its area.
        variant: the mask is shown (``preserve``), hidden (``delete``: the score falls most), or the difference counts (``dual``).
        perturbation: ``blur``, or ``fade`` to zero. levels: stages between which a mask value interpolates.
        max_sigma: the strongest blur; None: 20/224 of the shortest side. edge: what lies beyond the edge of a blur.
        step: distance of cells, None: 7/224. sigma: of the mask's edges, None: three steps.
        jitter: the perturbed image moves by up to half of this (None: 4/224; "0px": not at all). It stands for the authors' mirroring of
            every second image, which is wrong where left and right differ.
        steps: of gradient ascent with momentum 0.9, at this rate: the authors' for 32 x 32 cells, in proportion for more.

    Misleads when: the area fits the sign badly (a mask must fill it, with whatever helps), or blurred surroundings are themselves a
        finding. Scores (logits) are weighed against the area as they are: very small ones are ignored.

    Source: equations 1 to 6; settings from TorchRay, but area counts within the image, on which cells are centered, and nearly equal
        mask values are ordered by their gain.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> pl.explain(net, torch.rand(1, 8, 8), 1, method="extremal_perturbation", steps=2).values.shape
    torch.Size([1, 8, 8])
    """
    assert isinstance(areas, tuple)
    stages = _stages(x, perturbation, levels, _samples(probe, max_sigma, 20 / USUAL), edge)
    ready, cells, wide = _masks(probe, step, sigma, len(areas))
    reach = [max(1, int(s / 2 + 0.5)) if s > 0 else 0 for s in _samples(probe, jitter, 4 / USUAL)]
    ramp = torch.stack([_ramp(a, x) for a in areas])
    signs = {"preserve": [1], "delete": [-1], "dual": [1, -1]}[variant]
    rule, firm = Momentum(rate * max(1.0, cells[0].numel() / FEW)), FIRM
    trace: dict[str, list[list[float]]] = {"rewards": [], "misfit": []}
    for _ in range(steps):
        move = [int(torch.randint(-r, r + 1, (1,), generator=probe.random)) if r else 0 for r in reach]
        with torch.enable_grad():
            cells = cells.detach().requires_grad_()
            masks = [ready.mask(c) for c in cells]
            seen = [shifted(_perturbed(stages, m if sign > 0 else 1 - m), move) for sign in signs for m in masks]
        scores, slopes = probe.ask([s.detach() for s in seen])
        pulls = [-sign * g for sign, g in zip([s for s in signs for _ in masks], slopes, strict=True)]
        losing = torch.autograd.grad(seen, masks, pulls, retain_graph=True)  # how the loss grows with the mask
        flat = torch.stack([m.detach().flatten() for m in masks])
        back = torch.stack([(shifted(g, [-m for m in move]) * (x - stages[0])).sum(0) for g in slopes])
        gain = gaussian(back.view(len(signs), len(masks), *x.shape[1:]).sum(0), wide)  # of showing a sample, to first order
        wanted = _wanted(flat, ramp, gain.flatten(1))
        pushed = [g + 2 * firm * (m - w).view_as(g) / w.numel() for g, m, w in zip(losing, flat, wanted, strict=True)]
        (gradient,) = torch.autograd.grad(masks, cells, pushed)
        cells = rule.step(cells.detach(), gradient).clamp(0, 1)
        rewards = (scores.view(len(signs), -1) * torch.tensor(signs)[:, None]).sum(0)
        trace["rewards"].append(rewards.tolist())
        trace["misfit"].append(((flat - wanted) ** 2).mean(1).tolist())
        firm *= FIRMER
    found = torch.stack([ready.mask(c) for c in cells])
    shown = [float(a.score) for a in probe.scores([_perturbed(stages, m) for m in found])]
    told = {"areas": list(areas), "scores": shown, "found_areas": found.flatten(1).mean(1).tolist(), "masks": found.cpu()}
    return probe.map(found.mean(0, keepdim=True), None, **trace, **told)


def _samples(probe: Probe, length: Length | Reach | None, share: float) -> tuple[float, ...]:
    """A length in samples along each axis; None: a share of the shortest side."""
    found = Distance(share * _shortest(probe), probe.grid.unit) if length is None else length
    assert isinstance(found, Distance)
    return samples(found, probe.grid)


def _shortest(probe: Probe) -> float:
    return min(n * s for n, s in zip(probe.grid.shape, probe.grid.spacing, strict=True))


def _masks(probe: Probe, step: Length | None, sigma: Length | None, count: int) -> Any:
    """The maker of masks, and its cells, all open."""
    grid = probe.grid
    unit = "px" if isinstance(step, Distance) and step.unit == "px" else grid.unit
    spacing = (1.0,) * grid.ndim if unit == "px" else grid.spacing
    apart = _samples(probe, step, 7 / USUAL)[0] * spacing[0]
    width = 3 * apart if sigma is None else _samples(probe, sigma, 0)[0] * spacing[0]
    maker = SmoothMaximum(grid.shape, spacing, max(apart, min(spacing)), width)
    cells = torch.ones((count, *maker.cells), dtype=probe.x.dtype, device=probe.x.device)
    return maker.ready(probe.x), cells, [width / s for s in spacing]


def _stages(x: Tensor, perturbation: str, levels: int, sigma: tuple[float, ...], edge: Edge) -> Tensor:
    """The image (levels + 1, c, *space) from all perturbed to untouched; the last is repeated, so that there is always a next one."""
    shares = [k / max(levels - 1, 1) for k in range(levels)]
    made = [x * s if perturbation == "fade" else gaussian(x, [(1 - s) * n for n in sigma], edge) for s in shares]
    return torch.stack([*made, x])


def _perturbed(stages: Tensor, mask: Tensor) -> Tensor:
    """Between the two stages that a mask value lies between; differentiable in the mask."""
    at = mask * (len(stages) - 2)
    lower = at.detach().floor()
    index = lower.long().expand(stages.shape[1:])[None]
    below, above = stages.gather(0, index)[0], stages.gather(0, index + 1)[0]
    return below + (at - lower) * (above - below)


def _wanted(masks: Tensor, ramp: Tensor, gain: Tensor) -> Tensor:
    """What the area asks of each sample: the ramp in the order of the masks' values (k, n).

    Values near the one at which the ramp steps, all of them at first, are ordered by what they gain, and share where that is equal; else
    the order in memory would decide where the mask goes, before the score does.
    """
    values, order = masks.sort(1)
    edge = values.gather(1, (ramp == 0).sum(1, keepdim=True).clamp_max(ramp.shape[1] - 1))
    wanted = torch.zeros_like(ramp).scatter_(1, order, ramp)
    for row, near, levels, gains, steps in zip(wanted, (values - edge).abs() <= TIE, order, gain, ramp, strict=True):
        which = levels[near]
        _, place, count = torch.unique(gains[which], return_inverse=True, return_counts=True)
        group = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
        row[which] = (torch.zeros(len(count)).to(row).index_add_(0, group, steps[near]) / count)[place]
    return wanted


def _ramp(area: float, x: Tensor) -> Tensor:
    """The sorted values of a perfect mask of an area."""
    size = x[0].numel()
    ramp = torch.ones(size, dtype=x.dtype, device=x.device)
    ramp[: int(size * (1 - area))] = 0
    return ramp
