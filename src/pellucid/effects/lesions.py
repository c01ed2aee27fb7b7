"""Lesions that stand out more or less, or are larger or smaller, in the patient's own image; where they shrink, the background is filled in."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pellucid.effects.intervention import Changed, Intervention, channels_of, mean_in, nan_free, needed, rim_of, spread, with_channels
from pellucid.effects.scoring import chance
from pellucid.errors import BadImage
from pellucid.features.shape import equivalent_diameter
from pellucid.image import Image, digest
from pellucid.ops.inpaint import grained, harmonic
from pellucid.ops.resample import pull

FAINT = 0.05  # of the rim's standard deviation: a lesion less apart than that has no contrast to scale


_filled: weakref.WeakKeyDictionary[Image, dict[tuple[str, int, bool], Tensor]] = weakref.WeakKeyDictionary()


def background(image: Image, mask: Tensor, seed: int = 0, grain: bool = True) -> Tensor:
    """The image's values (c, *space) with the region filled from its rim: smooth, with the rim's grain. All doses of an image share it.

    Raises:
        BadImage: the region has no surroundings.
    """
    known, key = _filled.setdefault(image, {}), (digest(mask), seed, grain)
    if key not in known:
        rim = rim_of(image, mask)
        filled = harmonic(image.values, mask, image.grid.spacing)
        known[key] = grained(filled, image.values, mask, rim, chance(seed, f"grain {image.fingerprint}")) if grain else filled
    return known[key]


@dataclass(frozen=True)
class LesionContrast(Intervention):
    """How much a lesion stands out: mean inside its mask less mean of the three samples around it, in the image's unit.

    What the lesion adds to its background is scaled by one factor, ``background + f (image - background)``, so that its texture and edges stay; the
    background is filled in from the rim. At the image's own contrast the image is as it was.

    Args:
        channel: one alone; None: all are scaled alike, and the contrast is that of their mean.
        grain: whether the filled background has the rim's grain; without, a vanished lesion is a smooth spot.
        seed: of the grain.

    **Misleads when**: the mask leaves out a part of the lesion, which then stays; or the lesion pushes and thins what is around it.

    **Source**: intervention on the image in place of a column of a table: Friedman 2001 (partial dependence), Goldstein et al. 2015 (ICE).
    """

    channel: str | int | None = None
    grain: bool = True
    seed: int = 0
    needs_mask = True

    @property
    def name(self) -> str:
        return "lesion contrast" + ("" if self.channel is None else f" in {self.channel}")

    def apply(self, image: Image, value: float, mask: Tensor | None = None) -> Changed:
        """Raises:
        BadImage: no mask, no surroundings, or a lesion that does not stand out at all.
        """
        region, at = needed(mask, self.name), channels_of(image, self.channel)
        empty = background(image, region, self.seed, self.grain)
        added = (image.values - empty)[at]
        stands = float(added[:, region].double().mean())
        rim = rim_of(image, region)
        level = mean_in(image, at, rim)
        noise = float(image.values[at][:, rim].double().std())
        if abs(stands) <= FAINT * noise or stands == 0:
            got = f"{stands:.3g} beside a standard deviation of {noise:.3g} around it"
            raise BadImage("a lesion that stands out", got, "Leave that image out, or name the channel in which it shows.")
        factor = (value - (float(empty[at][:, region].double().mean()) - level)) / stands
        return Changed(with_channels(image, at, torch.where(region, empty[at] + factor * added, image.values[at])), region)

    def measure(self, changed: Changed, original: Image) -> float:
        return self.own(changed.image, changed.mask)

    def own(self, image: Image, mask: Tensor | None = None) -> float:
        if mask is not None and not bool(mask.any()):
            return 0.0  # no lesion
        region, at = needed(mask, self.name), channels_of(image, self.channel)
        return mean_in(image, at, region) - mean_in(image, at, rim_of(image, region))

    def values(self, images: Sequence[Image], own: Sequence[float]) -> tuple[float, ...]:
        """From none to a quarter more than the strongest, on its side."""
        known = nan_free(own)
        far = float(known[known.abs().argmax()])
        return spread(0.0, 1.25 * far)


@dataclass(frozen=True)
class LesionSize(Intervention):
    """How large a lesion is: diameter of the disk or ball as large as its mask (mm; of several pieces together).

    Each piece is zoomed about its own center, with its contrast to the background; where it shrinks, the background is filled in from its rim, where it
    grows, it covers what was there. Pieces that meet merge.

    Args:
        grain: whether the filled background has the rim's grain.
        seed: of the grain.

    **Misleads when**: a lesion grows over anatomy that would stop it, or changes its look as it grows.

    **Source**: as ``LesionContrast``.
    """

    grain: bool = True
    seed: int = 0
    measured_in = "length"
    needs_mask = True

    @property
    def name(self) -> str:
        return "lesion diameter"

    def apply(self, image: Image, value: float, mask: Tensor | None = None) -> Changed:
        """Raises:
        BadImage: no mask, or no surroundings.
        """
        region = needed(mask, self.name)
        zoom = value / self.own(image, region)
        if abs(zoom - 1) < 1e-9:
            return Changed(image, region)
        empty = background(image, region, self.seed, self.grain)
        if zoom <= 0:
            return Changed(image.with_values(empty), torch.zeros_like(region))
        added = torch.where(region, image.values - empty, 0.0)
        grown, covered = torch.zeros_like(added), torch.zeros(region.shape)
        for piece in _pieces(region):
            box, part, cover = _zoomed(added, piece, zoom)
            more = part.abs().sum(0) > grown[(slice(None), *box)].abs().sum(0)
            grown[(slice(None), *box)] = torch.where(more, part, grown[(slice(None), *box)])
            covered[box] = torch.maximum(covered[box], cover)
        return Changed(image.with_values(empty + grown), covered >= 0.5)

    def measure(self, changed: Changed, original: Image) -> float:
        return self.own(changed.image, changed.mask)

    def own(self, image: Image, mask: Tensor | None = None) -> float:
        if mask is None:
            raise BadImage("a mask of the lesion", "none", "Give masks=.")
        return equivalent_diameter(float(mask.sum()) * image.grid.voxel, image.grid.ndim)

    def values(self, images: Sequence[Image], own: Sequence[float]) -> tuple[float, ...]:
        """From none to a quarter more than the largest."""
        return spread(0.0, 1.25 * float(nan_free(own).max()))


def _pieces(mask: Tensor) -> list[Tensor]:
    from scipy.ndimage import label

    numbered, count = label(mask.numpy(), np.ones((3,) * mask.ndim))
    return [torch.from_numpy(numbered == k + 1) for k in range(count)]


def _zoomed(added: Tensor, piece: Tensor, zoom: float) -> tuple[tuple[slice, ...], Tensor, Tensor]:
    """A piece zoomed about its center of mass: where it lies then, what it adds there (c, *box), and how much of each sample it covers."""
    at = piece.nonzero().double()
    center = at.mean(0)
    low = (center + (at.amin(0) - 0.5 - center) * zoom).floor().long() - 1
    high = (center + (at.amax(0) + 0.5 - center) * zoom).ceil().long() + 2
    low, high = low.clamp_min(0), torch.minimum(high, torch.tensor(piece.shape))
    high = torch.maximum(high, low + 1)
    d = piece.ndim
    matrix = np.eye(d + 1)
    matrix[range(d), range(d)] = 1 / zoom
    matrix[:d, d] = (center + (low.double() - center) / zoom).numpy()
    shape = tuple(int(n) for n in high - low)
    cover = pull(piece[None].double(), shape, matrix, fill=0.0)[0]
    part = pull(torch.where(piece, added, 0.0), shape, matrix, fill=0.0)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)), part, cover.float()
