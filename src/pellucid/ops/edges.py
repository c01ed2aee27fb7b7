"""Edges of an image: what a map that knows nothing of the network may show."""

from __future__ import annotations

import torch
from torch import Tensor

SMOOTH = (1.0, 2.0, 1.0)
SLOPE = (-1.0, 0.0, 1.0)


def sobel(values: Tensor) -> Tensor:
    """Magnitude of the Sobel gradient of (c, *space), over all axes and channels, as (*space); edges of the image repeat.

    Source: Sobel and Feldman 1968; in 3D the smoothing runs along both other axes. Scaled to the slope per sample.
    """
    total = torch.zeros(values.shape[1:], dtype=torch.float64)
    for axis in range(values.ndim - 1):
        found = values.detach().double().cpu()
        for a in range(values.ndim - 1):
            weights, scale = (SLOPE, 2.0) if a == axis else (SMOOTH, 4.0)
            found = _three(found, weights, a + 1) / scale
        total += (found**2).sum(0)
    return total.sqrt()


def _three(values: Tensor, weights: tuple[float, float, float], axis: int) -> Tensor:
    """Correlation with three weights along one axis; the edge sample repeats."""
    n = values.shape[axis]
    at = torch.arange(n)
    return sum(w * values.index_select(axis, (at + d).clamp(0, n - 1)) for w, d in zip(weights, (-1, 0, 1), strict=True))  # type: ignore[return-value]
