"""Grid: where samples lie. Shape, index-to-world affine, unit, frame of reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

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
class Axis:
    """What an axis of a raster measures where that is no length: sample ``i`` of the raster stands at ``first + i * step``.

    With ``scale="mel"`` both are mel and :meth:`at` gives hertz: ``mel = 2595 log10(1 + f / 700)`` (O'Shaughnessy 1987, as in HTK).

    >>> Axis("frequency", "Hz", 2840.0, -50.0, "mel").say(0)
    '8000 Hz'
    """

    name: str
    unit: str
    first: float
    step: float
    scale: Literal["linear", "mel"] = "linear"

    def at(self, place: float) -> float:
        """The quantity at a (fractional) index of the raster."""
        value = self.first + self.step * place
        return 700.0 * (10.0 ** (value / 2595.0) - 1.0) if self.scale == "mel" else value

    def say(self, place: float) -> str:
        """The quantity in three digits, with its unit."""
        value = float(f"{self.at(place):.3g}")
        return f"{value + 0.0:g} {self.unit}"


def mel(hertz: float) -> float:
    """Hertz on the mel scale of :class:`Axis`."""
    return 2595.0 * float(np.log10(1.0 + hertz / 700.0))


@dataclass(frozen=True)
class Grid:
    """Where samples lie: sample ``i`` has its center at ``affine @ (i, 1)``.

    ``shape`` has 2 or 3 extents, in the order of the tensor's spatial axes. ``affine`` maps the index
    (padded with zeros to three) to RAS millimeters where ``unit`` is ``"mm"``; a plain raster has ``unit="px"`` and its
    index as its world. ``frame`` is the frame of reference: grids of different frames cannot be laid over each other.
    ``axes`` say what a raster's world measures where it is no length (a spectrogram: hertz and seconds); its lengths stay in samples.

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
    axes: tuple[Axis, ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise BadGrid("a grid has 2 or 3 extents of at least 1", f"{self.shape}", "Give (h, w) or (i, j, k).")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", as_affine(self.affine))
        if self.unit not in ("mm", "px"):
            raise BadGrid("a grid's unit is 'mm' or 'px'", repr(self.unit), "Convert lengths at the door.")
        if self.axes and (self.unit == "mm" or len(self.axes) != len(shape)):
            raise BadGrid(
                "axes go with unit='px', one for each extent", f"{len(self.axes)} axes, {len(shape)}D {self.unit}", "Leave them out."
            )

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

    def say(self, index: Sequence[float]) -> tuple[str, ...]:
        """Where a sample lies on each axis of the world, in words such as ``440 Hz``; empty where no axes are known."""
        return tuple(axis.say(place) for axis, place in zip(self.axes, self.world(index), strict=False))

    def ends(self) -> tuple[tuple[str, str], ...]:
        """For each extent, in words, where its first and its last sample lie; empty words where no axes are known."""
        if not self.axes:
            return (("", ""),) * self.ndim
        found = []
        for a, n in enumerate(self.shape):
            world = int(np.argmax(np.abs(self.matrix[: self.ndim, a])))
            last = [n - 1 if b == a else 0 for b in range(self.ndim)]
            found.append((self.say([0] * self.ndim)[world], self.say(last)[world]))
        return tuple(found)

    def facts(self) -> dict[str, Any]:
        """The grid as plain values; floats keep every bit."""
        known = {"shape": list(self.shape), "affine": [list(r) for r in self.affine], "unit": self.unit, "frame": self.frame}
        return known | ({"axes": [asdict(axis) for axis in self.axes]} if self.axes else {})

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Grid:
        """The reverse of :meth:`facts`."""
        axes = tuple(Axis(**axis) for axis in facts.get("axes", ()))
        return cls(tuple(facts["shape"]), as_affine(facts["affine"]), facts["unit"], facts["frame"], axes)

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
            BadGrid: different units, axes or frames of reference, or planes that do not lie in each other.
        """
        frames = self.frame and other.frame and self.frame != other.frame
        if self.ndim != other.ndim or self.unit != other.unit or self.axes != other.axes or frames:
            raise BadGrid(
                "two grids can be laid over each other when dimension, unit, axes and frame of reference agree",
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
