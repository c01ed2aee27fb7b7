"""Masks that are optimized: coarse cells made a smooth mask, total variation, balls, shifts, and TorchRay's smooth maximum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.ops.blur import along, blur_matrix

COLDNESS = 20.0  # of the smooth maximum
MOST = 2**23  # products of samples and neighboring cells that are held at once


def enlarging(cells: Sequence[int], space: Sequence[int], sigma: Sequence[float]) -> list[Tensor]:
    """One matrix (n, cells) per axis: the nearest cell for each sample, then a Gaussian blur of ``sigma`` samples."""
    found = []
    for m, n, s in zip(cells, space, sigma, strict=True):
        nearest = torch.zeros(n, m, dtype=torch.float64)
        nearest[torch.arange(n), ((torch.arange(n) + 0.5) * m / n).long().clamp_max(m - 1)] = 1
        found.append(blur_matrix(n, s) @ nearest)
    return found


def along_axes(values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Multiply one matrix along each of the last axes."""
    first = values.ndim - len(matrices)
    for axis, matrix in enumerate(matrices):
        values = along(values, matrix, first + axis)
    return values


def total_variation(mask: Tensor, beta: float) -> Tensor:
    """``sum of (sum over axes of (forward difference)^2)^(beta / 2)`` over a mask (*space), with zero beyond its far edges."""
    squares = torch.zeros_like(mask)
    for axis in range(mask.ndim):
        change = mask.diff(dim=axis) ** 2
        pad = [0] * (2 * mask.ndim)
        pad[2 * (mask.ndim - 1 - axis) + 1] = 1
        squares = squares + torch.nn.functional.pad(change, pad)
    return (squares.clamp_min(1e-10) ** (beta / 2) if beta < 2 else squares ** (beta / 2)).sum()


def from_center(space: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """Distance of each sample from the center of a grid, float64 (*space)."""
    square = torch.zeros((), dtype=torch.float64)
    for axis, (n, s) in enumerate(zip(space, spacing, strict=True)):
        at = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * s
        square = square + (at**2).view([-1 if a == axis else 1 for a in range(len(space))])
    return square.sqrt()


def shifted(x: Tensor, by: Sequence[int]) -> Tensor:
    """An image (c, *space) moved by whole samples; what comes in repeats the edge."""
    for axis, step in enumerate(by):
        if step:
            n = x.shape[axis + 1]
            x = x.index_select(axis + 1, (torch.arange(n, device=x.device) + step).clamp(0, n - 1))
    return x


@dataclass(frozen=True, eq=False)
class SmoothMaximum:
    """A mask from cells by a soft maximum over the neighbors of each sample: ``sum(w * softmax(20 w))``, ``w = kernel(d) * cell``.

    Fong, Patrick, Vedaldi 2019, section 3.3; kernel and neighborhood as in TorchRay: ``exp(-2 max(0, d / sigma - 1/2)^2)``, cells up to
    ``1 + ceil(sigma / step)`` from the one before the sample, also beyond the edge, where they are zero. Cells lie ``step`` apart,
    centered on the image. ``step``, ``sigma``, ``spacing`` are in one unit. Where samples times neighbors would not fit, the mask is
    worked out on fewer samples, evenly spread, and interpolated linearly: it is smooth on the scale of sigma.
    """

    space: tuple[int, ...]
    spacing: tuple[float, ...]
    step: float
    sigma: float

    @property
    def cells(self) -> tuple[int, ...]:
        return tuple(int((n - 1) * s / self.step + 1e-9) + 1 for n, s in zip(self.space, self.spacing, strict=True))

    @property
    def radius(self) -> int:
        return 1 + math.ceil(self.sigma / self.step - 1e-9)

    def places(self) -> tuple[list[Tensor], list[Tensor]]:
        """Per axis: where the mask is worked out (in steps from the first cell), and the matrix from there to the samples."""
        room = MOST // (2 * self.radius + 1) ** len(self.space)
        share = min(1.0, room / math.prod(self.space)) ** (1 / len(self.space))
        at, matrices = [], []
        for n, s, m in zip(self.space, self.spacing, self.cells, strict=True):
            few = n if share == 1 else max(2, int(n * share))
            points = torch.linspace(0, n - 1, few, dtype=torch.float64) if few < n else torch.arange(n, dtype=torch.float64)
            at.append((points * s - ((n - 1) * s - (m - 1) * self.step) / 2) / self.step)
            between = torch.arange(n, dtype=torch.float64) * (few - 1) / max(n - 1, 1)
            matrices.append((1 - (between[:, None] - torch.arange(few)).abs()).clamp_min(0) if few < n else torch.eye(n).double())
        return at, matrices

    def ready(self, like: Tensor) -> _Ready:
        """The kernel's weights and the neighbors' places, worked out once."""
        at, matrices = self.places()
        lower = [(a + 1e-9).floor() for a in at]
        pad = max(1 + self.radius + int(max(low.max() - m, -low.min())) for low, m in zip(lower, self.cells, strict=True))
        width = [m + 2 * pad for m in self.cells]
        points = [len(a) for a in at]
        kernels, neighbors = [], []
        for offset in itertools.product(range(-self.radius, self.radius + 1), repeat=len(at)):
            square, flat = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.int64)
            for axis, (a, low, o) in enumerate(zip(at, lower, offset, strict=True)):
                view = [-1 if b == axis else 1 for b in range(len(at))]
                square = square + ((a - low - o) ** 2).view(view)
                flat = flat * width[axis] + (low.long() + o + pad).view(view)
            distance = square.sqrt() * self.step / self.sigma
            kernels.append((-2 * (distance - 0.5).clamp_min(0) ** 2).exp().expand(points).to(like))
            neighbors.append(flat.expand(points))
        return _Ready(torch.stack(kernels, -1), torch.stack(neighbors, -1).to(like.device), pad, [m.to(like) for m in matrices])


@dataclass(frozen=True, eq=False)
class _Ready:
    """``kernel`` and ``neighbors`` (*points, k); cells are padded by ``pad``; ``matrices`` lead from points to samples."""

    kernel: Tensor
    neighbors: Tensor
    pad: int
    matrices: list[Tensor]

    def mask(self, cells: Tensor) -> Tensor:
        """A mask (*space) in [0, 1] from cells in [0, 1]; differentiable."""
        padded = torch.nn.functional.pad(cells, [self.pad] * (2 * cells.ndim))
        w = self.kernel * padded.flatten().gather(0, self.neighbors.flatten()).view_as(self.neighbors)  # its gradient is a fast sum
        soft = (w * torch.softmax(COLDNESS * w, -1)).sum(-1).clamp(0, 1)
        return along_axes(soft, self.matrices) if any(len(m) != m.shape[1] for m in self.matrices) else soft
