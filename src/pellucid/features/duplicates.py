"""Duplicates: the same picture twice in a set, byte by byte or as it looks; a patient in training and test shows up here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.features import numbers
from pellucid.features.quality import Scanned
from pellucid.table import Table

SIDE = 32  # thumbnails that pairs are compared by
LOW = {2: 8, 3: 4}  # lowest frequencies along each axis: 64 bits in both
FAR = 12  # bits that may differ before a pair is not looked at
ALIKE = 0.99  # correlation of the thumbnails' fine parts, from which two pictures are one


@dataclass(frozen=True, eq=False)
class Sketch:
    """What is kept of an image: a hash of its bytes, 64 bits of its look (and of its mirrored looks), and a thumbnail without its smooth part."""

    bytes: str
    bits: Tensor  # (1 + d, 64) bool: upright, then mirrored along each axis
    fine: Tensor  # (side, ...) mean 0, length 1


def cosines(n: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II) as a matrix (n, n), float64."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None]
    m = torch.cos(torch.pi * k * (2 * i + 1) / (2 * n)) * (2 / n) ** 0.5
    m[0] /= 2**0.5
    return m


def bits(small: Tensor) -> Tensor:
    """The perceptual hash: lowest cosine coefficients of a thumbnail, above their median or not (pHash, Zauner 2010); the mean counts as 0."""
    low, z = LOW[small.ndim], small
    for a in range(small.ndim):
        z = (z.movedim(a, -1) @ cosines(small.shape[a])[:low].T).movedim(-1, a)
    flat = z.flatten().clone()
    flat[0] = 0.0
    return flat > flat[1:].median()


def sketch(image: Scanned) -> Sketch:
    """Brightness is scaled between the 1st and 99th percentile, so that another window or unit does not hide a copy."""
    x = image.values
    low, high = numbers.ends(x)
    small = numbers.shrink(numbers.scaled(x, low, high).clamp(0, 1), SIDE)
    looks = [small, *(small.flip(a) for a in range(small.ndim))]
    h = hashlib.sha256(f"{tuple(x.shape)}".encode() + x.detach().cpu().contiguous().double().numpy().tobytes())
    return Sketch(h.hexdigest(), torch.stack([bits(s) for s in looks]), _fine(small))


def _fine(small: Tensor) -> Tensor:
    """Without the low cosines that all images of one body part share, so that what is left tells patients apart."""
    z = small
    for a in range(small.ndim):
        m = cosines(small.shape[a])
        z = (z.movedim(a, -1) @ m.T).movedim(-1, a)
    z = z.clone()
    z[tuple(slice(0, 4) for _ in range(z.ndim))] = 0.0
    for a in range(small.ndim):
        m = cosines(small.shape[a])
        z = (z.movedim(a, -1) @ m).movedim(-1, a)
    return z / z.norm().clamp_min(1e-12)


def duplicates(images: Iterable[Scanned], *, far: int = FAR, alike: float = ALIKE) -> Table:
    """Pairs that are one picture: ``same values``, ``same look``, or ``mirrored along i``. One pass over the images; sketches of a few kB are kept.

    Columns: a, b (their places in the set), kind, bits that differ (of 64), correlation of the thumbnails without their smooth part.
    """
    known: list[Sketch] = []
    rows: list[tuple[Any, ...]] = []
    for b, image in enumerate(images):
        new = sketch(image)
        if known:
            same = [k for k, s in enumerate(known) if s.bytes == new.bytes]
            near = [k for k, s in enumerate(known) if s.bits.shape == new.bits.shape and k not in same]
            rows += [(k, b, "same values", 0, 1.0) for k in same]
            rows += [row for k in near if (row := _pair(k, b, known[k], new, far, alike)) is not None]
        known.append(new)
    return Table(("a", "b", "kind", "bits", "correlation"), tuple(rows))


def _pair(a: int, b: int, one: Sketch, two: Sketch, far: int, alike: float) -> tuple[Any, ...] | None:
    differ = (two.bits != one.bits[0]).sum(1)  # each look of the new one against the upright one
    for look in torch.argsort(differ, stable=True).tolist():
        n = int(differ[look])
        if n > far:
            return None
        turned = two.fine if look == 0 else two.fine.flip(look - 1)
        match = float((one.fine * turned).sum())
        if match >= alike:
            return a, b, "same look" if look == 0 else f"mirrored along {'ijk'[look - 1]}", n, match
    return None
