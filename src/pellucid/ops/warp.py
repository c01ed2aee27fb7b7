"""Small moves of images: shift, turn, zoom, each drawn anew for every image of a batch; differentiable, the same in 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def turns(n: int, degrees: float, axes: Sequence[bool], random: torch.Generator) -> Tensor:
    """Rotations (n, d, d) by up to ``degrees``, about random axes, in float64; axes that are False stay out of it."""
    d = len(axes)
    skew = torch.randn(n, d, d, generator=random, dtype=torch.float64)
    free = torch.tensor(axes, dtype=torch.float64)
    skew = (skew - skew.mT) * free[:, None] * free
    size = (skew.flatten(1).norm(dim=1) / math.sqrt(2)).clamp_min(1e-12)
    angle = (2 * torch.rand(n, generator=random, dtype=torch.float64) - 1) * math.radians(degrees)
    return torch.matrix_exp(skew * (angle / size).view(n, 1, 1))


def moves(
    n: int, space: Sequence[int], spacing: Sequence[float], random: torch.Generator, *, shift: float = 0.0, turn: float = 0.0, zoom: float = 0.0
) -> Tensor:  # fmt: skip
    """Affine matrices (n, d, d + 1) for ``warp``, in float64.

    ``shift`` in samples along each axis, ``turn`` in degrees, ``zoom`` as a share of the size: the most of each, drawn evenly. A turn is one of the
    patient: samples of unequal size are taken as they are. Axes of one sample stay.
    """
    free = [k > 1 for k in space]
    half = torch.tensor([k * s / 2 for k, s in zip(space, spacing, strict=True)], dtype=torch.float64)
    matrix = turns(n, turn, free, random)
    size = (2 * torch.rand(n, 1, 1, generator=random, dtype=torch.float64) - 1) * zoom
    matrix = matrix * half / half[:, None] * (1 + size)
    far = (2 * torch.rand(n, len(space), 1, generator=random, dtype=torch.float64) - 1) * shift
    far = far * torch.tensor([2 / k if f else 0.0 for k, f in zip(space, free, strict=True)], dtype=torch.float64)[:, None]
    return torch.cat([matrix, far], 2)


def boxes(n: int, share: float, space: Sequence[int], random: torch.Generator, spread: float = 0.15) -> Tensor:
    """Affine matrices (n, d, d + 1) that cut boxes of ``share`` of the extent, normally spread about the middle, inside the image."""
    d = len(space)
    width = torch.tensor([share if k > 1 else 1.0 for k in space], dtype=torch.float64)
    middle = 2 * spread * torch.randn(n, d, generator=random, dtype=torch.float64)
    middle = torch.minimum(torch.maximum(middle, width - 1), 1 - width)
    return torch.cat([torch.diag(width).expand(n, d, d), middle[..., None]], 2)


def warp(x: Tensor, matrices: Tensor) -> Tensor:
    """Batch (n, c, *space) read at moved places (linear; beyond the edge lies its mirror image), from -1 to 1 along each axis."""
    d = x.ndim - 2
    order = [*range(d - 1, -1, -1)]  # grid_sample counts axes from the last
    theta = torch.cat([matrices[:, order][:, :, order], matrices[:, order, d:]], 2).to(x)
    at = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, at, padding_mode="reflection", align_corners=False)
