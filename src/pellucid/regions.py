"""by_region(): how much of a map lies in each region of an atlas or of a tissue segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from pellucid.errors import BadImage, BadParameter
from pellucid.explanation import Map
from pellucid.grid import Grid
from pellucid.image import Image, plain
from pellucid.ops.resample import pull, push
from pellucid.table import Table

Part = Literal["signed", "positive", "negative", "absolute"]


def by_region(why: Map, labels: Image | Tensor, names: Mapping[int, str] | Sequence[str] | None = None, *, of: Part = "signed") -> Table:
    """Mass and density of a map per region, densest first; the masses add up to the map's whole.

    ``mass`` is the sum of relevance in a region, in units of the score; ``share`` its part of the sum of |relevance|; ``density`` is mass
    over size (in mm^3, mm^2, or samples of a plain raster), by which regions of different size are ranked (by magnitude). A cell of a coarse
    map is spread evenly over the samples of the image that are nearest to it. Samples without a label (0, or beyond the labels) stand last.

    Args:
        why: the map.
        labels: whole numbers, an Image (1, *space) on any grid that can be laid over the map's (read at the nearest sample), or a tensor
            on the grid of the image that was explained.
        names: of the labels, as a mapping, or in order from 1; a label without a name is shown as its number.
        of: what is summed: ``signed`` relevance, its ``positive`` or ``negative`` part, or ``absolute`` values.

    Raises:
        BadImage: labels that are no whole numbers or have several channels.
        BadGrid: labels of another frame of reference.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> why = pl.explain(net, torch.rand(1, 8, 8), target=1, method="input_x_gradient")
    >>> halves = torch.ones(8, 8); halves[:, 4:] = 2
    >>> table = by_region(why, halves, ["left", "right"])
    >>> sorted(table["region"]), abs(sum(table["mass"]) - why.total) < 1e-5
    (['left', 'right'], True)
    """
    if of not in ("signed", "positive", "negative", "absolute"):
        raise BadParameter("of is 'signed', 'positive', 'negative' or 'absolute'", repr(of), "Choose one.")
    values, grid = _fine(why, of)
    label = _on(labels, why.image.grid, grid)
    known, at = torch.unique(label, return_inverse=True)
    mass = torch.zeros(len(known), dtype=torch.float64).index_add_(0, at.flatten(), values.flatten())
    whole = torch.zeros_like(mass).index_add_(0, at.flatten(), values.abs().flatten()).sum()
    size = torch.bincount(at.flatten(), minlength=len(known)).double() * grid.voxel
    density = mass / size
    order = sorted(range(len(known)), key=lambda k: (int(known[k]) == 0, -abs(float(density[k]))))
    unit = {("mm", 2): "mm^2", ("mm", 3): "mm^3"}.get((grid.unit, grid.ndim), "samples")
    rows = []
    for place, k in enumerate(order, 1):
        number = int(known[k])
        share = float(mass[k] / whole) if float(whole) > 0 else 0.0
        rank = place if number else None
        rows.append((number, _name(names, number), float(size[k]), unit, float(mass[k]), share, float(density[k]), rank))
    return Table(("label", "region", "size", "unit", "mass", "share", "density", "rank"), tuple(rows))


def _fine(why: Map, of: Part) -> tuple[Tensor, Grid]:
    """Relevance (*space) in float64, whose sum is the map's, on the finer of the map's and the image's grid."""
    values, image = why.values.detach().cpu().double().sum(0), why.image.grid
    values = {"signed": values, "positive": values.clamp_min(0), "negative": values.clamp_max(0), "absolute": values.abs()}[of]
    if why.grid.voxel <= image.voxel * (1 + 1e-9):
        return values, why.grid
    cells = torch.arange(values.numel(), dtype=torch.float64).view(1, *values.shape)
    nearest = pull(cells, image.shape, image.map_to(why.grid), nearest=True)[0].long()
    count = torch.bincount(nearest.flatten(), minlength=values.numel())
    if bool(((count == 0) & (values.flatten() != 0)).any()):  # a cell beyond the image: its nearest sample takes it
        return push(values[None], image.shape, why.grid.map_to(image))[0], image
    return (values.flatten() / count.clamp_min(1))[nearest], image


def _on(labels: Image | Tensor, image: Grid, grid: Grid) -> Tensor:
    """Whole-number labels at the samples of a grid; 0 beyond them."""
    if isinstance(labels, Tensor) and labels.ndim == image.ndim:
        labels = labels[None]
    given = labels if isinstance(labels, Image) else Image(plain(labels), image)
    if len(given.values) != 1:
        raise BadImage("labels have one channel", f"{len(given.values)}", "Give argmax over the channels, plus 1.")
    if not bool((given.values == given.values.round()).all()):
        raise BadImage("labels are whole numbers", "fractions", "Give the segmentation, not its probabilities.")
    return given.on(grid, nearest=True, fill=0.0).values[0].round().long()


def _name(names: Mapping[int, str] | Sequence[str] | None, number: int) -> str:
    if isinstance(names, Mapping) and number in names:
        return names[number]
    if number == 0:
        return "no label"
    if names is not None and not isinstance(names, Mapping) and 0 < number <= len(names):
        return names[number - 1]
    return str(number)
