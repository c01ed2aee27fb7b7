"""Activations and gradients as vectors: pooled or whole, inside a mask's cells, in the coordinates of the span of the examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.activations import Pool, gather, look, pooled
from pellucid.asking import Scan, as_image
from pellucid.concepts.bank import Examples
from pellucid.concepts.directions import Floats
from pellucid.errors import BadImage, BadParameter, Cancelled
from pellucid.grid import Grid
from pellucid.model import Model
from pellucid.probe.ledger import untouched
from pellucid.probe.sites import find
from pellucid.run import Run

STRIP = 4096  # columns that are read at a time
TINY = 1e-12  # of the largest eigenvalue
SAME = 1e-5  # of the largest gradient: what rounding makes of equal ones in float32
EDGE = 1.0  # cells around the outermost centers that still belong to them: convolutions without padding leave a rim


def choose_pool(model: Model, sets: Sequence[Examples], scans: Sequence[Scan], pool: Pool | None) -> Pool:
    """The pooling asked for; None: whole activations where all images have one shape and no masks, else the mean over cells.

    Raises:
        BadParameter: another pooling, or whole activations of masked images.
    """
    if pool not in (None, "mean", "max", "none"):
        raise BadParameter("pool is mean, max, none or None (chosen)", repr(pool), "Choose one of them.")
    masked = any(s.masked for s in sets)
    if masked and pool == "none":
        raise BadParameter("masked examples are pooled over their cells", "pool='none'", "Choose pool='mean' or 'max'.")
    if pool is not None:
        return pool
    if masked:
        return "mean"
    shapes = {tuple(model.ready(as_image(s))[0].values.shape) for group in (*(e.scans for e in sets), scans) for s in group}
    return "none" if len(shapes) == 1 else "mean"


def rows_of(
    model: Model, sets: Sequence[Examples], site: str, pool: Pool, folder: str | Path | None, run: Run, notes: list[str] | None = None
) -> NDArray[np.float32]:
    """A row (d,) for each example of all sets, in order: (n, d). A scan that several masks look at passes once."""
    scans = [s for e in sets for s in e.scans]
    masks = [m for e in sets for m in (e.masks or (None,) * len(e))]
    if all(m is None for m in masks):
        table = gather(model, scans, site, pool=pool, folder=folder, run=run)
        if notes is not None:
            notes.extend(table.notes)
        return table.rows
    marks = [as_image(s).fingerprint for s in scans]
    asked: dict[str, list[int]] = {}
    for i, mark in enumerate(marks):
        asked.setdefault(mark, []).append(i)
    rows: NDArray[np.float32] | None = None
    first = [at[0] for at in asked.values()]
    with untouched(model.module):
        for at, seen in zip(asked.values(), look(model, [scans[i] for i in first], site, run=run, notes=notes), strict=True):
            place = Cells(model, scans[at[0]], site)
            for i in at:
                row = place.row(seen.activation, masks[i], pool)
                if rows is None:
                    rows = np.empty((len(scans), len(row)), np.float32)
                rows[i] = row
    assert rows is not None
    if not np.isfinite(rows).all():
        raise BadImage(f"finite activations at {site!r}", "NaN or infinity", "Look at the images' values.")
    return rows


class Cells:
    """Where the cells of a site lie on one scan."""

    def __init__(self, model: Model, scan: Scan, site: str) -> None:
        self.image = as_image(scan)
        prepared, x = model.ready(self.image)
        layout = find(model, site, x)[0].layout
        self.prepared, self.site = prepared, site
        self.grid: Grid | None = None
        if layout.space is not None and len(layout.space) == prepared.grid.ndim:
            known = layout.stride is not None and layout.offset is not None
            self.grid = (
                prepared.grid.coarsen(cast(Any, layout.stride), cast(Any, layout.offset), layout.space)
                if known
                else prepared.grid.resize(layout.space)
            )
            self.to_cells = torch.from_numpy(np.ascontiguousarray(self.image.grid.map_to(self.grid)))

    def row(self, activation: Tensor, mask: Tensor | None, pool: Pool) -> NDArray[np.float32]:
        """Mean of the activation (c, *cells) over a mask's samples, each read at its nearest cell; or the highest of those cells."""
        if mask is None:
            return np.asarray(pooled(activation, pool).float().numpy(), dtype=np.float32)
        weight = self.weights(mask)
        flat = activation.flatten(1).double()
        if pool == "max":
            return np.asarray(flat[:, weight > 0].amax(1).float().numpy(), dtype=np.float32)
        return np.asarray(((flat * weight).sum(1) / weight.sum()).float().numpy(), dtype=np.float32)

    def weights(self, mask: Tensor) -> Tensor:
        """How many of a mask's samples lie nearest to each cell, (cells,); float64."""
        near = self._nearest(mask)
        if not len(near):
            raise BadImage(
                f"a mask inside the image that the network sees at {self.site!r}", "one outside", "Look at prepare= and its crop."
            )
        return torch.bincount(near, minlength=math.prod(cast(Grid, self.grid).shape)).double()

    def sees(self, mask: Tensor) -> bool:
        """Whether anything of a mask lies in the cells."""
        return bool(len(self._nearest(mask)))

    def _nearest(self, mask: Tensor) -> Tensor:
        """The cell of each of a mask's samples that lies in one, as a flat index."""
        if self.grid is None:
            raise BadImage(f"a site with cells for a mask: {self.site!r}", "one without", "Choose an earlier site, or leave masks out.")
        to_cells, k = self.to_cells, mask.ndim
        at = mask.nonzero().double() @ to_cells[:k, :k].T + to_cells[:k, k]
        size = torch.tensor(self.grid.shape)
        inside = ((at > -0.5 - EDGE) & (at < size - 0.5 + EDGE)).all(1)
        near = torch.minimum(at[inside].round().long().clamp_min(0), size - 1)
        flat = torch.zeros(len(near), dtype=torch.long)
        for axis, n in enumerate(self.grid.shape):
            flat = flat * n + near[:, axis]
        return flat


