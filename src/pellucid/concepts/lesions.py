"""Lesions of a scan as patches of one physical size or as masks, and places elsewhere in the same scan that are as large."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadImage, BadParameter
from pellucid.image import Image
from pellucid.params import Distance

TRIES = 60  # for each place that is wanted


def edges(image: Image, size: Distance) -> tuple[int, ...]:
    """A patch's extent in samples.

    Raises:
        BadParameter: mm where the image knows no spacing.
        BadImage: larger than the image.
    """
    unit = size.unit or image.grid.unit
    if unit == "mm" and image.grid.unit != "mm":
        raise BadParameter("patches in mm need an image that knows its spacing", repr(size), f"Write size='{size.value:g}px'.")
    spacing = image.grid.spacing if unit == "mm" else (1.0,) * image.grid.ndim
    found = tuple(max(1, round(size.value / s)) for s in spacing)
    if any(e > n for e, n in zip(found, image.grid.shape, strict=True)):
        raise BadImage(f"an image larger than a patch of {found} samples", f"{image.grid.shape}", "Make size= smaller.")
    return found


def starts(mask: Tensor, edge: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """Where patches around the largest ``most`` connected lesions begin, largest first; moved inside where they would leave the image."""
    from scipy.ndimage import center_of_mass, label

    whole = mask.numpy()
    parts, n = label(whole, np.ones((3,) * mask.ndim))
    sizes = np.bincount(parts.ravel(), minlength=n + 1)[1:]
    order = np.argsort(-sizes, kind="stable")[:most] + 1
    centers = center_of_mass(whole, parts, order.tolist()) if n else []
    return [
        tuple(min(max(round(float(c)) - e // 2, 0), s - e) for c, e, s in zip(center, edge, mask.shape, strict=True)) for center in centers
    ]


def elsewhere(avoid: Tensor, allowed: Tensor, edge: Sequence[int], n: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Up to ``n`` patches that touch nothing of ``avoid`` and whose middle is ``allowed``; all such places are equally likely."""
    shape, found = avoid.shape, list[tuple[int, ...]]()
    for _ in range(n * TRIES):
        if len(found) == n:
            break
        at = tuple(int(rng.integers(0, s - e + 1)) for s, e in zip(shape, edge, strict=True))
        middle = tuple(a + e // 2 for a, e in zip(at, edge, strict=True))
        if bool(allowed[middle]) and not bool(avoid[tuple(slice(a, a + e) for a, e in zip(at, edge, strict=True))].any()):
            found.append(at)
    return found


def moved(mask: Tensor, avoid: Tensor, allowed: Tensor, n: int, rng: np.random.Generator) -> list[Tensor]:
    """Up to ``n`` masks of the same form, mirrored by chance and moved to where all is ``allowed`` and nothing to ``avoid``."""
    at = mask.nonzero()
    if not len(at):
        return []
    low = at.amin(0)
    form, extent = at - low, at.amax(0) - low + 1
    fit, found = allowed & ~avoid, list[Tensor]()
    for _ in range(n * TRIES):
        if len(found) == n:
            break
        shift = torch.tensor([int(rng.integers(0, s - int(e) + 1)) for s, e in zip(mask.shape, extent, strict=True)])
        turn = torch.from_numpy(rng.integers(0, 2, mask.ndim)).bool()
        placed = torch.where(turn, extent - 1 - form, form) + shift
        index = tuple(placed.T)
        if bool(fit[index].all()):
            one = torch.zeros_like(mask)
            one[index] = True
            found.append(one)
    return found
