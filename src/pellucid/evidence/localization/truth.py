"""What readers say: boxes and points as masks on a grid, several readers side by side, the mean mask of other patients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pellucid.errors import BadGrid, BadParameter
from pellucid.evidence.localization.placing import Part, Threshold, distance_to, marked, overlap, part_of, peaks, scaled, unfit_map
from pellucid.evidence.masks import laid
from pellucid.explanation import Map
from pellucid.grid import Grid, Unit
from pellucid.image import Image
from pellucid.params import Distance, check
from pellucid.table import Table

Numbers = tuple[float, ...]
Form = Literal["corners", "xywh"]


@dataclass(frozen=True)
class Boxes:
    """Boxes of one reader, each from ``low`` to ``high``, in samples of ``grid`` (None: of the grid they are drawn on) or in mm of the world."""

    corners: tuple[tuple[Numbers, Numbers], ...]
    unit: Unit = "px"
    grid: Grid | None = None

    def mask(self, grid: Grid) -> Image:
        """1 inside a box, 0 outside, on a grid: a sample is inside if its center is; a box that holds no center marks the nearest sample.

        Raises:
            BadGrid: a box that does not reach the grid.
        """
        at, wide = _places(grid, self.unit, self.grid, len(self.corners[0][0]))
        found = torch.zeros(grid.shape, dtype=torch.bool)
        for low, high in self.corners:
            inside = torch.ones(grid.shape, dtype=torch.bool)
            for a, lo, hi in zip(at, low, high, strict=True):
                inside &= (a >= lo) & (a < hi)
            if not bool(inside.any()):
                center = [(lo + hi) / 2 for lo, hi in zip(low, high, strict=True)]
                inside = _nearest(at, center, [(w + hi - lo) / 2 for w, lo, hi in zip(wide, low, high, strict=True)], grid)
            found |= inside
        return Image(found[None].float(), grid)


@dataclass(frozen=True)
class Points:
    """Points of one reader, in samples of ``grid`` or in mm of the world, each with a ``radius`` around it (0: the nearest sample alone)."""

    places: tuple[Numbers, ...]
    radius: Distance
    unit: Unit = "px"
    grid: Grid | None = None

    def mask(self, grid: Grid) -> Image:
        """1 within the radius of a point, 0 elsewhere, on a grid; the sample nearest to a point always counts.

        Raises:
            BadGrid: a point beyond the grid.
            BadParameter: a radius in mm on a grid that has none.
        """
        if self.radius.unit == "mm" and grid.unit != "mm":
            raise BadParameter(
                "a radius in mm needs an image that knows its spacing", repr(self.radius), f"Write '{self.radius.value:g}px'."
            )
        at, wide = _places(grid, self.unit, self.grid, len(self.places[0]))
        own = torch.stack([t.double() for t in torch.meshgrid(*[torch.arange(n) for n in grid.shape], indexing="ij")])
        pace = grid.spacing if (self.radius.unit or grid.unit) == "mm" else (1.0,) * grid.ndim
        found = torch.zeros(grid.shape, dtype=torch.bool)
        for place in self.places:
            spot = _nearest(at, place, [w / 2 for w in wide], grid)
            middle = spot.nonzero()[0]
            far = sum(((own[a] - middle[a]) * pace[a]) ** 2 for a in range(grid.ndim))
            found |= spot | (torch.as_tensor(far) <= self.radius.value**2 * (1 + 1e-9))
        return Image(found[None].float(), grid)


def boxes(corners: Sequence[Sequence[float]], *, unit: Unit = "px", grid: Grid | None = None, form: Form = "corners") -> Boxes:
    """Boxes of a reader, for ``.mask(grid)``, as a truth that maps are held against.

    Args:
        corners: for each box the low corner and then the high one, in the order of the image's axes: rows and columns ``(r0, c0, r1, c1)``, or
            ``(i0, j0, k0, i1, j1, k1)``. In samples they are read as slices: the high corner is the first sample outside.
        unit: ``px``, samples, or ``mm``, the world's coordinates (RAS).
        grid: the grid in whose samples they were drawn; None: that of the mask.
        form: ``xywh`` for ``(column, row, width, height)``, as tables of radiographs have it.

    Raises:
        BadParameter: no boxes, boxes without extent, or of different dimensions.

    >>> int(boxes([(1, 1, 3, 4)]).mask(Grid((6, 6))).values.sum())
    6
    """
    found = []
    for box in corners:
        numbers = tuple(float(v) for v in box)
        if form == "xywh":
            if len(numbers) != 4:
                raise BadParameter("an xywh box is (column, row, width, height)", f"{numbers}", "Give a 3D box by its corners.")
            x, y, w, h = numbers
            numbers = (y, x, y + h, x + w)
        half = len(numbers) // 2
        low, high = numbers[:half], numbers[half:]
        if len(numbers) not in (4, 6) or form not in ("corners", "xywh") or any(not a < b for a, b in zip(low, high, strict=True)):
            raise BadParameter("a box has a low and a high corner of 2 or 3 numbers", f"{numbers} as {form}", "Give (r0, c0, r1, c1).")
        found.append((low, high))
    _alike([low for low, _ in found], "box")
    shift = 0.5 if unit == "px" else 0.0  # sample i reaches from i - 1/2 to i + 1/2 about its center
    moved = tuple((tuple(v - shift for v in low), tuple(v - shift for v in high)) for low, high in found)
    return Boxes(moved, unit, grid)


def points(
    places: Sequence[Sequence[float]], *, radius: float | str | Distance = 0.0, unit: Unit = "px", grid: Grid | None = None
) -> Points:
    """Points of a reader, for ``.mask(grid)``; see ``boxes``. ``radius`` is in the grid's unit, ``"3mm"`` or ``"4px"``.

    Raises:
        BadParameter: no points, or of different dimensions.
    """
    found = tuple(tuple(float(v) for v in p) for p in places)
    _alike(found, "point")
    return Points(found, Distance.read(radius), unit, grid)


def _alike(places: Sequence[Numbers], what: str) -> None:
    if not places or len({len(p) for p in places}) > 1 or len(places[0]) not in (2, 3):
        got = f"{len(places)} with {sorted({len(p) for p in places})} numbers"
        raise BadParameter(
            f"at least one {what}, all in 2 or all in 3 dimensions", got, "An image without findings has no mask to point at."
        )


def _places(grid: Grid, unit: Unit, own: Grid | None, d: int) -> tuple[Tensor, list[float]]:
    """Where the samples of a grid lie, (d, *space), in samples of ``own`` or in the world's mm, and how wide a sample is there."""
    index = torch.stack([t.double() for t in torch.meshgrid(*[torch.arange(n) for n in grid.shape], indexing="ij")])
    if unit == "mm" and grid.unit != "mm":
        raise BadGrid("places in mm need a grid in mm", f"a plain raster {grid.shape}", "Give them in samples: unit='px'.")
    if unit == "px" and d != grid.ndim:
        raise BadGrid(f"places in samples of a grid with {grid.ndim} axes", f"{d} numbers each", "Give one number for each axis.")
    matrix = torch.from_numpy(grid.matrix[:3, [*range(grid.ndim), 3]] if unit == "mm" else grid.map_to(own or grid)[:-1])
    moved = torch.einsum("wa,a...->w...", matrix[:, :-1], index) + matrix[:, -1].view(-1, *[1] * grid.ndim)
    return moved[:d], matrix[:d, :-1].abs().sum(1).tolist()


