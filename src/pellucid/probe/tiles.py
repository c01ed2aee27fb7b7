"""Sliding windows: a dense network over an input larger than it takes, and exact gradients through it tile by tile."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from pellucid.errors import BadModel
from pellucid.model import Model, Windows

Tile = tuple[slice, ...]


def tiles(space: tuple[int, ...], windows: Windows) -> list[Tile]:
    """Tiles that cover ``space``: a step of size * (1 - overlap), the last one flush with the edge."""
    sizes = windows.size if isinstance(windows.size, tuple) else (windows.size,) * len(space)
    axes = []
    for n, size in zip(space, sizes, strict=True):
        size = min(size, n)
        step = max(1, round(size * (1 - windows.overlap)))
        starts = sorted({min(s, n - size) for s in range(0, max(n - size, 0) + step, step)})
        axes.append([slice(s, s + size) for s in starts])
    return list(itertools.product(*axes))


def _weight(tile: Tile, windows: Windows, like: Tensor) -> Tensor:
    """How much a tile's samples count: a Gaussian around its center (sigma an eighth of its size), or one everywhere."""
    weight = torch.ones([s.stop - s.start for s in tile], dtype=like.dtype, device=like.device)
    if windows.blend == "gaussian":
        for axis, s in enumerate(tile):
            n = s.stop - s.start
            t = (torch.arange(n, dtype=like.dtype, device=like.device) - (n - 1) / 2) / (n / 8)
            weight = weight * (-(t**2) / 2).exp().clamp_min(1e-3).view([-1 if a == axis else 1 for a in range(len(tile))])
    return weight


def _dense(out: Tensor, piece: Tensor) -> Tensor:
    if out.shape[2:] != piece.shape[2:]:
        raise BadModel(
            "windows= needs an output as large as its input", f"{tuple(out.shape)} for {tuple(piece.shape)}", "Leave windows= out."
        )
    return out


def _blend(model: Model, space: tuple[int, ...], like: Tensor) -> tuple[list[tuple[Tile, Tensor]], Tensor]:
    assert model.windows is not None
    weighted = [(tile, _weight(tile, model.windows, like)) for tile in tiles(space, model.windows)]
    total = torch.zeros(space, dtype=like.dtype, device=like.device)
    for tile, weight in weighted:
        total[tile] += weight
    return weighted, total


def tiled_output(model: Model, batch: Tensor, *, normalized: bool = False) -> Tensor:
    """The blended output (n, k, *space) of all tiles; ``normalized``: the batch already is."""
    weighted, total = _blend(model, tuple(batch.shape[2:]), batch)
    out: Tensor | None = None
    for tile, weight in weighted:
        cut = (slice(None), slice(None), *tile)
        piece = batch[cut]
        found = _dense(model.forward(piece, normalized=normalized), piece) * (weight / total[tile])
        if out is None:
            out = found.new_zeros(len(batch), found.shape[1], *batch.shape[2:])
        out[cut] += found
    assert out is not None
    return out


def tiled_gradients(model: Model, batch: Tensor, score: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (n,), their gradients (n, c, *space), and the output. Exact for any differentiable score.

    First all tiles without gradient; then one vector-Jacobian product per tile that the score touches.
    """
    with torch.no_grad():
        output = tiled_output(model, batch)
    leaf = output.detach().requires_grad_()
    with torch.enable_grad():
        scores = score(leaf)
    if not scores.requires_grad:
        raise BadModel("the score depends on the output by differentiable steps", "a score without gradient", "Remove detach() or argmax.")
    (slope,) = torch.autograd.grad(scores.sum(), leaf)
    weighted, total = _blend(model, tuple(batch.shape[2:]), batch)
    gradient = torch.zeros_like(batch)
    for tile, weight in weighted:
        cut = (slice(None), slice(None), *tile)
        pull = slope[cut] * (weight / total[tile])
        if bool((pull != 0).any()):
            piece = batch[cut].detach().clone().requires_grad_()
            with torch.enable_grad():
                (part,) = torch.autograd.grad(model.forward(piece.clone()), piece, pull)
            gradient[cut] += part
    return scores.detach(), gradient, output
