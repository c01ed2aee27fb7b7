"""The one resampler of the house: linear or nearest, by an affine between indices; density or mass."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Keep = Literal["density", "mass"]


def _positions(shape: tuple[int, ...], matrix: NDArray[np.float64]) -> Tensor:
    """Where the samples of a grid of ``shape`` lie in the other grid's index, float64, shape (*shape, d)."""
    d = len(shape)
    m = torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float64))
    out = m[:d, d].expand(*shape, d).clone()
    for a in range(d):
        steps = torch.arange(shape[a], dtype=torch.float64).view([-1 if b == a else 1 for b in range(d)] + [1])
        out += steps * m[:d, a]
    return out


def _corners(at: Tensor, shape: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    """For each of the 2^d neighbors: flat index (clamped) and linear weight."""
    low = at.floor()
    part = at - low
    found = []
    for bits in itertools.product((0, 1), repeat=len(shape)):
        weight = torch.ones(at.shape[:-1], dtype=torch.float64)
        flat = torch.zeros(at.shape[:-1], dtype=torch.int64)
        for a, bit in enumerate(bits):
            weight = weight * (part[..., a] if bit else 1 - part[..., a])
            flat = flat * shape[a] + (low[..., a] + bit).clamp(0, shape[a] - 1).long()
        found.append((flat, weight))
    return found


def pull(
    values: Tensor, shape: tuple[int, ...], matrix: NDArray[np.float64], *, nearest: bool = False, fill: float | None = None
) -> Tensor:
    """Values (c, *space) read at the samples of another grid; ``matrix`` maps its index to ours.

    Linear or nearest. Beyond the half sample around the outermost centers ``fill`` is given (None: the edge value).
    """
    space = tuple(values.shape[1:])
    at = _positions(tuple(shape), matrix)
    limit = torch.tensor(space, dtype=torch.float64) - 1
    outside = ((at < -0.5 - 1e-6) | (at > limit + 0.5 + 1e-6)).any(-1)
    at = at.clamp(torch.zeros_like(limit), limit)
    flat = values.flatten(1)
    work = torch.float64 if values.dtype == torch.float64 else torch.float32
    if nearest:
        index = (at + 0.5).floor().long().minimum(limit.long())
        strides = [int(np.prod(space[a + 1 :])) for a in range(len(space))]
        out = flat[:, sum(index[..., a] * strides[a] for a in range(len(space)))]
    else:
        out = torch.zeros((len(flat), *shape), dtype=work)
        for where, weight in _corners(at, space):
            out += flat[:, where].to(work) * weight.to(work)
        out = out.to(values.dtype) if values.is_floating_point() else out
    return out if fill is None else torch.where(outside, torch.as_tensor(fill, dtype=out.dtype), out)


def push(values: Tensor, shape: tuple[int, ...], matrix: NDArray[np.float64]) -> Tensor:
    """The adjoint of ``pull``: every value of ours is split over its neighbors there; the sum is kept exactly.

    ``matrix`` maps our index to the other grid's. Mass beyond its edge goes to the nearest edge sample.
    """
    space = tuple(values.shape[1:])
    limit = torch.tensor(shape, dtype=torch.float64) - 1
    at = _positions(space, matrix).clamp(torch.zeros_like(limit), limit)
    out = torch.zeros((len(values), int(np.prod(shape))), dtype=torch.float64)
    for where, weight in _corners(at, tuple(shape)):
        out.index_add_(1, where.flatten(), (values.double() * weight).flatten(1))
    return out.view(len(values), *shape).to(values.dtype)
