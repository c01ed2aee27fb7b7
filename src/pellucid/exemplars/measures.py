"""Measures: what makes two images alike. Each turns an image into one row of numbers, and two rows into a distance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pellucid.activations import Pool, look, pooled
from pellucid.asking import Scan, as_image, explain_all
from pellucid.errors import BadImage, BadParameter, BadSite
from pellucid.explanation import Map
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.method import Ask, Method, Where, read_method
from pellucid.model import Model
from pellucid.probe.ledger import untouched
from pellucid.probe.sites import everywhere, find
from pellucid.run import Meter, Run
from pellucid.target import as_target

Row = NDArray[np.float32]


@dataclass(frozen=True)
class Described:
    """One image as a row (d,), the shape that the row was flattened from, and what there is to say about it."""

    row: Row
    shape: tuple[int, ...]
    image: str
    note: str = ""


@dataclass(frozen=True)
class Measure(ABC):
    """``metric`` says how rows are compared: cosine, euclidean or ssim."""

    metric: ClassVar[str]
    together: ClassVar[int] = 16  # images in memory at a time

    @abstractmethod
    def describe(self, model: Model, scans: Sequence[Scan], run: Run) -> Iterator[Described]:
        """A row for each of a few scans, in their order."""

    def settled(self, model: Model, image: Image) -> Measure:
        """The measure with what depends on the network written out (``site="auto"``), so that it means the same later."""
        site = getattr(self, "site", None)
        return self if site is None else replace(self, site=site_of(model, image, site)[0])  # type: ignore[call-arg]


@dataclass(frozen=True)
class Features(Measure):
    """What the network sees: the mean (or the highest) activation of each channel at a site, compared by the cosine."""

    metric: ClassVar[str] = "cosine"
    together: ClassVar[int] = 2**20  # they are read as they come
    site: str = "auto"
    pool: Pool = "mean"

    def __post_init__(self) -> None:
        if self.pool not in get_args(Pool):
            raise BadParameter("pool is mean, max or none", repr(self.pool), "Choose one of them.")

    def describe(self, model: Model, scans: Sequence[Scan], run: Run) -> Iterator[Described]:
        """One forward pass an image."""
        for seen in look(model, scans, self.site, run=run):
            yield Described(_row(pooled(seen.activation, self.pool)), tuple(seen.activation.shape), seen.image)


@dataclass(frozen=True)
class Guided(Measure):
    """Abstract: a measure that asks a method for maps. ``target`` None is the class that the network predicts for each image."""

    metric: ClassVar[str] = "cosine"
    site: str = "auto"
    method: str = "grad_cam()"
    target: str | int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", repr(read_method(self.method)))


@dataclass(frozen=True)
class Weighted(Guided):
    """What the network sees where it looks: activations at a site averaged with an attribution map's positive values as weights.

    ``target`` None is the class that the network predicts for each image. The map is summed into the site's cells; where it
    is nowhere positive, the plain mean stands in and a note says so. ``method`` is any method's text.

    **Source**: Silva et al. 2020 (MICCAI, Interpretability-guided content-based medical image retrieval): a map localizes the relevant region and
    focuses the features. There, the map is fed to a second network; weighting the activations needs none. ``MapFeatures`` is nearer to theirs.
    """

    def describe(self, model: Model, scans: Sequence[Scan], run: Run) -> Iterator[Described]:
        """One forward pass and the passes of the method an image."""
        maps = maps_of(model, scans, self, run)
        for why, seen in zip(maps, list(look(model, [m.scan for m in maps], self.site, run=run)), strict=True):
            z = seen.activation
            if z.ndim < 2:
                raise BadSite(
                    "weights by place need a site with spatial extent", f"{self.site!r} of {tuple(z.shape)}", "Choose another site."
                )
            weight = weights_at(why, site_of(model, why.scan, self.site)[1], tuple(z.shape[1:]))
            total, note = float(weight.sum()), ""
            if total <= 0:
                weight, total, note = torch.ones_like(weight), float(weight.numel()), "the map is nowhere positive; plain mean"
            row = (z.double().flatten(1) * weight.flatten()).sum(1) / total
            yield Described(_row(row), tuple(z.shape), seen.image, note)


@dataclass(frozen=True)
class MapFeatures(Guided):
    """What the map looks like: its positive values, shown to the network as a picture, and the activations that this causes at a site.

    The map is scaled to its 99.5th percentile, spread over the values that an image may have, repeated for each channel, and neither prepared
    nor explained again. Two images are alike if the network was convinced by the same kind of place.

    **Source**: Silva et al. 2020, who train a second network on the maps; here it is the same one, so that nothing needs training.
    """

    method: str = "integrated_gradients(steps=16)"

    def describe(self, model: Model, scans: Sequence[Scan], run: Run) -> Iterator[Described]:
        """The passes of the method and one forward pass an image."""
        maps = maps_of(model, scans, self, run)
        pictures = [as_picture(why, model.span(why.image.values)) for why in maps]
        seen = list(look(replace(model, prepare=None), pictures, self.site, run=run))
        for why, one in zip(maps, seen, strict=True):
            note = "" if bool((why.relevance > 0).any()) else "the map is nowhere positive"
            yield Described(_row(pooled(one.activation, "mean")), tuple(one.activation.shape), why.image.fingerprint, note)


@dataclass(frozen=True)
class Structural(Measure):
    """How alike the pictures are, whatever the network thinks: structural similarity of the prepared images, shrunk to ``size`` samples an axis.

    ``span`` is the distance from black to white, one for each channel where they have units of their own (CT beside PET); None: as the network's
    description says. **Source**: Wang et al. 2004; mean over the channels.
    """

    metric: ClassVar[str] = "ssim"
    size: int = 64
    span: float | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.span, list):
            object.__setattr__(self, "span", tuple(self.span))
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 2:
            raise BadParameter("size is a whole number of at least 2", repr(self.size), "Write 64.")
        each = self.span if isinstance(self.span, tuple) else (1.0 if self.span is None else self.span,)
        if not each or not all(0 < s < float("inf") for s in each):
            raise BadParameter("span is above 0", repr(self.span), "Give highest minus lowest possible value, or that of each channel.")

    def settled(self, model: Model, image: Image) -> Measure:
        """With the span of this image, which then holds for all: one, or where channels have units of their own, one for each."""
        if self.span is not None:
            return self
        low, high = model.span(model.ready(image)[0].values)
        each = tuple(float(s) or 1.0 for s in (high - low).flatten())
        return replace(self, span=each if len(set(each)) > 1 else each[0])

    def describe(self, model: Model, scans: Sequence[Scan], run: Run) -> Iterator[Described]:
        """No pass at all."""
        for scan in scans:
            image = model.ready(as_image(scan))[0]
            x = image.values.float().cpu()
            space = tuple(min(n, self.size) for n in x.shape[1:])
            small = F.interpolate(x[None], space, mode="area")[0]
            yield Described(_row(small.flatten()), tuple(small.shape), image.fingerprint)


@dataclass(frozen=True)
class Perceptual(Measure):
    """A deep perceptual distance, as a baseline: activations at several sites, scaled at each cell to length 1 over the channels, cell by cell.

    The squared distance is the mean over sites of the mean over cells of the squared difference. ``cells`` bounds the numbers kept: finer sites
    are averaged down to so many cells an axis after the scaling (None: never), which forgives small shifts.

    **Source**: Zhang et al. 2018 (CVPR, LPIPS), equation 1 with all channel weights equal and the network's own sites; no weights are learned
    and the network is the one that is explained, so its numbers are not those of the published metric.
    """

    metric: ClassVar[str] = "euclidean"
    sites: tuple[str, ...] = field(default=())
    cells: int | None = 16

    def __post_init__(self) -> None:
        if isinstance(self.sites, str):
            raise BadParameter("sites is a tuple of names", repr(self.sites), f"Write sites=({self.sites!r},).")
        object.__setattr__(self, "sites", tuple(self.sites))
        if self.cells is not None and (isinstance(self.cells, bool) or not isinstance(self.cells, int) or self.cells < 1):
            raise BadParameter("cells is a whole number of at least 1, or None", repr(self.cells), "Write 16.")

    def settled(self, model: Model, image: Image) -> Measure:
        """With the sites named; without any, three from all that have spatial extent: a third of the way, two thirds, the last."""
        if self.sites:
            return self
        with untouched(model.module):
            found = everywhere(model, model.ready(image)[1])[0]
        at = sorted({max(0, round(len(found) * part / 3) - 1) for part in (1, 2, 3)})
        return replace(self, sites=tuple(found[i] for i in at))

    def describe(self, model: Model, scans: Sequence[Scan], run: Run) -> Iterator[Described]:
        """One forward pass an image and site."""
        images = [as_image(s) for s in scans]
        told = [list(look(model, images, s, run=run)) for s in self.sites]
        for seen in zip(*told, strict=True):
            parts = [cells_of(s.activation, self.cells) / len(self.sites) ** 0.5 for s in seen]
            yield Described(_row(torch.cat(parts)), tuple(len(p) for p in parts), seen[0].image)


NAMED: dict[str, Measure] = {
    "features": Features(), "weighted": Weighted(), "map": MapFeatures(), "ssim": Structural(), "perceptual": Perceptual(),
}  # fmt: skip


def as_measure(by: Measure | str) -> Measure:
    """A measure from a measure or its short name: features, weighted, map, ssim, perceptual."""
    if isinstance(by, Measure):
        return by
    if by not in NAMED:
        raise BadParameter(f"a measure is one of {', '.join(NAMED)}", repr(by), "Or give one: Features(site='layer4').")
    return NAMED[by]


def cells_of(activation: Tensor, cells: int | None) -> Tensor:
    """An activation (c, *space) as a vector whose squared differences are means over cells: unit length over the channels at each cell."""
    z = activation.double() if activation.ndim > 1 else activation.double()[:, None]
    z = z / z.norm(dim=0, keepdim=True).clamp_min(1e-10)
    space = tuple(z.shape[1:])
    if cells is not None and max(space) > cells:
        z = F.interpolate(z[None], tuple(min(n, cells) for n in space), mode="area")[0]
    return z.flatten() / (z[0].numel() ** 0.5)


def site_of(model: Model, image: Image, site: str) -> tuple[str, Grid]:
    """The name of a site as the network has it, and the grid of its cells on the prepared image."""
    with untouched(model.module):
        ready, x = model.ready(image)
        place, _ = find(model, site, x)
    layout, grid = place.layout, ready.grid
    space = layout.space or tuple(place.shape[1:])
    if layout.stride is not None and layout.offset is not None and len(space) == grid.ndim:
        return place.text, grid.coarsen(layout.stride, layout.offset, space)
    return place.text, grid.resize(space) if len(space) == grid.ndim else grid


def maps_of(model: Model, scans: Sequence[Scan], by: Guided, run: Run) -> list[Map]:
    """Attribution maps of a few scans, at the measure's site where its method looks at sites."""
    found: Method[Any] = read_method(by.method)
    where = by.site if found.facts.where is Where.FEATURES else None
    return explain_all(model, [as_image(s) for s in scans], [Ask(found, as_target(by.target), where)], run)


