"""Lesions drawn on scans, as examples of concepts and random counterparts from the same scans."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.asking import Scan, as_image
from pellucid.concepts import lesions
from pellucid.errors import BadImage, BadParameter
from pellucid.image import Image
from pellucid.params import Distance

FEWEST = 5  # images of a concept, below which no direction is worth testing
RANDOM = "random"
Found = tuple[str, tuple[Scan, Tensor | None]]
Rows = list[tuple[Scan, Hashable, Tensor | None]]  # scan, patient, mask


def examples(
    scans: Sequence[Scan], masks: Mapping[str, Sequence[Any]], who: Sequence[Hashable], within: Sequence[Any] | None, size: Distance | None,
    randoms: int, most: int, seed: int,
) -> dict[str, Rows]:  # fmt: skip
    """Examples of each concept, and random counterparts under ``RANDOM``; see ``ConceptBank.from_masks``.

    Raises:
        BadImage: too few scans in which a mask holds something, a mask of another size, patches that do not fit, or no room for counterparts.
    """
    found: dict[str, Rows] = {n: [] for n in (*masks, RANDOM)}
    empty = dict.fromkeys(masks, 0)
    rng = np.random.default_rng(seed)
    for i, scan in enumerate(scans):
        image = as_image(scan)
        drawn = {n: as_mask(m[i], image, f"a mask of {n!r}", i) for n, m in masks.items() if m[i] is not None}
        own = {n: m for n, m in drawn.items() if bool(m.any())}
        empty = {n: k + (n in drawn and n not in own) for n, k in empty.items()}
        if not own:
            continue
        avoid = torch.stack(list(own.values())).any(0)
        free = torch.ones_like(avoid) if image.background is None else ~image.background
        allowed = as_mask(within[i], image, "a mask within=", i) if within is not None else free
        for n, cell in _cut(scan, image, own, avoid, allowed, size, randoms, most, rng, i):
            found[n].append((cell[0], who[i], cell[1]))
    _check(found, masks, empty, size)
    return found


def _check(found: Mapping[str, Rows], masks: Mapping[str, Sequence[Any]], empty: Mapping[str, int], size: Distance | None) -> None:
    for name, given in masks.items():
        if len(found[name]) < FEWEST:
            without = sum(m is None for m in given)
            kind = f"patches of {size!r}" if size is not None else "scans with a mask"
            got = f"{len(found[name])} from {len(given)} scans: {empty[name]} masks are empty, {without} scans have none"
            raise BadImage(f"at least {FEWEST} {kind} of {name!r}", got, "Add scans, check the masks' values, or leave the concept out.")
    if masks and not found[RANDOM]:
        what, fix = ("masks", "Cut patches with size=")
        if size is not None:
            what, fix = f"patches of {size!r}", "Make size= smaller"
        got = f"none in any of {len(next(iter(masks.values())))} scans: lesions and what lies outside within= leave no room"
        raise BadImage(f"places for random {what}, away from all lesions", got, f"{fix}, or within= larger.")


def _cut(
    scan: Scan, image: Image, own: Mapping[str, Tensor], avoid: Tensor, allowed: Tensor, size: Distance | None, randoms: int, most: int,
    rng: np.random.Generator, place: int,
) -> list[Found]:  # fmt: skip
    """Examples of one scan and their random counterparts: patches, or the scan with masks."""
    if size is None:
        kept: list[Found] = [(n, (scan, m)) for n, m in own.items()]
        return kept + [(RANDOM, (scan, m)) for mask in own.values() for m in lesions.moved(mask, avoid, allowed, randoms, rng)]
    edge = lesions.edges(image, size, place)

    def patch(at: Sequence[int]) -> tuple[Scan, None]:
        return image.crop(at, [a + e for a, e in zip(at, edge, strict=True)]), None

    places = {n: lesions.starts(m, edge, most) for n, m in own.items()}
    wanted = randoms * max(map(len, places.values()))
    kept = [(n, patch(at)) for n, starts in places.items() for at in starts]
    return kept + [(RANDOM, patch(at)) for at in dict.fromkeys(lesions.elsewhere(avoid, allowed, edge, wanted, rng))]


def as_mask(given: Any, image: Image, what: str, place: int) -> Tensor:
    """A bool mask (*space) from a tensor, an Image on any grid, or a path; ``what`` and ``place`` say in an error which it is.

    Raises:
        BadImage: one of another size that does not know where it lies.
    """
    if isinstance(given, (str, Path)):
        given = as_image(given)
    if isinstance(given, Image):
        mine, its = given.grid, image.grid
        placed = mine.unit == its.unit and (mine.unit == "mm" or not np.array_equal(mine.affine, its.affine))  # pixels alone say no place
        given = (given.on(its, nearest=True, fill=0.0) if placed else given).values.sum(0)
    mask = torch.as_tensor(given)
    mask = mask[0] if mask.ndim == image.grid.ndim + 1 and len(mask) == 1 else mask
    if tuple(mask.shape) != image.grid.shape:
        got = f"{_by(mask.shape)} for {_by(image.grid.shape)} samples"
        raise BadImage(
            f"{what} of the size of its scan (scan {place})", got, "Draw it on that scan, or give an Image in mm: it is resampled."
        )
    return mask.bool() if not mask.is_floating_point() else mask > 0.5


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def named(masks: Mapping[str, Any]) -> None:
    """Raise BadParameter for a concept that bears the counterparts' name."""
    if RANDOM in masks:
        raise BadParameter("a concept with a name of its own", repr(RANDOM), "Counterparts are called that: rename the concept.")
