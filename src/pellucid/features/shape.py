"""Shape of a region in 2D and 3D, in the grid's unit: a mesh around it, its surface and its diameters, as IBSI defines them."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadParameter

Floats = NDArray[np.float64]


class Lies(Protocol):
    """Where a mask lies: what is needed of a Grid."""

    @property
    def matrix(self) -> NDArray[np.float64]: ...


def shape(mask: NDArray[np.bool_], grid: Lies) -> dict[str, float]:
    """Size and form of a mask (*space) on its grid; lengths in mm (or px), whatever the voxels' spacing or tilt.

    3D: ``volume`` (mesh) and ``volume_by_voxels`` in mm3, ``surface`` in mm2; 2D: ``area``, ``area_by_samples`` in mm2, ``perimeter`` in mm. Both:
    ``sphericity`` (1 for a ball or disk), ``maximum_diameter`` (between vertices of the mesh), ``major_axis`` and the others as 4 standard deviations
    along it (an ellipse's own in 2D; IBSI says the same in 3D, where a ball's is 0.894 of its diameter), ``elongation`` and ``flatness`` as ratios of
    them, ``pieces`` (parts that do not touch, not even by a corner).

    **Misleads when**: a region is a few samples wide: a mesh cuts its corners, and surfaces depend on the sampling.

    **Source**: IBSI 3.1: volume RNU0, YEKZ; surface C0JK; sphericity QCFX; diameter L0JK; axes TDIC, P9VJ, 7J51; elongation Q3CK; flatness N17B. In
    2D the same with areas and perimeters (sphericity 2 sqrt(pi A) / P).

    Raises:
        BadParameter: an empty mask.
    """
    from scipy import ndimage

    m = np.asarray(mask, bool)
    if not m.any():
        raise BadParameter("a region with samples", "an empty mask", "Leave that image out.")
    ndim = m.ndim
    turned = np.asarray(np.linalg.qr(grid.matrix[:3, :ndim]).R)  # lengths and angles of the index's steps, in as many axes
    cell = abs(float(np.linalg.det(turned)))
    at = np.argwhere(m) @ turned.T
    found = _solid(m, turned, cell) if ndim == 3 else _flat(m, turned, cell)
    middle = at - at.mean(0)
    moments = np.sort(np.linalg.eigvalsh(middle.T @ middle / max(1, len(at) - 1)))[::-1].clip(0)  # n - 1, as IBSI's own values have it
    axes = [4 * math.sqrt(float(v)) for v in moments]
    names = ("major_axis", "minor_axis", "least_axis")[:ndim]
    found |= dict(zip(names, axes, strict=True))
    found["elongation"] = axes[1] / axes[0] if axes[0] > 0 else math.nan
    if ndim == 3:
        found["flatness"] = axes[2] / axes[0] if axes[0] > 0 else math.nan
    found["pieces"] = float(ndimage.label(m, np.ones((3,) * ndim))[1])
    return found


def _solid(mask: NDArray[np.bool_], turned: Floats, cell: float) -> dict[str, float]:
    from skimage.measure import marching_cubes

    points, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float64), 0.5, method="lorensen")
    points = points.astype(np.float64) @ turned.T
    a, b, c = (points[faces[:, k]] for k in range(3))
    volume = abs(float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum())) / 6
    surface = float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) / 2
    return {
        "volume": volume,
        "volume_by_voxels": cell * int(mask.sum()),
        "surface": surface,
        "surface_to_volume": surface / volume,
        "sphericity": (36 * math.pi * volume**2) ** (1 / 3) / surface,
        "maximum_diameter": _diameter(points),
    }


def _flat(mask: NDArray[np.bool_], turned: Floats, cell: float) -> dict[str, float]:
    from skimage.measure import find_contours

    lines = [line @ turned.T for line in find_contours(np.pad(mask, 1).astype(np.float64), 0.5)]
    area = abs(sum(_signed(line) for line in lines))  # holes run the other way round
    perimeter = sum(float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) for line in lines)
    return {
        "area": area,
        "area_by_samples": cell * int(mask.sum()),
        "perimeter": perimeter,
        "perimeter_to_area": perimeter / area,
        "sphericity": 2 * math.sqrt(math.pi * area) / perimeter,
        "maximum_diameter": _diameter(np.concatenate(lines)),
    }


def _signed(line: Floats) -> float:
    x, y = line[:, 0], line[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2


def _diameter(points: Floats) -> float:
    """The longest distance between two points; only corners of the hull can be its ends."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    return float(pdist(points[ConvexHull(points).vertices]).max())


def equivalent_diameter(size: float, ndim: int) -> float:
    """The diameter of the disk or ball of that area or volume.

    >>> round(equivalent_diameter(math.pi, 2), 6)
    2.0
    """
    return 2 * math.sqrt(size / math.pi) if ndim == 2 else (6 * size / math.pi) ** (1 / 3)
