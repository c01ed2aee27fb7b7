"""A mask on another grid: large findings keep their area, small ones the sample they fall in, and what is lost is told."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import BadGrid, BadImage
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.ops.resample import pull

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Laid:
    """A mask as bool (*space) on another grid. ``inside``: the share of it that lies on that grid; ``area``: what is marked there over what
    was marked (more than 1 where findings are smaller than a sample); ``parts``: connected findings, of which ``lost`` have no marked sample there."""

    values: Tensor
    inside: float = 1.0
    area: float = 1.0
    parts: int = 0
    lost: int = 0

    @property
    def note(self) -> str:
        """What cannot be found on this grid, in a sentence; empty where nothing is lost."""
        if self.inside == 1:
            return ""
        whole = f", {self.lost} of its {self.parts} findings with it" if self.lost else ""
        return f"{1 - self.inside:.0%} of the mask lies off the picture{whole}, and is not counted."

    @property
    def detail(self) -> dict[str, Any]:
        """For a measurement's detail; nothing where the mask lay on this grid."""
        return (
            {}
            if not self.parts
            else {"mask inside": self.inside, "mask area kept": self.area, "findings": self.parts, "findings lost": self.lost}
        )


def marked(held: Image) -> Image:
    """A mask from a file, as 0 and 1: what is not 0 belongs to it, whether the file writes 1 or 255, in gray or in a color.

    Raises:
        BadImage: neither one channel nor the three of a picture, or several labels: which of them is meant, nobody has said.
    """
    if len(held.values) not in (1, 3):
        raise BadImage("a mask with one channel", f"{len(held.values)} channels", "Save one mask a file.")
    own = (held.values != 0).any(0, keepdim=True)
    labels = held.values[:, own[0]]
    if bool((labels != labels[:, :1]).any()):
        kinds = labels.unique(dim=1)
        some = ", ".join("/".join(f"{float(v):g}" for v in kinds[:, k]) for k in range(min(4, kinds.shape[1])))
        more = f" and {kinds.shape[1] - 4} more" if kinds.shape[1] > 4 else ""
        raise BadImage("a mask of one label beside 0", f"{some}{more}", "Say which: save the samples that equal it as 1, the others as 0.")
    return held.with_values(own.float(), channels=("mask",))


def laid(mask: Image, grid: Grid) -> Laid:
    """A mask of 0 and 1 laid on a grid: a sample is marked where half of it or more lies in the mask, and of a finding that fills no sample by half
    the one that holds most of it.

    Raises:
        BadImage: several channels.
        BadGrid: grids that cannot be laid over each other, or a mask with something in it of which nothing lies there.
    """
    if len(mask.values) != 1:
        raise BadImage("a mask has one channel", f"{len(mask.values)}", "Choose one: values[k:k+1].")
    own = mask.values[0].cpu() > 0.5
    if grid == mask.grid or not bool(own.any()):
        return Laid(own if grid == mask.grid else torch.zeros(grid.shape, dtype=torch.bool))
    matrix = grid.map_to(mask.grid)
    numbered, _ = components(own)
    at = own.nonzero().numpy()
    back: Floats = np.linalg.inv(matrix).astype(np.float64)
    centers = at @ back[:-1, :-1].T + back[:-1, -1]
    there = np.floor(centers + 0.5 + 1e-9).astype(np.int64)
    on = ((there >= 0) & (there < np.array(grid.shape))).all(1)
    found = _half(own, grid, matrix, back)
    label, there = numbered[tuple(at[on].T)], there[on]
    met = np.zeros(int(numbered.max()) + 1, dtype=bool)
    met[_under(found, numbered, matrix)] = True
    met[label[found[tuple(there.T)].numpy()]] = True
    for part in np.unique(label[~met[label]]):
        places, count = np.unique(there[label == part], axis=0, return_counts=True)
        found[tuple(places[count.argmax()])] = met[part] = True
    if not found.any():
        raise BadGrid(f"a mask that overlaps the grid {grid}", f"one on {mask.grid}", "Check their frames of reference.")
    size, parts = abs(float(np.linalg.det(matrix[:-1, :-1]))), int(numbered.max())
    inside = float(_shown(centers, back, grid).mean())
    return Laid(found, inside, float(found.sum()) * size / len(at), parts, parts - int(met[1:].sum()))


def _under(found: Tensor, numbered: NDArray[np.int32], matrix: Floats) -> NDArray[np.int32]:
    """The findings in which samples of a grid lie that are marked there; 0 where the center of one lies beside all."""
    at = found.nonzero().numpy() @ matrix[:-1, :-1].T + matrix[:-1, -1]
    near = np.clip(np.floor(at + 0.5), 0, np.array(numbered.shape) - 1).astype(np.int64)
    return np.unique(numbered[tuple(near.T)])


def _shown(centers: Floats, back: Floats, grid: Grid) -> Floats:
    """How much of each sample of a mask lies on a grid: all or nothing by its center, but along axes of the grid on which it is longer than the
    grid's own samples (thick slices on a thin scan) by the part that does."""
    half = np.abs(back[:-1, :-1]).max(1) / 2
    last = np.array(grid.shape) - 0.5
    part = np.clip((np.minimum(centers + half, last) - np.maximum(centers - half, -0.5)) / (2 * half), 0, 1)
    whole = (centers >= -0.5 - 1e-9) & (centers < last - 1e-9)
    share: Floats = np.where(half > 0.5 + 1e-6, np.where(part > 1 - 1e-6, 1.0, part), whole).prod(1)
    return share


def components(found: Tensor) -> tuple[NDArray[np.int32], list[tuple[slice, ...]]]:
    """Connected parts (neighbors across edges and corners too): numbered (*space) from 1, and the tightest box of each."""
    from scipy.ndimage import find_objects, generate_binary_structure, label

    numbered, _ = label(found.cpu().numpy(), generate_binary_structure(found.ndim, found.ndim))
    return numbered, list(find_objects(numbered))


def _half(own: Tensor, grid: Grid, matrix: Floats, back: Floats) -> Tensor:
    """Samples of the grid (*space) of which half or more lies in the mask; only the box around the mask is looked at, as finely as the mask is."""
    at, d = own.nonzero(), own.ndim
    low, high = at.amin(0).numpy() - 0.5, at.amax(0).numpy() + 0.5
    corners = np.array(list(itertools.product(*zip(low, high, strict=True)))) @ back[:-1, :-1].T + back[:-1, -1]
    start = np.clip(np.floor(corners.min(0) + 0.5), 0, np.array(grid.shape) - 1).astype(int)
    stop = np.clip(np.ceil(corners.max(0) + 0.5), start + 1, grid.shape).astype(int)
    fine = [max(1, math.ceil(float(np.linalg.norm(matrix[:-1, a])) - 1e-6)) for a in range(d)]
    shape = stop - start
    scale = np.eye(d + 1)
    scale[range(d), range(d)] = 1 / np.array(fine)
    scale[:-1, -1] = start + (1 / np.array(fine) - 1) / 2
    read = pull(
        own[None].to(torch.uint8), tuple(int(n * k) for n, k in zip(shape, fine, strict=True)), matrix @ scale, nearest=True, fill=0.0
    )
    share = read[0]
    for a in range(d):
        share = share.unflatten(a, (int(shape[a]), fine[a])).sum(a + 1, dtype=torch.int32)
    found = torch.zeros(grid.shape, dtype=torch.bool)
    found[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))] = 2 * share >= math.prod(fine)
    return found
