"""XRAI: regions instead of samples."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import samples
from pellucid.features.segments import Cuts, Segments, scales
from pellucid.grid import Grid
from pellucid.method import BY_OTHERS, SIGNED, Cite, Cost, Inner, Method, method
from pellucid.ops.regions import rank, widened
from pellucid.ops.resample import pull
from pellucid.params import Distance, Fraction, Reach
from pellucid.probe.probe import Drawn, Probe

WIDEN = 5 / 224  # of the shortest side: the authors widen by 5 of 224 samples


def _cost(inner: Inner, shape: tuple[int, ...], grid: Grid, **_: object) -> Cost:
    assert isinstance(inner, Method)
    return inner.cost(shape, grid)


@method(
    cite=Cite("Kapishnikov, Bolukbasi, Viégas, Terry", 2019, "XRAI: better attributions through regions", "ICCV", arxiv="1906.02825"),
    asks=BY_OTHERS,
    gives=SIGNED,
    values=lambda inner, **_: inner.facts.values,
    cost=_cost,
)
def xrai(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    *,
    inner: Inner = "integrated_gradients(baseline=black_and_white)",
    segments: Segments | None = None,
    channels: Literal["max", "sum"] = "max",
    least: Fraction = 0.001,
    widen: Reach | None = None,
) -> Drawn:
    """How dense another method's relevance is in the region that a sample belongs to, regions taken from the densest on.

    ``mean over a region's new samples of inner(x)``: again and again the region is taken whose samples not yet covered have the highest
    mean; they get it. Shape (1, *space) of the image, in the inner method's unit; with ``sum`` its sum is kept, too.

    Args:
        inner: the method whose relevance is gathered; at a hidden site its map is read on the image.
        segments: regions, overlapping if of several scales: a cut, given labels, or a list of them. None: felzenszwalb at six scales in
            2D, supervoxels (SLIC) at four in 3D, isotropic in mm.
        channels: how channels become one number: ``max``, as the authors' code, or ``sum``.
        least: regions that would add less of the image than this are dropped; what none covers gets its own mean.
        widen: how far regions reach beyond their edges; None: 5/224 of the shortest side, but given labels stay as they are.

    Misleads when: the segments cut or merge signs (the map is as coarse as they are, and follows the image's edges whatever the network
        saw: compare the inner map), or single samples carry a region.

    Source: algorithm 1 and the authors' code, which cuts at 224 x 224 samples. The trace has the regions' densities and ranks.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> why = pl.explain(net, torch.rand(1, 8, 8), 1, method="xrai", inner="saliency", segments="slic(4)")
    >>> why.values.unique().numel() <= 5
    True
    """
    assert isinstance(inner, Method)
    image, grid = probe.comparable, probe.image.grid
    drawn = inner.answer(probe, x)
    gathered = (drawn.values.amax(0, keepdim=True) if channels == "max" else drawn.values.sum(0, keepdim=True)).double().cpu()
    if drawn.grid != grid:
        gathered = pull(gathered, grid.shape, grid.map_to(drawn.grid))
    cut = segments if isinstance(segments, Cuts) else scales(grid.ndim)
    reach = _widening(widen, cut, grid)
    regions = [r for labels in cut.labels(image, grid) for r in widened(labels, reach)]
    found = rank(gathered.numpy().ravel(), regions, round(least * gathered.numel()))
    by_density = np.argsort(np.argsort(-np.array(found.density), kind="stable"), kind="stable") + 1
    ranks = np.append(by_density, len(found.density) + 1)[found.order - 1]  # order 0, which no region covers, comes last
    told = {"density": sorted(found.density, reverse=True), "ranks": torch.from_numpy(ranks).view(grid.shape), "inner": gathered}
    return probe.map(torch.from_numpy(found.values).view(1, *grid.shape).to(image.device), grid, **told)


def _widening(widen: Reach | None, cut: Cuts, grid: Grid) -> tuple[float, ...]:
    """How far regions are widened, in samples along each axis."""
    if widen is None:
        shortest = min(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
        widen = Distance(0.0 if cut.given else WIDEN * shortest, grid.unit)
    assert isinstance(widen, Distance)
    return samples(widen, grid)
