"""A tilted or unevenly spaced stack of slices on a regular grid, by linear interpolation, when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pellucid.io.dicom.geometry import Plan

TOUCH = 1e-3  # weight from which on a sample that is no patient spoils the voxel


def straighten(
    plan: Plan, picture: Callable[[int], np.ndarray], spoiled: Callable[[int], np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Slices as a volume (row, column, slice[, channel]) of the plan's grid, and where it holds no patient.

    Each slice is moved within its plane by its shift (two samples per axis), then the two slices next to each new one are mixed along
    the normal: a field that is linear in the world comes out exact. A voxel outside of a slice that it needs, or that padding
    (``spoiled``) reached, is marked, and outside ones hold the smallest value of the scan.
    """
    first = picture(0)
    rows, columns, count = plan.shape(*first.shape[:2])
    out = np.empty((rows, columns, count, *first.shape[2:]), np.float32)
    bare = np.empty((rows, columns, count), bool)
    lowest, held = np.inf, dict[int, tuple[np.ndarray, np.ndarray]]()
    depths = plan.depths
    for k in range(count):
        at = min(k * plan.step, depths[-1])
        low = min(max(int(np.searchsorted(depths, at, side="right")) - 1, 0), len(depths) - 2)
        w = float((at - depths[low]) / (depths[low + 1] - depths[low]))
        held = {i: held[i] if i in held else _moved(plan, i, picture(i), spoiled(i), (rows, columns)) for i in (low, low + 1)}
        (a, no_a), (b, no_b) = held[low], held[low + 1]
        out[:, :, k] = (1 - w) * a + w * b
        bare[:, :, k] = (no_a & (1 - w > TOUCH)) | (no_b & (w > TOUCH))
    for i in range(len(depths)):
        lowest = min(lowest, float(picture(i).min()))
    out[bare] = lowest
    return out, bare


def _moved(plan: Plan, i: int, values: np.ndarray, spoiled: np.ndarray | None, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One slice on the rows and columns of the new grid, in float64, and where it has nothing to say there."""
    out, bad = values.astype(np.float64), np.zeros(values.shape[:2]) if spoiled is None else spoiled.astype(np.float64)
    inside = np.ones(shape, bool)
    for axis in (0, 1):
        at = np.arange(shape[axis]) - plan.shifts[i][axis]
        n = values.shape[axis]
        low = np.clip(np.floor(at + 1e-9).astype(int), 0, max(n - 2, 0))
        high = np.minimum(low + 1, n - 1)
        w = np.clip(at - low, 0.0, 1.0)
        out, bad = (_mixed(t, low, high, w, axis) for t in (out, bad))
        within = (at >= -TOUCH) & (at <= n - 1 + TOUCH)
        inside &= within[:, None] if axis == 0 else within[None]
    return out, ~inside | (bad > TOUCH)


def _mixed(values: np.ndarray, low: np.ndarray, high: np.ndarray, w: np.ndarray, axis: int) -> np.ndarray:
    w = w.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    return np.asarray((1 - w) * np.take(values, low, axis) + w * np.take(values, high, axis))
