"""Patches of an image, and orders in which they are taken away: by a map, by chance as smooth as the map, by the image's edges."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.baseline import samples
from pellucid.grid import Grid
from pellucid.ops.blur import gaussian
from pellucid.params import Distance

COUNT = {2: 256, 3: 512}
STILL = 0.02  # patches that change less than this share of the most changed one have no content to take away


@dataclass(frozen=True, eq=False)
class Patches:
    """A division of the image into equal patches: ``index`` (*space) says which one a sample belongs to; ``live`` are those with content."""

    index: Tensor
    shape: tuple[int, ...]
    live: Tensor

    @classmethod
    def of(cls, grid: Grid, x: Tensor, neutral: Tensor, unit: Tensor | float = 1.0) -> Patches:
        """About 256 (2D) or 512 (3D) patches, as square in the patient as the grid allows; ``unit``: one step of each channel, ``Setting.unit``."""
        extent = [n * s for n, s in zip(grid.shape, grid.spacing, strict=True)]
        edge = (math.prod(extent) / COUNT[grid.ndim]) ** (1 / grid.ndim)
        shape = tuple(max(1, min(n, round(e / edge))) for n, e in zip(grid.shape, extent, strict=True))
        index = _index(grid.shape, shape)
        whole = cls(index, shape, torch.arange(math.prod(shape)))
        moved = whole.mean(((x - neutral).abs() / torch.as_tensor(unit).to(x)).sum(0))
        live = (moved > STILL * moved.max()).nonzero().flatten()
        return cls(index, shape, live)

    @classmethod
    def cut(cls, grid: Grid, edge: Distance) -> Patches:
        """Squares or cubes of this edge, rounded so that they fill the grid evenly; all of them count as having content."""
        edges = samples(edge, grid)
        shape = tuple(min(n, max(1, round(n / e))) for n, e in zip(grid.shape, edges, strict=True))
        return cls(_index(grid.shape, shape), shape, torch.arange(math.prod(shape)))

    @classmethod
    def pieces(cls, labels: Tensor) -> Patches:
        """Pieces of any form: ``labels`` (*space) from 0 without holes. They have no neighbors: their orders are those of a map."""
        n = int(labels.max()) + 1
        return cls(labels.cpu(), (n,), torch.arange(n))

    def mean(self, values: Tensor) -> Tensor:
        """Mean of (*space) in every patch, float64."""
        flat = self.index.flatten()
        total = torch.zeros(math.prod(self.shape), dtype=torch.float64).index_add_(0, flat, values.double().cpu().flatten())
        return total / flat.bincount(minlength=len(total))

    def order(self, values: Tensor, chance: torch.Generator) -> Tensor:
        """Live patches from the highest mean of (*space) to the lowest; ties in random order."""
        return self.ranked(self.mean(values), chance)

    def ranked(self, means: Tensor, chance: torch.Generator) -> Tensor:
        """Live patches from the highest of these values, one a patch, to the lowest; ties in random order."""
        found = means[self.live]
        mixed = torch.randperm(len(found), generator=chance)
        return self.live[mixed[found[mixed].argsort(descending=True, stable=True)]]

    def noise(self, smooth: float, chance: torch.Generator) -> Tensor:
        """Gaussian noise blurred by ``smooth`` patches, one value a patch."""
        drawn = torch.randn((1, *self.shape), generator=chance, dtype=torch.float64)
        return gaussian(drawn, [smooth] * len(self.shape))[0].flatten()

    def random_order(self, smooth: float, chance: torch.Generator) -> Tensor:
        """Live patches in the order of such noise."""
        return self.live[self.noise(smooth, chance)[self.live].argsort(descending=True)]

    def smoothness(self, values: Tensor, most: float = 4.0) -> float:
        """Width, in patches, of the blur whose noise is correlated between neighbors as the map (*space) is; 0 for none, ``most`` at most."""
        field = self.mean(values).view(self.shape)
        field = field - field.mean()
        top = bottom = 0.0
        for axis, n in enumerate(self.shape):
            if n > 1:
                a, b = field.narrow(axis, 0, n - 1), field.narrow(axis, 1, n - 1)
                top += float((a * b).sum())
                bottom += float(((a * a).sum() * (b * b).sum()).sqrt())
        r = top / bottom if bottom > 0 else 0.0
        # noise blurred by s has the correlation exp(-1 / (4 s^2)) between neighbors
        return 0.0 if r <= 0.02 else min(most, math.sqrt(-1 / (4 * math.log(min(r, math.exp(-1 / (4 * most**2)))))))

    def without(self, x: Tensor, neutral: Tensor, patches: Tensor) -> Tensor:
        """The image (c, *space) with these patches exchanged for the neutral image's."""
        return torch.where(self.gone(patches).to(x.device), neutral, x)

    def gone(self, patches: Tensor) -> Tensor:
        """Which samples these patches hold, (*space)."""
        found = torch.zeros(math.prod(self.shape), dtype=torch.bool)
        found[patches] = True
        return found[self.index]


def _index(space: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """The number of the patch that each sample belongs to, when a grid is divided evenly into so many."""
    index = torch.zeros(space, dtype=torch.long)
    for axis, (n, k) in enumerate(zip(space, shape, strict=True)):
        along = (torch.arange(n) * k) // n
        index = index * k + along.view([-1 if a == axis else 1 for a in range(len(space))])
    return index
