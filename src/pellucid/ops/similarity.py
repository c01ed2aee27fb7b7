"""How alike two maps are: rank correlation, with signs or without, and structural similarity in 2D and 3D."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.ops.blur import gaussian


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1 of all values, flattened, float64; equal values share the mean of their ranks."""
    flat = values.detach().double().cpu().flatten()
    _, place, count = torch.unique(flat, return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count.double() - 1) / 2)[place]


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of two equally shaped tensors, -1 to 1; NaN where one of them is constant. Ties share their mean rank."""
    _alike(a, b)
    u, v = ranks(a), ranks(b)
    u, v = u - u.mean(), v - v.mean()
    norm = float(u.norm() * v.norm())
    return float(u @ v) / norm if norm > 0 else math.nan


def ssim(a: Tensor, b: Tensor, *, data_range: float, sigma: float = 1.5) -> float:
    """Mean structural similarity of two maps (*space), in as many dimensions as they have; windows are Gaussian, ``sigma`` samples wide.

    ``data_range`` is the distance from the lowest to the highest possible value. Windows are compared where they lie inside the map, or
    everywhere in a map smaller than a window. Source: Wang et al. 2004, equation 13, with K1 = 0.01, K2 = 0.03 and biased covariances.
    """
    _alike(a, b)
    if data_range <= 0:
        raise BadParameter("data_range is above 0", repr(data_range), "Give highest minus lowest possible value.")
    x, y = a.detach().double().cpu()[None], b.detach().double().cpu()[None]
    width = (sigma,) * a.ndim

    def mean(t: Tensor) -> Tensor:
        return gaussian(t, width)

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    local = ((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    margin = int(3.5 * sigma + 0.5)
    inner = tuple(slice(margin, n - margin) if n > 2 * margin else slice(None) for n in a.shape)
    return float(local[0][inner].mean())


def unit(values: Tensor) -> Tensor:
    """Values moved and scaled to [0, 1], float64; a constant becomes 0."""
    v = values.detach().double().cpu()
    low, high = v.min(), v.max()
    return (v - low) / (high - low) if float(high) > float(low) else torch.zeros_like(v)


def _alike(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise BadParameter("two maps of one shape", f"{tuple(a.shape)} and {tuple(b.shape)}", "Bring them onto one grid: why.on(grid).")
