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
    axes = _one_to_one(matrix)
    read = _pull_oblique if axes is None else _pull_along_axes
    out, outside = read(values, tuple(shape), matrix, nearest)
    if not nearest and values.is_floating_point():
        out = out.to(values.dtype)
    return out if fill is None else torch.where(outside, torch.as_tensor(fill, dtype=out.dtype), out)


def _one_to_one(matrix: NDArray[np.float64]) -> list[int] | None:
    """For each of our axes the one axis there that moves along it, if there is one: then reading goes axis by axis."""
    linear = np.abs(matrix[:-1, :-1]) > 1e-9 * np.abs(matrix[:-1, :-1]).max()
    if (linear.sum(0) != 1).any() or (linear.sum(1) != 1).any():
        return None
    return [int(np.flatnonzero(row)[0]) for row in linear]


def _pull_along_axes(values: Tensor, shape: tuple[int, ...], matrix: NDArray[np.float64], nearest: bool) -> tuple[Tensor, Tensor]:
    """Grids whose axes are parallel: one axis after the other, the one that shrinks most first."""
    axes = _one_to_one(matrix)
    assert axes is not None
    space, d = tuple(values.shape[1:]), len(shape)
    out = values if nearest or values.dtype == torch.float64 else values.float()
    outside = torch.zeros([1] * d, dtype=torch.bool)
    for ours in sorted(range(d), key=lambda a: shape[axes[a]] / space[a]):
        theirs, last = axes[ours], space[ours] - 1
        at = torch.arange(shape[theirs], dtype=torch.float64) * matrix[ours, theirs] + matrix[ours, d]
        beyond = (at < -0.5 - 1e-6) | (at > last + 0.5 + 1e-6)
        outside = outside | beyond.view([-1 if t == theirs else 1 for t in range(d)])
        at = at.clamp(0, last)
        if nearest:
            out = out.index_select(ours + 1, (at + 0.5).floor().long().clamp_max(last))
            continue
        low = at.floor().long()
        part = (at - low).to(out.dtype).view([-1 if a == ours else 1 for a in range(d)])
        out = torch.lerp(out.index_select(ours + 1, low), out.index_select(ours + 1, (low + 1).clamp_max(last)), part)
    return out.permute(0, *(axes.index(t) + 1 for t in range(d))), outside


def _pull_oblique(values: Tensor, shape: tuple[int, ...], matrix: NDArray[np.float64], nearest: bool) -> tuple[Tensor, Tensor]:
    """Any two grids: every sample finds its neighbors by itself."""
    space = tuple(values.shape[1:])
    at = _positions(shape, matrix)
    limit = torch.tensor(space, dtype=torch.float64) - 1
    outside = ((at < -0.5 - 1e-6) | (at > limit + 0.5 + 1e-6)).any(-1)
    at = at.clamp(torch.zeros_like(limit), limit)
    flat = values.flatten(1)
    if nearest:
        index = (at + 0.5).floor().long().minimum(limit.long())
        strides = [int(np.prod(space[a + 1 :])) for a in range(len(space))]
        return flat[:, sum(index[..., a] * strides[a] for a in range(len(space)))], outside
    work = torch.float64 if values.dtype == torch.float64 else torch.float32
    out = torch.zeros((len(values), *shape), dtype=work)
    for where, weight in _corners(at, space):
        out += flat[:, where].to(work) * weight.to(work)
    return out, outside


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