def weights_at(why: Map, grid: Grid, space: tuple[int, ...]) -> Tensor:
    """Positive relevance, each sample's added to the cell of a site that it lies nearest to: (*space), float64."""
    positive = why.relevance.detach().cpu().double().clamp_min(0)
    if tuple(positive.shape) == space:
        return positive
    if grid.shape != space or len(space) != positive.ndim:
        raise BadSite(f"a site whose cells have the {positive.ndim} axes of the image", f"{space}", "Choose another site.")
    matrix = torch.from_numpy(why.grid.map_to(grid)).double()
    at = torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in positive.shape], indexing="ij")).flatten(1)
    cells = (matrix[:-1, :-1] @ at + matrix[:-1, -1:]).round()
    flat = torch.zeros(at.shape[1], dtype=torch.long)
    for n, axis in zip(space, cells, strict=True):
        flat = flat * n + axis.clamp(0, n - 1).long()
    found = torch.zeros(space, dtype=torch.float64)
    found.view(-1).index_add_(0, flat, positive.flatten())
    return found


def as_picture(why: Map, span: tuple[Tensor, Tensor]) -> Image:
    """A map's positive values as an image like the explained one: 0 becomes the lowest value, its 99.5th percentile the highest."""
    shown = why.on(why.image.grid).relevance.clamp_min(0).double()
    high = float(torch.quantile(shown.flatten()[:: max(1, shown.numel() // 2**20)], 0.995)) or float(shown.max()) or 1.0
    values = span[0] + (shown / high).clamp(max=1) * (span[1] - span[0])
    return why.image.with_values(values.to(why.image.values.dtype).expand_as(why.image.values).clone())


def described(model: Model, scans: Sequence[Scan], measure: Measure, run: Run) -> Iterator[Described]:
    """Rows of all scans, in their order; progress counts images."""
    meter, quiet = Meter(run, total=len(scans)), replace(run, on_tick=None)
    for at in range(0, len(scans), measure.together):
        for one in measure.describe(model, scans[at : at + measure.together], quiet):
            meter.tick(forward=1)
            yield one


def _row(values: Tensor) -> Row:
    row = values.detach().float().cpu().numpy().copy()
    if not np.isfinite(row).all():
        raise BadImage("finite features", "NaN or infinity", "Look at the image's values.")
    return row
