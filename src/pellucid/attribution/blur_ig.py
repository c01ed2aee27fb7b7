"""Blur integrated gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.grid import Grid
from pellucid.method import COMPLETE, GRADIENTS, SIGNED, Cite, Cost, method
from pellucid.ops.blur import Edge, gaussian
from pellucid.ops.quadrature import nodes
from pellucid.params import Axes, Count, Distance, Length
from pellucid.probe.probe import Drawn, Probe


@method(
    cite=Cite("Xu, Venugopalan, Sundararajan", 2020, "Attribution in scale and space", "CVPR", arxiv="2004.03383"),
    asks=GRADIENTS,
    gives=SIGNED | COMPLETE,
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
) -> Drawn:
    """How much each sample contributes to s(x) - s(blurred x), as detail comes back from coarse to fine; no baseline image is chosen.

    ``sum over k of d s / d x at blur(x, sigma_k) * (blur(x, a_k) - blur(x, b_k))`` where [a_k, b_k] split [0, max_sigma] and hold sigma_k;
    shape (c, *space), in units of the score. The trace says contribution, score and logits of all classes per sigma.

    Args:
        max_sigma: width of the strongest blur, isotropic in the patient; None: a quarter of the shortest blurred side.
        steps: gradients. Nodes and steps are Gauss-Legendre's, densest at the sharp end; the sum is exact for linear networks.
        spacing: what they are laid out in: ``linear`` sigma, or ``sqrt``: its square (diffusion time), which dwells on coarse scales.
        axes: spatial axes to blur along, such as 0 for a spectrogram's frequency; None: all.
        edge: beyond the edge lie copies of it (``nearest``) or, as in the authors' code, zeros (``zero``), which darken the border.

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
    values, trace = torch.zeros_like(x, dtype=torch.float64), _Trace()
    path = _path(x.double(), per_axis, spacing, steps, edge)
    for answer in probe.gradients(path, of=lambda p: p[1]):
        part, _, gained = answer.asked
        given = answer.gradient.double() * gained
        values += given
        trace.add(part * widest.value, float(given.sum()), answer.score, answer.classes)
    blurred = next(probe.scores([gaussian(x.double(), per_axis, edge)]))
    change = probe.score() - float(blurred.score)
    gap = float(values.sum()) - change
    return probe.map(values, None, change=change, gap=gap, max_sigma=widest.value, unit=widest.unit, **trace.lists)


class _Trace:
    """What the path tells per sigma, from sharp to blurred."""

    def __init__(self) -> None:
        self.lists: dict[str, list[object]] = {"sigmas": [], "contributions": [], "scores": [], "classes": []}

    def add(self, sigma: float, contribution: float, score: Tensor, classes: Tensor) -> None:
        for found, value in zip(self.lists.values(), (sigma, contribution, float(score), classes.tolist()), strict=True):
            found.append(value)


def _path(x: Tensor, sigma: list[float], spacing: str, steps: int, edge: Edge) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Per step: the node as a share of the widest blur, the image there, and what the step gives back to the image."""
    t, weights = nodes("gauss", steps)
    ends = list(itertools.accumulate(weights))
    stretch = math.sqrt if spacing == "sqrt" else float

    def blur(share: float) -> Tensor:
        return gaussian(x, [share * s for s in sigma], edge)

    sharper = x
    for node, end in zip(t, ends, strict=True):
        duller = blur(stretch(end))
        yield stretch(node), blur(stretch(node)), sharper - duller
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
