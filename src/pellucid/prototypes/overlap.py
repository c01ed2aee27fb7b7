"""Overlap: where units answer against where concepts were marked, image by image, and against the masks of other patients."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pellucid.activations import look
from pellucid.asking import Scan, as_image
from pellucid.errors import BadImage, BadParameter
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.model import Model
from pellucid.ops.quantiles import Quantiles
from pellucid.ops.resample import pull
from pellucid.prototypes.cells import cells_of
from pellucid.run import Run

Floats = NDArray[np.float64]
Mask = Image | Tensor | NDArray[Any] | str | None
SIDES = {2: 16, 3: 7}  # cells of the frame in which patients are compared
MEMORY = 2**29  # bytes, where Run(memory=) says nothing
PART = 2**23  # values of enlarged activations at once


@dataclass(frozen=True, eq=False)
class Marked:
    """A prepared image, what is marked on it by concept (k, *space), and which concepts were looked for there at all."""

    image: Image
    masks: Tensor
    known: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Overlaps:
    """By image: ``both`` (n, units, concepts) is the area in the unit's and the concept's mask, ``unit`` (n, units) and ``concept`` (n, concepts) either
    alone, in ``unit_of`` to the power of the axes; NaN in ``concept`` where nobody looked for it. ``frame`` (units, n, cells) and ``laid`` (n, concepts, cells) are the
    shares of each cell of a frame common to all images that are marked."""

    both: Floats
    unit: Floats
    concept: Floats
    frame: NDArray[np.float32]
    laid: NDArray[np.float32]
    unit_of: str
    images: tuple[str, ...]

    @property
    def known(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.concept)


def marked(model: Model, scan: Scan, masks: Mapping[str, Sequence[Mask]], k: int) -> Marked:
    """The k-th scan, prepared, with its masks on the prepared image's grid (the nearest sample's).

    Raises:
        BadImage: a mask of another shape than the scan's.
    """
    given = as_image(scan)
    ready = model.ready(given)[0]
    found, known = [], []
    for name, several in masks.items():
        mask = several[k]
        known.append(mask is not None)
        found.append(torch.zeros(ready.grid.shape, dtype=torch.bool) if mask is None else _on(mask, given, ready.grid, name, k))
    return Marked(ready, torch.stack(found), np.array(known))


def _on(mask: Any, scan: Image, grid: Grid, name: str, k: int) -> Tensor:
    if isinstance(mask, (Tensor, np.ndarray)):
        values = torch.as_tensor(np.asarray(mask) if isinstance(mask, np.ndarray) else mask)
        values = values[0] if values.ndim == len(scan.grid.shape) + 1 and len(values) == 1 else values
        if tuple(values.shape) != scan.grid.shape:
            fix = "Give masks on the scan's own samples, or as Images with a grid."
            raise BadImage(f"a mask of {name!r} as large as scan {k}: {scan.grid.shape}", f"{tuple(values.shape)}", fix)
        mask = Image((values != 0).float()[None], scan.grid)
    held = as_image(mask)
    return held.on(grid, nearest=True, fill=0.0).values.ne(0).any(0).cpu()


def thresholds(model: Model, scans: Sequence[Scan], site: str, quantile: float, run: Run, notes: list[str]) -> tuple[Floats, float, Floats]:
    """For each unit the value that a share ``quantile`` of its cells in all images lies above, by how much that share may be off, and its highest value."""
    kept: Quantiles | None = None
    most: Floats = np.empty(0)
    for seen in look(model, scans, site, run=run, notes=notes):
        values = seen.activation.flatten(1).double().numpy()
        if kept is None:
            kept, most = Quantiles.within(len(values), run.memory or MEMORY), np.full(len(values), -np.inf)
        kept.add(values)
        most = np.maximum(most, values.max(1))
    assert kept is not None
    return kept.above(quantile), kept.error, most


def enlarged(activation: Tensor, cells: Grid, grid: Grid) -> Iterator[tuple[slice, Tensor]]:
    """Activations (units, *cells) at the samples of an image, linearly, a few units at a time."""
    size = max(1, PART // int(np.prod(grid.shape)))
    matrix = grid.map_to(cells)
    for start in range(0, len(activation), size):
        part = slice(start, min(start + size, len(activation)))
        yield part, pull(activation[part].double(), grid.shape, matrix)


def overlaps(
    model: Model, scans: Sequence[Scan], masks: Mapping[str, Sequence[Mask]], site: str, above: Floats, run: Run
) -> Overlaps:  # fmt: skip
    """One pass over all images: areas, and each mask in the common frame."""
    n, units, names, level = len(scans), len(above), list(masks), torch.from_numpy(above)
    both, unit, concept = np.zeros((n, units, len(names))), np.zeros((n, units)), np.full((n, len(names)), np.nan)
    frame: NDArray[np.float32] | None = None
    laid: NDArray[np.float32] = np.empty(0, np.float32)
    grids: set[str] = set()
    images = []
    for k, seen in enumerate(look(model, scans, site, run=run)):
        one = marked(model, scans[k], masks, k)
        cells, grid = cells_of(model, as_image(scans[k]), site)[1], one.image.grid
        grids.add(grid.unit if not grid.axes else "px")
        if frame is None:
            sides = _sides(grid.ndim, n, units, run.memory or MEMORY)
            shape = tuple(min(s, m) for s, m in zip(sides, grid.shape, strict=True))
            frame, laid = np.zeros((units, n, int(np.prod(shape))), np.float32), np.zeros((n, len(names), int(np.prod(shape))), np.float32)
        if grid.ndim != len(shape):
            raise BadImage(f"images of {len(shape)} axes", f"one of {grid.ndim}", "Dissect pictures and volumes apart.")
        flat, area = one.masks.flatten(1).double(), grid.voxel
        for part, large in enlarged(seen.activation, cells, grid):
            on = large > level[part].view(-1, *[1] * grid.ndim)
            both[k, part] = (on.flatten(1).double() @ flat.T).numpy() * area
            unit[k, part] = on.flatten(1).sum(1).double().numpy() * area
            frame[part, k] = _framed(on, shape)
        concept[k, one.known] = (flat.sum(1).numpy() * area)[one.known]
        laid[k] = _framed(one.masks, shape)
        images.append(seen.image)
    assert frame is not None
    if len(grids) > 1:
        raise BadImage("images in one unit", "some in mm, some in samples", "Give all of them their spacing.")
    return Overlaps(both, unit, concept, frame, laid, grids.pop(), tuple(images))


def _sides(ndim: int, n: int, units: int, memory: int) -> tuple[int, ...]:
    side = SIDES[ndim]
    while side > 2 and n * units * side**ndim * 4 > memory:
        side -= 1
    return (side,) * ndim


def _framed(on: Tensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Share of each cell of the frame that is marked, (k, cells)."""
    pool: Callable[..., Tensor] = F.adaptive_avg_pool2d if len(shape) == 2 else F.adaptive_avg_pool3d
    found: NDArray[np.float32] = pool(on.float()[None], shape)[0].flatten(1).numpy()
    return found


