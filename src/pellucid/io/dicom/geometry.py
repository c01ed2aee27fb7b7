"""Where DICOM slices lie: planes, their order, and the one affine that fits them, or a refusal with the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadFile
from pellucid.grid import Affine, as_affine

TOLERANCE = 0.01  # share of the slice spacing by which a gap may differ
FINER = 4  # resampled slices per slice at most
TOGETHER = 1e-3  # mm: two slices nearer than this lie in one place
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Plane:
    """One slice in LPS mm: center of its first pixel, directions of growing column and row index, and distances.

    ``spacing`` is (between rows, between columns) as in PixelSpacing; positions are pixel centers (DICOM PS3.3 C.7.6.2.1.1).
    """

    position: tuple[float, ...]
    along_row: tuple[float, ...]
    along_column: tuple[float, ...]
    spacing: tuple[float, float]
    thickness: float

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector along_row x along_column."""
        n = np.cross(self.along_row, self.along_column)
        return np.asarray(n / np.linalg.norm(n))

    def parallel(self, other: Plane) -> bool:
        """Same orientation (to 1e-4) and pixel spacing (to 1e-4 of it)."""
        mine = np.array([*self.along_row, *self.along_column])
        return bool(
            np.allclose(mine, [*other.along_row, *other.along_column], atol=1e-4) and np.allclose(self.spacing, other.spacing, rtol=1e-4)
        )


@dataclass(frozen=True)
class Plan:
    """How a tilted or uneven stack becomes a regular one: parallel slices at ``places`` (ascending, LPS mm), and what was wrong.

    The new grid has the slices' own directions and pixel spacing, spans all of them, and its slices lie as far apart as the two
    nearest ones (but there are at most FINER times as many).
    """

    plane: Plane
    places: tuple[tuple[float, ...], ...]
    wrong: str

    def _offsets(self) -> NDArray[np.float64]:
        """Where each slice's first pixel lies against that of slice 0, in mm along column, row and normal."""
        axes = np.stack([self.plane.along_column, self.plane.along_row, self.plane.normal])
        return np.asarray((np.array(self.places) - self.places[0]) @ axes.T)

    @property
    def shifts(self) -> NDArray[np.float64]:
        """Per slice, how many rows and columns its first pixel lies beyond the first of the new grid; never negative."""
        sideways = self._offsets()[:, :2] / self.plane.spacing
        return np.asarray(sideways - sideways.min(0))

    @property
    def depths(self) -> NDArray[np.float64]:
        """Per slice, mm along the normal from the first."""
        return np.asarray(self._offsets()[:, 2])

    @property
    def step(self) -> float:
        """Slice distance of the new grid."""
        depths = self.depths
        count = 1 + round(min(depths[-1] / np.diff(depths).min(), FINER * (len(depths) - 1)))
        return float(depths[-1] / (count - 1))

    @property
    def origin(self) -> NDArray[np.float64]:
        """First voxel of the new grid, LPS mm."""
        low = self._offsets()[:, :2].min(0)
        return np.asarray(np.array(self.places[0]) + low[0] * np.array(self.plane.along_column) + low[1] * np.array(self.plane.along_row))

    def shape(self, rows: int, columns: int) -> tuple[int, int, int]:
        """Extents of the new grid for slices of this size."""
        most = np.ceil(self.shifts.max(0) - 1e-6).astype(int)
        return rows + int(most[0]), columns + int(most[1]), 1 + round(self.depths[-1] / self.step)


@dataclass(frozen=True)
class Stack:
    """Slices in ascending position along the normal: which ones, which were dropped as copies, and the affine to RAS mm.

    With a ``plan`` the affine is that of the resampled volume, and ``order`` names the slices it is made of.
    """

    order: tuple[int, ...]
    dropped: int
    affine: Affine
    plan: Plan | None = None


