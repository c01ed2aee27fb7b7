"""Gaussian blur as one small matrix per axis: exact at the edges, the same in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Edge = Literal["nearest", "zero"]
TRUNCATE = 4.0  # standard deviations, as scipy.ndimage.gaussian_filter


def blur_matrix(n: int, sigma: float, edge: Edge = "nearest") -> Tensor:
    """The blur of ``n`` samples as a matrix (n, n), float64.

    ``sigma`` is in samples. The kernel is a sampled, normalized Gaussian cut at four sigma; beyond the edge lie copies of the edge
    sample (``nearest``) or zeros.
    """
    reach = int(TRUNCATE * sigma + 0.5)
    if reach == 0:
        return torch.eye(n, dtype=torch.float64)
    t = torch.arange(-reach, reach + 1, dtype=torch.float64)
    w = (-(t**2) / (2 * sigma**2)).exp()
    w = w / w.sum()
    at = torch.arange(n)[:, None] + t.long()[None]
    values = w.expand(n, -1) if edge == "nearest" else torch.where((at >= 0) & (at < n), w, 0.0)
    return torch.zeros(n, n, dtype=torch.float64).scatter_add_(1, at.clamp(0, n - 1), values.contiguous())


def along(values: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """Multiply a matrix along one dimension."""
    return (values.movedim(dim, -1) @ matrix.to(values).T).movedim(-1, dim)


def gaussian(values: Tensor, sigma: Sequence[float], edge: Edge = "nearest") -> Tensor:
    """Blur (c, *space) by ``sigma`` samples per axis (0 leaves an axis alone)."""
    for axis, s in enumerate(sigma):
        if s > 0:
            values = along(values, blur_matrix(values.shape[axis + 1], s, edge), axis + 1)
    return values
