"""Noisy linear imputation: each missing sample is the weighted mean of its neighbors, all solved for together, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CLOSE = 1e-4  # residual over the right side's norm at which the solution stands
COARSE = 4  # samples along the longest side below which no coarser grid is asked
DAMPED = 0.8  # of a Jacobi step
PATIENCE = 500  # rounds; holes of any shape were seen to need a few dozen


def impute(x: Tensor, missing: Tensor, spacing: Sequence[float] = (), close: float = CLOSE) -> Tensor:
    """Images (n, c, *space) where the samples of ``missing`` (n, *space) are the weighted means of their neighbors.

    Neighbors touch by a face, an edge or a corner and weigh 2 for each axis along which they do not differ; for each along which they do,
    the square of how much nearer the finest spacing is. In 2D with square samples these are the weights 1/6 and 1/12 of Rong et al. 2022;
    in 3D 1/14, 1/28 and 1/56. Beyond the image there are no neighbors. ``x`` is one image (c, *space), or one for each mask, in single or
    double precision. Where nothing is known the channel's mean stands. The equations (a Laplacian with the known samples as its border)
    are positive definite, and solved for all masks and channels at once by conjugate gradients over coarser and coarser grids.
    """
    values = x.expand(len(missing), *x.shape) if x.ndim == missing.ndim else x
    gaps = missing.to(x.device)[:, None]
    space = tuple(range(2, values.ndim))
    blank = gaps.all(dim=space, keepdim=True)
    spacing = spacing or [1.0] * len(space)
    found = _conjugate(values, _Level.of(gaps & ~blank, [(min(spacing) / s) ** 2 for s in spacing], values.dtype), close)
    return torch.where(blank, values.mean(space, keepdim=True), torch.where(gaps, found, values))


@dataclass(frozen=True, eq=False)
class _Level:
    """The equations on one grid, and at half its resolution, where a cell is missing that knows no sample.

    ``gaps`` (n, 1, *space) are 0 and 1; ``total`` is the weight of all neighbors inside; ``near`` that of a step along each axis, where
    none has 2.
    """

    gaps: Tensor
    total: Tensor
    near: list[float]
    halves: list[int]
    coarse: _Level | None

    @classmethod
    def of(cls, gaps: Tensor, near: list[float], dtype: torch.dtype) -> _Level:
        open_ = gaps.to(dtype)
        halves = [2 if n > 1 else 1 for n in gaps.shape[2:]]
        total = _spread(torch.ones_like(open_[:1]), near)
        coarse = None
        if max(gaps.shape[2:]) > COARSE:
            coarse = cls.of(_pool(1 - open_, halves) == 0, near, dtype)
        return cls(open_, total, near, halves, coarse)

    def apply(self, v: Tensor) -> Tensor:
        """The left side for ``v`` (n, c, *space), which is 0 where nothing is missing."""
        return (self.total * v - _spread(v, self.near)) * self.gaps

    def roughly(self, r: Tensor) -> Tensor:
        """About what ``apply`` made ``r`` of: a damped Jacobi step, the coarser grid's answer, a step again; symmetric."""
        step = DAMPED * self.gaps / self.total
        v = step * r
        if self.coarse is not None:
            rest = _pool(r - self.apply(v), self.halves) * 4 / 2 ** len(self.near)  # a Laplacian scales with the square of the spacing
            deep = self.coarse.roughly(rest * self.coarse.gaps)
            wide = F.interpolate(deep, scale_factor=self.halves)
            for axis, n in enumerate(r.shape[2:], start=2):
                wide = wide.narrow(axis, 0, n)
            v = v + wide * self.gaps
        return v + step * (r - self.apply(v))


def _pool(v: Tensor, halves: list[int]) -> Tensor:
    """Sums of cells; half a cell at the end holds half."""
    sides = [p for n, h in zip(reversed(v.shape[2:]), reversed(halves), strict=True) for p in (0, -n % h)]
    v = F.pad(v, sides)
    for axis, h in enumerate(halves, start=2):
        v = v.unflatten(axis, (-1, h)).sum(axis + 1)
    return v


def _spread(v: Tensor, near: list[float]) -> Tensor:
    """The weighted sum over the neighbors of each sample, without the sample itself."""
    out = v
    for axis, q in enumerate(near, start=2):
        inner, n = 2 * out, v.shape[axis] - 1
        inner.narrow(axis, 1, n).add_(out.narrow(axis, 0, n), alpha=q)
        inner.narrow(axis, 0, n).add_(out.narrow(axis, 1, n), alpha=q)
        out = inner
    return out.sub_(v, alpha=2 ** len(near))


def _conjugate(values: Tensor, level: _Level, close: float) -> Tensor:
    """Conjugate gradients for all images and channels side by side; those that are there rest."""
    space = tuple(range(2, values.ndim))

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(space, keepdim=True)

    right = _spread(values * (1 - level.gaps), level.near) * level.gaps
    v, r, z = torch.zeros_like(right), right, level.roughly(right)
    p, rz, goal = z, dot(right, z), close**2 * dot(right, right)
    for _ in range(PATIENCE):
        going = dot(r, r) > goal
        if not bool(going.any()):
            break
        ap = level.apply(p)
        step = torch.where(going, rz / dot(p, ap), 0.0)
        v, r = v + step * p, r - step * ap
        z = level.roughly(r)
        last, rz = rz, dot(r, z)
        p = z + torch.where(going, rz / last, 0.0) * p
    return v