# ---------------------------------------------------------------------------- against other patients' masks
@dataclass(frozen=True, eq=False)
class Chance:
    """In the common frame, (units, concepts): the overlap (soft IoU) that was found, its mean with other patients' masks, and p over all units and
    concepts at once; ``orders`` is how many ways to deal the masks there are at least, of which so few may be that nothing can be shown."""

    found: Floats
    mean: Floats
    p: Floats
    orders: float


def against_others(seen: Overlaps, patients: Sequence[Hashable], draws: int, run: Run, hear: Callable[[], None]) -> Chance:
    """Masks are dealt among patients; p is the share of deals in which the most remarkable pair of all stands out as much (Westfall and Young 1993).

    Each pair is told in standard deviations of its own deals, the found one among them, so that large organs, which lie alike in everybody, and
    small lesions are held to one measure. A concept is dealt among the patients in whom it was looked for. Images of one patient stay together.
    """
    rng, codes = np.random.default_rng(run.seed), {p: i for i, p in enumerate(dict.fromkeys(patients))}
    who, known = np.array([codes[p] for p in patients]), seen.known
    asked = list(dict.fromkeys(map(tuple, known.T.tolist())))
    found = _soft(seen, known, np.tile(np.arange(len(who))[:, None], known.shape[1]))
    total, squares, deals = found.copy(), found**2, []
    for _ in range(draws):
        hear()
        keys = rng.random(len(codes))
        orders = {a: _dealt(who, np.array(a), keys) for a in asked}
        one = _soft(seen, known, np.stack([orders[tuple(c)] for c in known.T.tolist()], 1))
        deals.append(one.astype(np.float32))
        total += one
        squares += one**2
    mean = total / (draws + 1)
    spread = np.sqrt(np.maximum(squares / (draws + 1) - mean**2, 0))
    told = spread > 1e-4 * mean + 1e-9  # what is alike in all deals, but for rounding, stands out in none
    most = np.sort([np.divide(d - mean, spread, out=np.zeros(mean.shape), where=told).max() for d in deals])
    z = np.divide(found - mean, spread, out=np.zeros(mean.shape), where=told)
    p = (1 + draws - np.searchsorted(most, z - 1e-9)) / (draws + 1)
    fewest = min(len(set(who[np.array(a)].tolist())) for a in asked)
    return Chance(found, (total - found) / draws, p, float(np.prod(np.arange(1.0, fewest + 1))))