def _nearest(at: Tensor, place: Sequence[float], reach: Sequence[float], grid: Grid) -> Tensor:
    """The sample nearest to a place, which must lie within ``reach`` of it along each axis."""
    gap = torch.stack([(a - p).abs() for a, p in zip(at, place, strict=True)])
    nearest = (gap**2).sum(0).flatten().argmin()
    if any(float(g.flatten()[nearest]) > r * (1 + 1e-9) for g, r in zip(gap, reach, strict=True)):
        raise BadGrid(f"a place inside the grid {grid.shape}", f"{tuple(place)}", "Check its unit and frame of reference.")
    found = torch.zeros(grid.shape, dtype=torch.bool)
    found.view(-1)[nearest] = True
    return found


# ---------------------------------------------------------------------------------------------------- several readers
@dataclass(frozen=True, eq=False)
class Readers:
    """Masks of several readers of one image, bool (*space) by name, on one grid."""

    masks: Mapping[str, Tensor]
    grid: Grid

    @property
    def union(self) -> Image:
        """What any of them marked."""
        return self._at_least(1)

    @property
    def majority(self) -> Image:
        """What more than half of them marked; may be empty."""
        return self._at_least(len(self.masks) // 2 + 1)

    def _at_least(self, n: int) -> Image:
        votes = torch.stack([m.double() for m in self.masks.values()]).sum(0)
        return Image((votes >= n)[None].float(), self.grid)

    @property
    def human(self) -> float:
        """Mean Dice over all pairs of readers, the level that people reach against each other; NaN for one reader."""
        pairs = [overlap(a, b)[1] for a, b in itertools.combinations(self.masks.values(), 2)]
        return sum(pairs) / len(pairs) if pairs else math.nan

    def compare(self, why: Map, *, of: Part = "positive", threshold: Threshold = "otsu", tolerance: float = 0.0) -> Table:
        """A row for each reader: whether the map's peak hits what the reader marked, how far it lies from it, the Dice of the map's cut, and that
        of the other readers (``human``).

        ``tolerance`` of a hit is in the grid's unit. A reader who marked nothing is neither hit nor missed.

        Raises:
            BadParameter: a map that is constant in that part, or not finite.
        """
        a = part_of(why.on(self.grid).relevance, of)
        if unfit_map(a, of):
            raise BadParameter("a map with something in it", unfit_map(a, of), "Look at the map first.")
        kept, _ = marked(scaled(a), check("compare", "threshold", Threshold, threshold))
        top, rows = peaks(a), []
        for name, mask in self.masks.items():
            others = [overlap(mask, m)[1] for n, m in self.masks.items() if n != name]
            human = sum(others) / len(others) if others else math.nan
            far = float(distance_to(mask, self.grid.spacing)[top].mean()) if bool(mask.any()) else math.nan
            hit = None if math.isnan(far) else far <= tolerance
            rows.append((name, hit, far, self.grid.unit, overlap(kept, mask)[1] if bool(mask.any()) else math.nan, human))
        return Table(("reader", "hit", "distance", "unit", "dice", "human"), tuple(rows))


def readers(given: Mapping[str, Boxes | Points | Image | Tensor], grid: Grid) -> Readers:
    """Several readers' boxes, points or masks on one grid: that of the image which was explained.

    Raises:
        BadParameter: nobody.
        BadGrid: a tensor of another shape, or marks in another frame of reference.
    """
    if not given:
        raise BadParameter("at least one reader", "none", "Name them: {'A': boxes(...)}.")
    return Readers({name: _as_mask(m, grid) for name, m in given.items()}, grid)


def _as_mask(given: Boxes | Points | Image | Tensor, grid: Grid) -> Tensor:
    if isinstance(given, (Boxes, Points)):
        given = given.mask(grid)
    if isinstance(given, Image):
        return laid(given, grid).values
    if tuple(given.shape[-grid.ndim :]) != grid.shape or given.numel() != math.prod(grid.shape):
        raise BadGrid(f"a mask on the grid {grid.shape}", f"{tuple(given.shape)}", "Give it as an Image with a grid of its own.")
    return given.reshape(grid.shape) > 0.5


def mean_mask(masks: Sequence[Boxes | Points | Image | Tensor], grid: Grid) -> Tensor:
    """The mean of other patients' masks, (*space) on a grid: how much a map gains that has only learned where findings usually lie (Arun et al. 2021).

    Graded as a map of its own. Take the masks of the training set, never those under test.

    Raises:
        BadParameter: no masks.
        BadGrid: as in ``readers``.
    """
    if not len(masks):
        raise BadParameter("at least one mask of another patient", "none", "Take those of the training set.")
    total = torch.zeros(grid.shape, dtype=torch.float64)
    for m in masks:
        total += _as_mask(m, grid)
    return total / len(masks)
