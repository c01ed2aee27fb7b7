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


def edges(image: Image, size: Distance, place: int = 0) -> tuple[int, ...]:
    """A patch's extent in samples; ``place`` is that of the scan, for errors.

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
        have, asked = (" x ".join(map(str, n)) for n in (image.grid.shape, found))
        raise BadImage(f"a scan larger than a patch of {size!r}, {asked} samples", f"{have} (scan {place})", "Make size= smaller.")
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
    """Up to ``n`` masks of the same lesions, each moved by itself, and mirrored by chance, to where all is ``allowed`` and nothing to ``avoid``.

    A lesion that fits nowhere is left out; a mask that would keep less than half of the area is not made.
    """
    from scipy.ndimage import label

    parts, count = label(mask.numpy(), np.ones((3,) * mask.ndim))
    fit = (allowed & ~avoid).numpy()
    found = np.zeros((n, *mask.shape), dtype=bool)
    for k in range(1, count + 1):
        form = np.argwhere(parts == k)
        form -= form.min(0)
        extent = form.max(0) + 1
        shifts = rng.integers(0, np.array(mask.shape) - extent + 1, (n * TRIES, mask.ndim))
        turns = rng.integers(0, 2, (n * TRIES, mask.ndim)).astype(bool)
        made = 0
        for at in range(0, n * TRIES, n):  # n tries at a time
            placed = np.where(turns[at : at + n, None], extent - 1 - form, form) + shifts[at : at + n, None]
            for one in placed[fit[tuple(np.moveaxis(placed, -1, 0))].all(1)][: n - made]:
                found[made][tuple(one.T)] = True
                made += 1
            if made == n:
                break
    return [torch.from_numpy(m) for m in found if 2 * int(m.sum()) >= int(mask.sum())]
