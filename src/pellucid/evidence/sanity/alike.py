"""How alike two maps are, in the four ways of the sanity checks; and how complex one is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from pellucid.ops.similarity import ranks, ssim, unit

CELLS = 14  # along the shortest side: cells of 16 samples in an image of 224 (Adebayo et al. 2018)
SMALLEST = 4  # samples of a cell
NINE = 9  # directions in 2D
BINS = 100  # of the histogram whose entropy is the complexity


@dataclass(frozen=True, eq=False)
class Side:
    """What is compared of one map (*space): its ranks with signs and of magnitudes, centered and of length 1; its values scaled to [0, 1]; the
    ranks of its edge histograms. None where all is equal."""

    signed: Tensor | None
    absolute: Tensor | None
    scaled: Tensor
    hog: Tensor | None

    @classmethod
    def of(cls, values: Tensor) -> Side:
        """Of a map."""
        scaled = unit(values)
        return cls(_ranked(values), _ranked(values.abs()), scaled, _ranked(hog(scaled)))


def _ranked(values: Tensor) -> Tensor | None:
    r = ranks(values)
    r = r - r.mean()
    length = float(r.norm())
    return r / length if length > 0 else None


def _product(a: Tensor | None, b: Tensor | None) -> float:
    return math.nan if a is None or b is None else float(a @ b)


@dataclass(frozen=True)
class Alike:
    """How alike two maps are, -1 to 1: rank correlation with signs and of magnitudes, SSIM, rank correlation of edge histograms."""

    signed: float
    absolute: float
    ssim: float
    hog: float

    @classmethod
    def between(cls, x: Tensor | Side, y: Tensor | Side) -> Alike:
        """Of two maps (*space). SSIM and histograms see both scaled to [0, 1], so that the data range is 1."""
        a, b = (v if isinstance(v, Side) else Side.of(v) for v in (x, y))
        alike = ssim(a.scaled, b.scaled, data_range=1.0)
        return cls(_product(a.signed, b.signed), _product(a.absolute, b.absolute), alike, _product(a.hog, b.hog))


def empty(values: Tensor) -> bool:
    """Whether a map marks nothing: NaN, or one value everywhere."""
    return not bool(torch.isfinite(values).all()) or float(values.max() - values.min()) <= 1e-12 * float(values.abs().max())


def complexity(values: Tensor, bins: int = BINS) -> float:
    """Entropy in bits of the histogram of a map's values, ``bins`` wide between its lowest and highest (Hedström et al. 2024)."""
    if empty(values):
        return math.nan
    v = values.detach().double().cpu().flatten()
    share = torch.histc(v, bins, float(v.min()), float(v.max())) / v.numel()
    share = share[share > 0]
    return float(-(share * share.log2()).sum())


def hog(values: Tensor, cell: int | None = None) -> Tensor:
    """Histograms of gradient orientations of a map (*space), in two or three dimensions, as one vector.

    Each sample adds the length of its gradient to the direction (without sign) nearest to it: nine in the plane, the ten axes through the
    faces of an icosahedron in space. Means over cells, in overlapping blocks of three cells a side (fewer in small maps), each clipped and
    normalized (L2-Hys).
    Sources: Dalal and Triggs 2005; in space Kläser, Marszałek, Schmid 2008, here with the nearest axis alone.
    """
    n = values.ndim
    cell = cell or max(SMALLEST, min(values.shape) // CELLS)
    gradient = torch.stack([_slope(values.double(), axis) for axis in range(n)])
    axes = directions(n)
    nearest = torch.einsum("ad,d...->a...", axes, gradient).abs().argmax(0)
    length = gradient.norm(dim=0)
    counts = [max(1, s // cell) for s in values.shape]
    size = [min(cell, s) for s in values.shape]
    inner = tuple(slice(0, c * s) for c, s in zip(counts, size, strict=True))
    parts = torch.stack([length * (nearest == k) for k in range(len(axes))])[(slice(None), *inner)]
    split = parts.view(len(axes), *[v for c, s in zip(counts, size, strict=True) for v in (c, s)])
    cells = split.mean(tuple(range(2, 2 * n + 1, 2)))
    for axis, c in enumerate(counts):
        cells = cells.unfold(1 + axis, min(3, c), 1)
    blocks = cells.movedim(0, n).flatten(n).flatten(0, n - 1)
    return _hys(blocks).flatten()


def _hys(blocks: Tensor, eps: float = 1e-5) -> Tensor:
    blocks = blocks / (blocks.square().sum(1, keepdim=True) + eps**2).sqrt()
    blocks = blocks.clamp_max(0.2)
    return blocks / (blocks.square().sum(1, keepdim=True) + eps**2).sqrt()


def _slope(values: Tensor, axis: int) -> Tensor:
    """Central differences; zero at both ends."""
    found = torch.zeros_like(values)
    n = values.shape[axis]
    if n > 2:
        found.narrow(axis, 1, n - 2).copy_(values.narrow(axis, 2, n - 2) - values.narrow(axis, 0, n - 2))
    return found


@cache
def directions(ndim: int) -> Tensor:
    """Axes (k, ndim) that stand for all directions without sign, evenly spread."""
    if ndim == 2:
        angle = (torch.arange(NINE, dtype=torch.float64) + 0.5) * math.pi / NINE
        return torch.stack([angle.sin(), angle.cos()], 1)
    golden = (1 + math.sqrt(5)) / 2
    corners: list[tuple[float, float, float]] = [(1.0, s, t) for s in (1, -1) for t in (1, -1)]
    corners += [p for s in (1, -1) for p in ((0, 1 / golden, s * golden), (1 / golden, s * golden, 0), (s * golden, 0, 1 / golden))]
    return torch.nn.functional.normalize(torch.tensor(corners, dtype=torch.float64), dim=1)
