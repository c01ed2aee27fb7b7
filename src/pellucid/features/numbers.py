"""Numbers of an image: what its sharpness, noise, clipping, margins and look amount to. Pure functions of (c, *space), 2D and 3D alike."""

from __future__ import annotations

import math

import torch
from torch import Tensor

THUMB = 16  # samples along each side of a thumbnail
CELLS = 4_000_000  # samples that a spectrum or a median looks at; larger volumes are read in a middle block


def block(x: Tensor, most: int = CELLS) -> Tensor:
    """A middle block of (c, *space) with no more than ``most`` samples a channel, sides cut in proportion."""
    share = min(1.0, (most / x[0].numel()) ** (1 / (x.ndim - 1)))
    for a, n in enumerate(x.shape[1:]):
        m = max(1, int(n * share))
        x = x.narrow(a + 1, (n - m) // 2, m)
    return x


def ends(x: Tensor, inside: Tensor | None = None) -> tuple[float, float]:
    """The 1st and 99th percentile of all channels, outside the background."""
    values = x.flatten() if inside is None else x[:, inside].flatten()
    values = values[:: max(1, values.numel() // CELLS)].double()
    n = values.numel()
    return tuple(float(values.kthvalue(min(n, max(1, math.ceil(q * n)))).values) for q in (0.01, 0.99))  # type: ignore[return-value]


def scaled(x: Tensor, low: float, high: float) -> Tensor:
    """Mean over channels with [low, high] as [0, 1], in float64, (*space); not clipped."""
    return (x.double().mean(0) - low) / max(high - low, 1e-300)


def laplacian(y: Tensor) -> float:
    """Variance of the discrete Laplacian, sum over axes of second differences, divided by the variance of the image (Pech-Pacheco et al. 2000)."""
    inner = y[tuple(slice(1, -1) if n > 2 else slice(None) for n in y.shape)]
    total = torch.zeros_like(inner)
    for a, n in enumerate(y.shape):
        if n > 2:
            other = tuple(slice(1, -1) if b != a and m > 2 else slice(None) for b, m in enumerate(y.shape))
            z = y[other]
            total += z.narrow(a, 0, n - 2) + z.narrow(a, 2, n - 2) - 2 * z.narrow(a, 1, n - 2)
    spread = float(y.var(correction=0))
    return float(total.var(correction=0)) / spread if spread > 0 else math.nan


def fine(y: Tensor) -> float:
    """Share of the power (without the mean, under a Hann window) at more than half of the highest frequency along some axis."""
    z = y - y.mean()
    for a, n in enumerate(y.shape):
        if n > 2:
            shape = [-1 if b == a else 1 for b in range(y.ndim)]
            z = z * torch.hann_window(n, periodic=False, dtype=y.dtype).view(shape)
    power = torch.fft.fftn(z - z.mean()).abs() ** 2
    high = torch.zeros(y.shape, dtype=torch.bool)
    for a, n in enumerate(y.shape):
        high |= (torch.fft.fftfreq(n).abs() > 0.25).view([-1 if b == a else 1 for b in range(y.ndim)])
    total = float(power.sum())
    return float(power[high].sum()) / total if total > 0 else math.nan


def noise(y: Tensor) -> float:
    """Standard deviation of white noise: the median of |finest diagonal detail| / 0.6745 (Donoho and Johnstone 1994).

    The detail is (x[i] - x[i + 1]) / sqrt 2 along every axis, which keeps white noise as strong as it is and takes off all that is smooth along any of
    them. Cells of one value all over (a masked background) are left out.
    """
    d = y
    for a, n in enumerate(y.shape):
        if n > 1:
            one, two = d.narrow(a, 0, n - n % 2).unflatten(a, (-1, 2)).unbind(a + 1)
            d = (one - two) / math.sqrt(2)
    low, high = y, y
    for a, n in enumerate(y.shape):
        if n > 1:
            low = low.narrow(a, 0, n - n % 2).unflatten(a, (-1, 2)).amin(a + 1)
            high = high.narrow(a, 0, n - n % 2).unflatten(a, (-1, 2)).amax(a + 1)
    flat = high == low
    kept = d[~flat].abs()
    return float(kept.median()) / 0.6744897501960817 if kept.numel() else 0.0


def clipped(x: Tensor, inside: Tensor | None) -> tuple[float, float]:
    """Share of samples that have exactly the lowest and exactly the highest value of their channel, the largest over channels."""
    values = x.flatten(1) if inside is None else x[:, inside]
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    return float((values == low).double().mean(1).max()), float((values == high).double().mean(1).max())


def margins(x: Tensor, background: Tensor | None) -> float:
    """Share of the image in rows, columns and slices at its rim that hold one value only, or padding only."""
    value = x.flatten(1)[:, 0].view(-1, *[1] * (x.ndim - 1))
    empty = (x == value).all(0)
    if background is not None:
        empty = empty | background
    kept = 1.0
    for a, n in enumerate(empty.shape):
        full = (~empty).movedim(a, 0).flatten(1).any(1)
        where = full.nonzero()
        kept *= (int(where.max()) - int(where.min()) + 1) / n if len(where) else 0.0
    return 1 - kept


def shrink(y: Tensor, side: int) -> Tensor:
    """(*space) as means over ``side`` equal parts along each axis, exactly: parts may share a sample by halves; float64."""
    for a, n in enumerate(y.shape):
        edges = torch.arange(side + 1, dtype=torch.float64) * (n / side)
        at = torch.arange(n, dtype=torch.float64)
        low, high = edges[:-1, None], edges[1:, None]
        weight = (torch.minimum(high, at + 1) - torch.maximum(low, at)).clamp_min(0) * (side / n)
        y = (y.movedim(a, -1).to(weight) @ weight.T).movedim(-1, a)
    return y


def thumb(y: Tensor) -> Tensor:
    """A thumbnail (side, ...) with mean 0 and length 1 (zeros for an image of one value)."""
    small = shrink(y, THUMB)
    small = small - small.mean()
    length = small.norm()
    return small / length if float(length) > 1e-12 * max(1.0, float(y.abs().max())) else torch.zeros_like(small)
