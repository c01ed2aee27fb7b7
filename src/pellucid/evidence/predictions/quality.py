"""Quality of scans, asked of what a user has: an Image, a tensor, a path."""

from __future__ import annotations

from collections.abc import Iterable

from pellucid.asking import Scan, as_image
from pellucid.features.duplicates import ALIKE, FAR, duplicates
from pellucid.features.quality import Quality, QualityLimits, check
from pellucid.table import Table


def check_image(image: Scan, expected: QualityLimits | Iterable[Scan] | None = None) -> Quality:
    """Is this a scan that the network, and an explanation of it, can be held to? Nothing is asked of the network.

    Orientation, spacing, field of view, kind and range of values, sharpness, noise, clipping, empty rims, missing channels, exchanged
    brightness and mirrored axes: each with a number, its unit, its limits and a sentence; ``level`` is ok, note or refuse.

    Args:
        image: an Image, a tensor (c, *space) or a path.
        expected: limits (``QualityLimits.learned(images)`` of the training's images), or those images themselves. None: only what is
            wrong with any scan is found (one value all over, HU without air, half of it clipped ...).

    **Misleads when**: the reference is small or of one scanner; what is unlike it is not yet wrong. A blurred image of a patient with much
        fine detail may pass.

    >>> import torch
    >>> check_image(torch.zeros(1, 8, 8)).remarks[0]
    'The image has one value all over: there is nothing in it.'
    """
    limits = expected if expected is None or isinstance(expected, QualityLimits) else QualityLimits.learned(map(as_image, expected))
    return check(as_image(image), limits)


def find_duplicates(images: Iterable[Scan], *, far: int = FAR, alike: float = ALIKE) -> Table:
    """Pairs of images that are one picture, also with other brightness, at another size or mirrored: a, b, kind, bits, correlation.

    Two tests, both must say so: a perceptual hash (at most ``far`` of 64 bits differ) finds candidates, the correlation of thumbnails without what
    all images of a body part share (at least ``alike``) decides. Images are read once, one at a time.

    **Misleads when**: a copy is cropped or turned by an angle (not found); a flat picture is compared with another (both look empty).
    **Source**: Zauner 2010 (pHash).
    """
    return duplicates(map(as_image, images), far=far, alike=alike)
