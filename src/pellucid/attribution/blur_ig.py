"""Blur integrated gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.grid import Grid
from pellucid.method import COMPLETE, CONTRIBUTIONS, GRADIENTS, SIGNED, Cite, Cost, method
from pellucid.ops.blur import Edge, gaussian
from pellucid.ops.quadrature import nodes
from pellucid.params import Axes, Count, Distance, Flag, Length
from pellucid.probe.probe import Answer, Drawn, Probe


@method(
    cite=Cite("Xu, Venugopalan, Sundararajan", 2020, "Attribution in scale and space", "CVPR", arxiv="2004.03383"),
    asks=GRADIENTS,
    gives=SIGNED | COMPLETE,
    values=CONTRIBUTIONS,
    cost=lambda steps, **_: Cost(forward=steps + 2, backward=steps),
    needs_space=True,
)
def blur_ig(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    *,
    max_sigma: Length | None = None,
    steps: Count = 100,
    spacing: Literal["linear", "sqrt"] = "linear",
    axes: Axes | None = None,
    edge: Edge = "nearest",
    keep: Flag = False,
) -> Drawn:
    """How much each sample contributes to s(x) - s(blurred x), as detail comes back from coarse to fine; no baseline image is chosen.

    ``sum over k of d s / d x at blur(x, sigma_k) * (blur(x, a_k) - blur(x, b_k))`` where [a_k, b_k] split [0, max_sigma] and hold sigma_k;
    shape (c, *space), in units of the score. The trace holds per sigma the contribution (the map's place in scale: its sum over the step
    between two ``edges``), the score, and of all classes logits (``classes``) and probabilities; if one axis alone is blurred also the
    contribution per place on it (``bins``).

    Args:
        max_sigma: width of the strongest blur, the same in mm along all axes; None: a quarter of the shortest blurred side.
        steps: gradients. Nodes and steps are Gauss-Legendre's, densest at the sharp end; the sum is exact for linear networks.
        spacing: what they are laid out in: ``linear`` sigma, or ``sqrt``: its square (diffusion time), which dwells on coarse scales.
        axes: spatial axes to blur along, such as 0 for a spectrogram's frequency; None: all.
        edge: beyond the edge lie copies of it (``nearest``) or, as in the authors' code, zeros (``zero``), which darken the border.
        keep: hold the map of every step in the trace (``maps``); memory then grows by one image per step.

    Misleads when: the sign is coarse and survives the blur, or blurring itself makes one (blobs); the ring around an edge is the
        blur's, not the network's. The score may rise on the way: see the trace.

    Source: equation 4; the authors' code sums on the left with a difference quotient of the blur.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> why = pl.explain(net, torch.rand(1, 8, 8), target=1, method="blur_ig", steps=4)
    >>> abs(why.trace["gap"]) < 1e-5
    True
    """
    along = _axes(axes, probe.grid)
    widest = _widest(max_sigma, probe.grid, along)
    per_axis = [s if a in along else 0.0 for a, s in enumerate(probe.samples(widest))]
    values, trace = torch.zeros_like(x, dtype=torch.float64), _Trace(probe, widest)
    if keep:
        trace.found["maps"] = torch.zeros(steps, *x.shape, dtype=x.dtype)
    path = _path(x.double(), per_axis, spacing, steps, edge)
    for k, answer in enumerate(probe.gradients(path, of=lambda p: p.image)):
        given = answer.gradient.double() * answer.asked.gained
        values += given
        trace.add(answer, float(given.sum()))
        if keep:
            trace.found["maps"][k] = given
    if len(along) == 1:
        trace.found["bins"] = values.movedim(along[0] + 1, 0).flatten(1).sum(1).tolist()
    blurred = next(probe.scores([gaussian(x.double(), per_axis, edge)]))
    change = probe.score() - float(blurred.score)
    gap = float(values.sum()) - change
    probe.missed(gap, change, "give more steps")
    return probe.map(values, change=change, gap=gap, **trace.found)


@dataclass(frozen=True, eq=False)
class _Step:
    """A step of the path: its node and its dull end as shares of the widest blur, the image at the node, what the step gives back."""

    node: float
    end: float
    image: Tensor
    gained: Tensor


class _Trace:
    """What the path tells per sigma, from sharp to blurred."""

    def __init__(self, probe: Probe, widest: Distance) -> None:
        self.probe, self.widest = probe, widest.value
        self.found: dict[str, Any] = {"sigmas": [], "edges": [0.0], "contributions": [], "scores": []}
        self.found |= {"classes": [], "probabilities": []}
        self.found |= {"max_sigma": widest.value, "unit": widest.unit}

    def add(self, answer: Answer, contribution: float) -> None:
        step, found = answer.asked, self.found
        found["sigmas"].append(step.node * self.widest)
        found["edges"].append(step.end * self.widest)
        found["contributions"].append(contribution)
        found["scores"].append(float(answer.score))
        found["classes"].append(answer.classes.tolist())
        found["probabilities"] += self.probe.probabilities([answer.classes])


def _path(x: Tensor, sigma: list[float], spacing: str, steps: int, edge: Edge) -> Iterator[_Step]:
    """The steps from sharp to blurred, one at a time."""
    t, weights = nodes("gauss", steps)
    ends = list(itertools.accumulate(weights))
    stretch = math.sqrt if spacing == "sqrt" else float

    def blur(share: float) -> Tensor:
        return gaussian(x, [share * s for s in sigma], edge)

    sharper = x
    for node, end in zip(t, ends, strict=True):
        duller = blur(stretch(end))
        yield _Step(stretch(node), stretch(end), blur(stretch(node)), sharper - duller)
        sharper = duller


def _axes(axes: Axes | None, grid: Grid) -> tuple[int, ...]:
    assert axes is None or isinstance(axes, tuple)
    along = tuple(range(grid.ndim)) if axes is None else axes
    if max(along) >= grid.ndim:
        raise BadParameter(f"axes of an image in {grid.ndim} dimensions", f"axes={axes}", f"Choose from 0 to {grid.ndim - 1}.")
    return along


def _widest(max_sigma: Length | None, grid: Grid, along: tuple[int, ...]) -> Distance:
    if max_sigma is None:
        return Distance(min(grid.shape[a] * grid.spacing[a] for a in along) / 4, grid.unit)
    assert isinstance(max_sigma, Distance)
    return Distance(max_sigma.value, max_sigma.unit or grid.unit)