@dataclass(frozen=True, eq=False)
class Span:
    """Rows (n, d) in coordinates (n, r): of an orthonormal basis of their span where d > n, their own otherwise.

    Every direction that is fit to the rows lies in their span, so products with gradients stay as they are.
    """

    rows: NDArray[np.float32]
    coordinates: Floats
    back: Floats | None

    @classmethod
    def of(cls, rows: NDArray[np.float32]) -> Span:
        n, d = rows.shape
        if d <= n:
            return cls(rows, rows.astype(np.float64), None)
        gram = np.zeros((n, n))
        for at in range(0, d, STRIP):
            strip = rows[:, at : at + STRIP].astype(np.float64)
            gram += strip @ strip.T
        values, vectors = np.linalg.eigh(gram)
        kept = values > TINY * max(float(values[-1]), 1e-300)
        root = np.sqrt(values[kept])
        return cls(rows, vectors[:, kept] * root, vectors[:, kept] / root)

    def project(self, slopes: NDArray[np.float32]) -> Floats:
        """Gradients (k, d) in these coordinates: (k, r)."""
        if self.back is None:
            return slopes.astype(np.float64)
        found = np.zeros((len(slopes), len(self.rows)))
        for at in range(0, self.rows.shape[1], STRIP):
            found += slopes[:, at : at + STRIP].astype(np.float64) @ self.rows[:, at : at + STRIP].astype(np.float64).T
        return found @ self.back

    def vector(self, coordinates: Floats) -> NDArray[np.float32]:
        """A direction (r,) as one of the site's activations: (d,)."""
        if self.back is None:
            return coordinates.astype(np.float32)
        along = self.back @ coordinates
        parts = [along @ self.rows[:, at : at + STRIP].astype(np.float64) for at in range(0, self.rows.shape[1], STRIP)]
        return np.concatenate(parts).astype(np.float32)


def slope_of(gradient: Tensor, pool: Pool) -> NDArray[np.float32]:
    """The gradient (c, *cells) for a step along a direction: a pooled one moves all cells alike, so theirs are summed."""
    flat = gradient.flatten(1) if gradient.ndim > 1 else gradient[:, None]
    vector = flat.flatten() if pool == "none" else flat.double().sum(1)
    return np.asarray(vector.float().numpy(), dtype=np.float32)


def slopes_of(
    model: Model, scans: Sequence[Scan], site: str, target: Any, span: Span, pool: Pool, run: Run, notes: list[str] | None = None
) -> Floats:
    """Gradients of the target at the site for each scan, in the span's coordinates (n, r); a few at a time."""
    found = []
    stream = look(model, scans, site, target, gradient=True, run=run, notes=notes)
    while part := list(islice(stream, 32)):
        slopes = [slope_of(cast(Tensor, s.gradient), pool) for s in part]
        wrong = next((s for s in slopes if len(s) != span.rows.shape[1]), None)
        if wrong is not None:
            got = f"{len(wrong)} values, {span.rows.shape[1]} of the concept's images"
            raise BadImage(f"activations of one shape at {site!r}", got, "Choose pool='mean', or bring the images to one size in prepare=.")
        found.append(span.project(np.stack(slopes)))
    return np.concatenate(found)


def uniform(slopes: Floats) -> bool:
    """Whether gradients (n, r) are the same in all images, but for rounding."""
    return bool(np.ptp(slopes, axis=0).max() <= SAME * np.abs(slopes).max())


def hear(run: Run, what: str) -> None:
    """Stop between fits if the caller asked to."""
    if run.cancel.is_set():
        raise Cancelled("the run was asked to stop", what, "Nothing was changed.")