def numbers(ds: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    """A numeric element as floats, or None if absent, empty or of another length or not finite."""
    found = ds.get(keyword)
    if found is None or found == "":
        return None
    values = tuple(float(v) for v in (found if isinstance(found, Sequence) and not isinstance(found, str) else [found]))
    return values if len(values) == count and np.isfinite(values).all() else None


def needed(ds: Any, keyword: str, count: int, what: str) -> tuple[float, ...] | None:
    """As ``numbers``, for elements on which values or place depend: there, what cannot be understood may not be passed over.

    Raises:
        BadFile: present and not empty, but not so many finite numbers.
    """
    found = ds.get(keyword)
    if found is None or found == "" or (isinstance(found, Sequence) and not len(found)):
        return None
    values = numbers(ds, keyword, count)
    if values is None:
        raise BadFile(f"read {what}", f"{keyword} that is not {count} finite numbers", "The header is corrupt: export it again.")
    return values


def code(ds: Any, keyword: str) -> str:
    """A coded element (DICOM VR CS: capitals, digits, space, underscore), or ``""``: a damaged header must not smuggle text out."""
    text = str(ds.get(keyword, "") or "").strip()
    return text if len(text) <= 16 and all(c.isascii() and (c.isupper() or c.isdigit() or c in " _") for c in text) else ""


def plane_of(place: Any, turn: Any, measure: Any, what: str) -> Plane | None:
    """The plane that three datasets describe (position, orientation, pixel measures), or None if any is missing.

    Raises:
        BadFile: direction cosines that are not a right angle of unit vectors, or a spacing that is not positive.
    """
    position, cosines = needed(place, "ImagePositionPatient", 3, what), needed(turn, "ImageOrientationPatient", 6, what)
    spacing = needed(measure, "PixelSpacing", 2, what)
    if position is None or cosines is None or spacing is None:
        return None
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    if abs(np.linalg.norm(row) - 1) > 1e-3 or abs(np.linalg.norm(column) - 1) > 1e-3 or abs(row @ column) > 1e-3:
        fix = "The header is corrupt: export the scan again."
        raise BadFile(f"place {what}", f"ImageOrientationPatient {cosines}, not two unit vectors at a right angle", fix)
    if min(spacing) <= 0:
        raise BadFile(f"place {what}", f"PixelSpacing {spacing}", "The header is corrupt: export the scan again.")
    given = numbers(measure, "SpacingBetweenSlices", 1) or numbers(measure, "SliceThickness", 1) or (1.0,)
    return Plane(position, cosines[:3], cosines[3:], (spacing[0], spacing[1]), abs(given[0]) or 1.0)


def stack(planes: Sequence[Plane], same: Callable[[int, int], bool], what: str, *, hint: str = "", resample: bool = False) -> Stack:
    """Order planes along their normal and fit the affine of axes (row, column, slice).

    ``same(a, b)`` tells whether two slices in one place hold the same picture: then one is dropped. ``hint`` says in which elements
    slices of one place differ, for the error. With ``resample`` a tilted or unevenly spaced stack comes back with a ``plan``.

    Raises:
        BadFile: planes that are not parallel, several pictures in one place, and without ``resample`` missing slices, uneven gaps, a
            sheared stack.
    """
    first = planes[0]
    if not all(first.parallel(p) for p in planes):
        fix = "Read one orientation at a time (a scout holds several)."
        raise BadFile(f"stack {what}", f"{len(planes)} slices that are not parallel or differ in pixel spacing", fix)
    normal, places = first.normal, np.array([p.position for p in planes])
    depth = (places - places[0]) @ normal
    order, dropped = _without_copies([int(i) for i in np.argsort(depth, kind="stable")], depth, same, what, hint)
    places, depth = places[order], depth[order]
    step, plan = normal * first.thickness, None
    if len(order) > 1:
        wrong = _uneven(depth) or _sheared(places, normal, min(first.spacing))
        if wrong and not resample:
            raise BadFile(f"stack {what}", *wrong)
        step = (places[-1] - places[0]) / (len(order) - 1)
        if wrong:
            plan = Plan(first, tuple(map(tuple, places.tolist())), wrong[0])
            places, step = plan.origin[None], normal * plan.step
    return Stack(tuple(order), dropped, _affine(first, places[0], step), plan)


def _affine(plane: Plane, origin: NDArray[np.float64], step: NDArray[np.float64]) -> Affine:
    """LPS directions and a first voxel as the RAS affine of axes (row, column, slice)."""
    matrix = np.eye(4)
    matrix[:3, 0] = np.array(plane.along_column) * plane.spacing[0]
    matrix[:3, 1] = np.array(plane.along_row) * plane.spacing[1]
    matrix[:3, 2], matrix[:3, 3] = step, origin
    return as_affine(LPS_TO_RAS @ matrix)


def _without_copies(
    order: list[int], depth: NDArray[np.float64], same: Callable[[int, int], bool], what: str, hint: str
) -> tuple[list[int], int]:
    """Slices of one place: copies are dropped, different pictures refused."""
    kept: list[int] = []
    other = 0
    for i in order:
        if kept and depth[i] - depth[kept[-1]] < TOGETHER:
            other += not same(kept[-1], i)
        else:
            kept.append(i)
    if other:
        got = f"{len(order)} slices at {len(kept)} positions: {other} more pictures where one already lies{hint}"
        raise BadFile(f"stack {what}", got, "Keep one time point, echo or b-value: copy its files into a folder of their own.")
    return kept, len(order) - len(kept)


def _uneven(depth: NDArray[np.float64]) -> tuple[str, str] | None:
    """Where a gap differs from the spacing by over 1 %: how many slices are missing, or how uneven the gaps are; and the way out."""
    gaps = np.diff(depth)
    spacing = float(np.median(gaps))
    if bool((np.abs(gaps - spacing) <= TOLERANCE * spacing + TOGETHER).all()):
        return None
    unit = float(gaps.min())
    times = np.round(gaps / unit)
    if bool((np.abs(gaps - times * unit) <= TOLERANCE * unit * times + TOGETHER).all()):
        at = int(np.argmax(times > 1))
        missing, hole = int((times - 1).sum()), f"first hole after slice {at + 1} ({gaps[at]:.4g} mm)"
        got = f"{missing} missing slices: spacing {unit:.4g} mm, {len(depth)} slices, {hole}"
        return got, "Export the whole series again, or fill the holes from their neighbors: resample=True."
    got = f"uneven gaps: {gaps.min():.4g} to {gaps.max():.4g} mm, median {spacing:.4g} mm"
    return got, "Have it resampled to even slices: resample=True."


def _sheared(places: NDArray[np.float64], normal: NDArray[np.float64], pixel: float) -> tuple[str, str] | None:
    """Where the slices do not lie on a straight line along their normal: by how much; and the way out."""
    step = (places[-1] - places[0]) / (len(places) - 1)
    sideways = step - normal * (step @ normal)
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(sideways), step @ normal)))
    if np.linalg.norm(sideways) > TOLERANCE * (step @ normal) + TOGETHER:
        got = f"a sheared stack: each slice is moved sideways by {np.linalg.norm(sideways):.4g} mm (tilt {tilt:.2f} degrees, gantry tilt?)"
        return got, "Have it straightened by resampling: resample=True."
    off = places - places[0] - np.arange(len(places))[:, None] * step
    worst = float(np.linalg.norm(off, axis=1).max())
    if worst > max(0.1 * pixel, 2 * TOLERANCE * float(step @ normal)):
        return f"slices up to {worst:.4g} mm off a straight line", "Have it resampled onto one: resample=True."
    return None


def flat_affine(ds: Any, spacing: tuple[float, float]) -> Affine | None:
    """A projection's directions from PatientOrientation (row, column), e.g. L\\F; None if it does not tell. The origin is arbitrary."""
    axes = {"L": (0, -1.0), "R": (0, 1.0), "P": (1, -1.0), "A": (1, 1.0), "F": (2, -1.0), "H": (2, 1.0)}  # toward, in RAS
    said = ds.get("PatientOrientation") or []
    letters = [str(s)[:1] for s in said] if not isinstance(said, str) else []
    if len(letters) != 2 or any(s not in axes for s in letters):
        return None
    (row, row_sign), (column, column_sign) = axes[letters[0]], axes[letters[1]]
    if row == column:
        return None
    matrix = np.zeros((4, 4))
    matrix[column, 0] = column_sign * spacing[0]
    matrix[row, 1] = row_sign * spacing[1]
    matrix[3 - row - column, 2] = 1.0
    matrix[3, 3] = 1.0
    return as_affine(matrix)
