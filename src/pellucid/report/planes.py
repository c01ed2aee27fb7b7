"""Planes: how a scan is laid out for the eye. Axes in viewing order, which slice is which, the letters at its edges."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from pellucid.grid import Grid
from pellucid.image import Image

ENDS = (("L", "R"), ("P", "A"), ("I", "S"))  # where each RAS axis starts and ends
OBLIQUE = 2.0  # degrees off the patient's axes from which the page says so


@dataclass(frozen=True)
class Plane:
    """One view: which axis of the laid-out scan runs along the screen, which down it, which is scrolled (None: a flat image).

    ``flip_y`` draws the first row at the bottom. ``edges`` are the letters left, right, top, bottom; empty where sides are not known (a raster whose axes are known: its
    quantities at the four edges).
    """

    name: str
    x: int
    y: int
    through: int | None
    flip_y: bool
    edges: tuple[str, str, str, str]


@dataclass(frozen=True)
class Layout:
    """A scan laid out for viewing: axis ``n`` of the display is axis ``order[n]`` of the scan, reversed where ``flip[n]``."""

    order: tuple[int, ...]
    flip: tuple[bool, ...]
    planes: tuple[Plane, ...]
    sided: bool
    remarks: tuple[str, ...]
    coordinates: str = ""  # whose millimeters are told: "DICOM" (they grow toward L, P, S), "RAS", or "" where no side is known

    def grid(self, grid: Grid) -> Grid:
        """The same samples in viewing order."""
        return grid.permute(self.order, self.flip)

    def array(self, values: np.ndarray) -> np.ndarray:
        """An array (*space) in viewing order."""
        turned = tuple(n for n, f in enumerate(self.flip) if f)
        return np.flip(np.transpose(values, self.order), turned)

    def ends(self) -> tuple[tuple[str, str], ...]:
        """For each axis in viewing order the letters at its beginning and at its end, as the planes show them."""
        found = []
        for a in range(len(self.order)):
            plane = next(p for p in self.planes if a in (p.x, p.y))
            left, right, top, bottom = plane.edges
            found.append((left, right) if plane.x == a else (bottom, top) if plane.flip_y else (top, bottom))
        return tuple(found)


def lay_out(scan: Image) -> Layout:
    """Volumes in mm as radiologists view them (the patient's right on the viewer's left), everything else as it is stored."""
    grid = scan.grid
    sided = grid.unit == "mm" and (grid.frame is not None or bool(scan.facts.get("sided")))
    if grid.ndim == 3:
        if grid.unit == "px":
            return _stored(grid)
        convention = "DICOM" if scan.facts.get("format") == "DICOM" else "RAS"
        return replace(_patient(grid, sided), coordinates=convention if sided else "")
    return _flat(scan, sided)


def _world_axes(grid: Grid) -> tuple[tuple[int, ...], tuple[bool, ...], float]:
    """For each tensor axis the RAS axis that it follows most (each taken once), whether it runs forward, and the largest angle off."""
    cosines = grid.matrix[:3, : grid.ndim] / np.array(grid.spacing)
    best = max(itertools.permutations(range(3), grid.ndim), key=lambda p: sum(abs(cosines[w, a]) for a, w in enumerate(p)))
    along = [float(cosines[w, a]) for a, w in enumerate(best)]
    angle = max(float(np.degrees(np.arccos(min(1.0, abs(c))))) for c in along)
    return best, tuple(c > 0 for c in along), angle


def _remarks(angle: float, sided: bool, flat: bool) -> tuple[str, ...]:
    found = []
    if sided and not flat:
        found.append("Radiological display: the patient's right is on the left of the picture.")
    if sided and angle > OBLIQUE:
        found.append(f"Oblique scan: its axes lie up to {angle:.0f}° off the patient's; letters name the nearest direction.")
    if not sided and not flat:
        found.append("The scan does not say which side is left or right, so no letters are shown; do not read sides from this picture.")
    return tuple(found)


def _patient(grid: Grid, sided: bool) -> Layout:
    """Axes toward the patient's left, back and head (LPS), so that axial slices are drawn as they lie in memory."""
    world, forward, angle = _world_axes(grid)
    order = tuple(world.index(w) for w in range(3))
    wanted = (False, False, True)  # left, posterior, superior: seen from RAS, two of them run backward
    flip = tuple(forward[a] != wanted[n] for n, a in enumerate(order))
    names = ("Axial", "Coronal", "Sagittal") if sided else ("Plane 1", "Plane 2", "Plane 3")
    planes = []
    for name, (x, y, through) in zip(names, ((0, 1, 2), (0, 2, 1), (1, 2, 0)), strict=True):
        edges = (*ENDS[x][::-1], *ENDS[y][::-1])  # right, front and head come first: the third axis is drawn upside down
        planes.append(Plane(name, x, y, through, y == 2, edges if sided else ("",) * 4))
    return Layout(order, flip, tuple(planes), sided, _remarks(angle, sided, False))


def _stored(grid: Grid) -> Layout:
    """A stack in pixels: rows down, columns across, the third axis scrolled; nothing turned."""
    views = ((1, 0, 2), (2, 0, 1), (2, 1, 0))
    ends = grid.ends()
    planes = tuple(Plane(f"Axes {y + 1} and {x + 1}", x, y, t, False, (*ends[x], *ends[y])) for x, y, t in views)
    return Layout((0, 1, 2), (False,) * 3, planes, False, ("A stack without millimeters: shown as it is stored, in pixels.",))


def _flat(scan: Image, sided: bool) -> Layout:
    """A flat image as stored; only where its rows run left to right (NIfTI) it is turned upright, mammograms excepted."""
    if not sided:
        down, across = scan.grid.ends()
        return Layout((0, 1), (False, False), (Plane("Image", 1, 0, None, False, (*across, *down)),), False, ())
    world, forward, angle = _world_axes(scan.grid)
    order, flip = (0, 1), (False, False)
    if world[0] == 0 and scan.facts.get("modality") != "MG":
        order = (1, 0)
        flip = (forward[1], forward[0])  # then both run toward left, back or feet
        world, forward = (world[1], world[0]), (False, False)
    down, across = (ENDS[w] if f else ENDS[w][::-1] for w, f in zip(world, forward, strict=True))
    plane = Plane("Image", 1, 0, None, False, (*across, *down))
    return Layout(order, flip, (plane,), True, _remarks(angle, True, True))
