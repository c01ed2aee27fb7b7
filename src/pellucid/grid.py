"""Grid: where samples lie. Shape, index-to-world affine, unit, frame of reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadGrid

Affine = tuple[tuple[float, float, float, float], ...]
Unit = Literal["mm", "px"]


def as_affine(matrix: NDArray[np.floating] | Sequence[Sequence[float]]) -> Affine:
    """A 4x4 matrix as nested tuples of floats, so that a Grid can be compared and hashed."""
    a = np.asarray(matrix, dtype=np.float64)
    if a.shape != (4, 4) or not np.isfinite(a).all():
        raise BadGrid("an affine must be a finite 4x4 matrix", f"shape {a.shape}", "Give index-to-world in RAS mm.")
    if abs(np.linalg.det(a[:3, :3])) < 1e-12:
        raise BadGrid("an affine must be invertible", "determinant 0", "Check spacing and direction cosines.")
    return tuple((float(r[0]), float(r[1]), float(r[2]), float(r[3])) for r in a)


IDENTITY: Affine = as_affine(np.eye(4))


@dataclass(frozen=True)
class Grid:
    """Where samples lie: sample ``i`` has its center at ``affine @ (i, 1)``.

    ``shape`` has 2 or 3 extents, in the order of the tensor's spatial axes. ``affine`` maps the index
    (padded with zeros to three) to RAS millimeters where ``unit`` is ``"mm"``; a plain raster has ``unit="px"`` and its
    index as its world. ``frame`` is the frame of reference: grids of different frames cannot be laid over each other.

    >>> g = Grid.spaced((4, 6), (0.5, 2.0))
    >>> g.spacing, g.unit
    ((0.5, 2.0), 'mm')
    >>> g.crop((1, 2), (3, 5)).world((0, 0))
    (0.5, 4.0, 0.0)
    """

    shape: tuple[int, ...]
    affine: Affine = IDENTITY
    unit: Unit = "px"
    frame: str | None = None

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise BadGrid("a grid has 2 or 3 extents of at least 1", f"{self.shape}", "Give (h, w) or (i, j, k).")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", as_affine(self.affine))
        if self.unit not in ("mm", "px"):
            raise BadGrid("a grid's unit is 'mm' or 'px'", repr(self.unit), "Convert lengths at the door.")

    @classmethod
    def spaced(cls, shape: Sequence[int], spacing: Sequence[float], frame: str | None = None) -> Grid:
        """A grid in mm with its axes along the world's, for scans that know their spacing and nothing else."""
        diagonal = [*spacing, *[1.0] * (3 - len(shape)), 1.0]
        return cls(tuple(shape), as_affine(np.diag(diagonal)), "mm", frame)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as an array."""
        return np.array(self.affine)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbors along each axis, in the grid's unit."""
        return tuple(float(np.linalg.norm(self.matrix[:3, a])) for a in range(self.ndim))

    @property
    def voxel(self) -> float:
        """Area (2D) or volume (3D) of one sample, in the grid's unit to the power of ``ndim``."""
        gram = self.matrix[:3, : self.ndim]
        return float(np.sqrt(np.linalg.det(gram.T @ gram)))

    @property
    def orientation(self) -> str:
        """Direction in which each axis grows, e.g. ``"RAS"``; ``"?"`` for a plain raster."""
        if self.unit == "px":
            return "?" * self.ndim
        letters = ("LR", "PA", "IS")
        directions = self.matrix[:3, : self.ndim] / np.array(self.spacing)
        out = ""
        for a in range(self.ndim):
            w = int(np.argmax(np.abs(directions[:, a])))
            out += letters[w][int(directions[w, a] > 0)]
        return out

    def world(self, index: Sequence[float]) -> tuple[float, ...]:
        """Index to world, in RAS mm (or px)."""
        full = [*index, *[0.0] * (3 - self.ndim), 1.0]
        return tuple(float(v) for v in (self.matrix @ np.array(full))[:3])

    def index(self, world: Sequence[float]) -> tuple[float, ...]:
        """World to (fractional) index."""
        return tuple(float(v) for v in (np.linalg.inv(self.matrix) @ np.array([*world, 1.0]))[: self.ndim])

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> Grid:
        """The part from ``start`` (inclusive) to ``stop`` (exclusive); may reach outside, which pads."""
        return self.coarsen((1.0,) * self.ndim, tuple(map(float, start)), [b - a for a, b in zip(start, stop, strict=True)])

    def coarsen(self, stride: Sequence[float], offset: Sequence[float], shape: Sequence[int]) -> Grid:
        """The grid whose sample ``u`` lies at this grid's index ``stride * u + offset`` (a feature map, a crop)."""
        step, shift = np.eye(4), np.eye(4)
        step[range(self.ndim), range(self.ndim)] = stride
        shift[range(self.ndim), 3] = offset
        return replace(self, shape=tuple(shape), affine=as_affine(self.matrix @ shift @ step))

    def resize(self, shape: Sequence[int]) -> Grid:
        """The same extent cut into other samples: edges stay, centers move (align_corners=False)."""
        stride = [n / m for n, m in zip(self.shape, shape, strict=True)]
        return self.coarsen(stride, [(s - 1) / 2 for s in stride], shape)

    def resample(self, spacing: Sequence[float]) -> Grid:
        """The same extent (to half a sample) at another spacing, in the grid's unit."""
        wanted = [max(1, round(n * s / t)) for n, s, t in zip(self.shape, self.spacing, spacing, strict=True)]
        stride = [t / s for s, t in zip(self.spacing, spacing, strict=True)]
        offset = [((n - 1) - (m - 1) * r) / 2 for n, m, r in zip(self.shape, wanted, stride, strict=True)]
        return self.coarsen(stride, offset, wanted)

    def permute(self, order: Sequence[int], flip: Sequence[bool] | None = None) -> Grid:
        """Axes in another order, some reversed; every sample keeps its place in the world."""
        flip = flip or [False] * self.ndim
        m, shape = np.eye(4), [self.shape[a] for a in order]
        m[: self.ndim, : self.ndim] = 0
        for new, old in enumerate(order):
            m[old, new] = -1.0 if flip[new] else 1.0
            m[old, 3] = self.shape[old] - 1 if flip[new] else 0.0
        return replace(self, shape=tuple(shape), affine=as_affine(self.matrix @ m))

    def map_to(self, other: Grid) -> NDArray[np.float64]:
        """Matrix (ndim+1 square) from this grid's index to ``other``'s index.

        Raises:
            BadGrid: different units or frames of reference, or planes that do not lie in each other.
        """
        if self.ndim != other.ndim or self.unit != other.unit or (self.frame and other.frame and self.frame != other.frame):
            raise BadGrid(
                "two grids can be laid over each other when dimension, unit and frame of reference agree",
                f"{self.ndim}D {self.unit} {self.frame} and {other.ndim}D {other.unit} {other.frame}",
                "Use the grid of the scan that was explained.",
            )
        full = np.linalg.inv(other.matrix) @ self.matrix
        keep = [*range(self.ndim), 3]
        if self.ndim == 2:
            reach = np.abs(full[2, [0, 1]]) @ np.array(self.shape) + abs(full[2, 3])
            if reach > 0.5:
                raise BadGrid("two images must lie in one plane", f"{reach:.2g} slices apart", "Resample the volume first.")
        return full[np.ix_(keep, keep)]