def _soft(seen: Overlaps, known: NDArray[np.bool_], source: NDArray[np.int64]) -> Floats:
    """Overlap over union (units, concepts), image i with the mask of image ``source[i, c]``; shares of cells multiply."""
    names = known.shape[1]
    laid = np.stack([np.where(known[:, c, None], seen.laid[source[:, c], c], 0) for c in range(names)], 2)  # (n, cells, concepts)
    both = seen.frame.reshape(len(seen.frame), -1) @ laid.reshape(-1, names)
    own = seen.frame.sum(2) @ known.astype(np.float32)
    union = own + laid.sum((0, 1)) - both
    return np.divide(both, union, out=np.zeros(both.shape), where=union > 0, dtype=np.float64)


def _dealt(who: NDArray[np.int64], known: NDArray[np.bool_], keys: Floats) -> NDArray[np.int64]:
    """For each image the one whose mask it gets: patients in the order of their keys, their images in turn."""
    at = np.arange(len(who))
    there = sorted(set(who[known].tolist()))
    source = at.copy()
    for a, b in zip(there, sorted(there, key=lambda p: keys[p]), strict=True):
        mine, theirs = at[known & (who == a)], at[known & (who == b)]
        source[mine] = theirs[np.arange(len(mine)) % len(theirs)]
    return source


def check_masks(scans: Sequence[Scan], masks: Mapping[str, Sequence[Mask]], patients: Sequence[Hashable] | None) -> None:
    """Raise BadParameter unless there is a mask (or None) of each concept, and a patient, for each scan."""
    if not len(scans):
        raise BadParameter("at least one image", "none", "Give the images.")
    if not masks:
        raise BadParameter("masks of at least one concept", "none", "Write masks={'exudates': [mask, ...]}.")
    for name, several in masks.items():
        if len(several) != len(scans):
            raise BadParameter(f"a mask of {name!r} for each of {len(scans)} scans", f"{len(several)}", "Write None where nobody looked.")
        if all(several[k] is None for k in range(len(several))):
            raise BadParameter(f"masks of {name!r}", "None for all scans", "Leave the concept out.")
    if patients is not None and len(patients) != len(scans):
        raise BadParameter(f"a patient for each of {len(scans)} scans", f"{len(patients)}", "Give as many.")
