"""Label images: means over segments, what a segment has spread over its samples, segments made wider, regions ranked by density."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def sizes(labels: Tensor) -> Tensor:
    """Samples of each segment, float64."""
    return torch.bincount(labels.flatten()).double()


def means(x: Tensor, labels: Tensor) -> Tensor:
    """An image (c, *space) whose samples have the mean of their segment."""
    flat = labels.flatten()
    total = torch.zeros(len(x), int(flat.max()) + 1, dtype=torch.float64, device=x.device).index_add_(1, flat, x.double().flatten(1))
    return (total / sizes(labels))[:, flat].view_as(x).to(x.dtype)


def spread(amounts: Tensor, labels: Tensor) -> Tensor:
    """One amount per segment, split evenly over its samples: (1, *space), float64, with the amounts' sum."""
    each = amounts.double().to(labels.device) / sizes(labels)
    return each[labels][None]


def widened(labels: Tensor, reach: Sequence[float]) -> list[NDArray[np.int64]]:
    """Each segment as flat indices, together with all samples within an ellipsoid of ``reach`` samples per axis around its own."""
    from scipy.ndimage import distance_transform_edt, find_objects

    space = tuple(labels.shape)
    image = labels.cpu().numpy()
    if max(reach) < 1:
        order = np.argsort(image, axis=None, kind="stable")
        return np.split(order, np.cumsum(np.bincount(image.ravel()))[:-1])
    found, at = [], np.arange(image.size).reshape(space)
    sampling = [1 / max(r, 1e-3) for r in reach]
    for k, box in enumerate(find_objects(image + 1)):
        room = tuple(slice(max(0, s.start - math.ceil(r)), s.stop + math.ceil(r)) for s, r in zip(box, reach, strict=True))
        near = distance_transform_edt(image[room] != k, sampling=sampling) <= 1 + 1e-9
        found.append(at[room][near])
    return found


@dataclass(frozen=True, eq=False)
class Ranked:
    """Regions in the order in which they were taken: the density that each added, its new samples; and the map of densities."""

    density: list[float]
    order: NDArray[np.int64]  # (samples), rank from 1; 0 where no region was taken
    values: NDArray[np.float64]


def rank(values: NDArray[np.float64], regions: Sequence[NDArray[np.int64]], least: int) -> Ranked:
    """Take, again and again, the region whose new samples have the highest mean; those that add fewer than ``least`` are dropped.

    Samples that no region reaches get their own mean, so that the sum of all is kept. Each sample is taken off all regions that hold it
    once: time grows with the regions' summed size, not with its square.
    """
    holds = np.concatenate(regions)
    whose = np.repeat(np.arange(len(regions)), [len(r) for r in regions])
    by_sample = np.argsort(holds, kind="stable")
    first = np.searchsorted(holds[by_sample], np.arange(values.size + 1))
    count = np.array([len(r) for r in regions])
    total = np.bincount(whose, values[holds], len(regions))
    order, density = np.zeros(values.size, np.int64), []
    out = np.full(values.size, np.nan)
    alive = np.ones(len(regions), bool)
    while True:
        alive &= count >= max(least, 1)
        if not alive.any():
            break
        gain = np.where(alive, total / np.maximum(count, 1), -np.inf)
        best = int(np.argmax(gain))
        new = regions[best][order[regions[best]] == 0]
        density.append(float(values[new].mean()))
        order[new], out[new], alive[best] = len(density), density[-1], False
        times = first[new + 1] - first[new]
        behind = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        touched = whose[by_sample[np.repeat(first[new], times) + behind]]
        count -= np.bincount(touched, minlength=len(regions))
        total -= np.bincount(touched, np.repeat(values[new], times), len(regions))
    rest = order == 0
    if rest.any():
        out[rest] = values[rest].mean()
    return Ranked(density, order, out)
