"""Intervention: one thing about an image that can be measured and set, everything else left as it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pellucid.errors import BadImage, BadParameter
from pellucid.image import Image
from pellucid.ops.inpaint import widened

RIM = 3  # samples around a region that its surroundings are read from


@dataclass(frozen=True, eq=False)
class Changed:
    """An image after an intervention, and the region's mask as it is now."""

    image: Image
    mask: Tensor | None = None


class Intervention(ABC):
    """Abstract: an axis along which images are changed. Subclasses are frozen dataclasses whose repr says all.

    ``apply`` sets the dose, ``measure`` reads it off the result, ``own`` is the dose that an image has by itself, and ``held`` the number by which
    changed images are held against real ones. All take prepared images and masks (*space) bool or None.
    """

    measured_in: Literal["length", "value", "share"] = "value"
    needs_mask: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """The axis in words: ``lesion contrast``."""

    @property
    def held_as(self) -> str:
        """What ``held`` measures, in words."""
        return self.name

    def unit(self, image: Image) -> str:
        """The dose's unit: the grid's for lengths, the image's own for values where it has a physical one."""
        if self.measured_in == "length":
            return image.grid.unit
        return image.quantity if self.measured_in == "value" and image.quantity in ("HU", "SUV") else ""

    @abstractmethod
    def apply(self, image: Image, value: float, mask: Tensor | None = None) -> Changed:
        """The image with the dose set to ``value``."""

    @abstractmethod
    def measure(self, changed: Changed, original: Image) -> float:
        """The dose that is found in a changed image."""

    @abstractmethod
    def own(self, image: Image, mask: Tensor | None = None) -> float:
        """The dose that the image has as it is."""

    def held(self, changed: Changed) -> float:
        """The number by which a changed image is held against real ones."""
        return self.own(changed.image, changed.mask)

    @abstractmethod
    def values(self, images: Sequence[Image], own: Sequence[float]) -> tuple[float, ...]:
        """Doses to ask for where none are named: within the data and a little beyond; ``own`` are those of the images."""


def spread(low: float, high: float, count: int = 9) -> tuple[float, ...]:
    """Evenly spaced doses."""
    return tuple(low + (high - low) * k / (count - 1) for k in range(count))


def needed(mask: Tensor | None, name: str) -> Tensor:
    """The mask that an intervention cannot do without.

    Raises:
        BadImage: none, or an empty one.
    """
    if mask is None or not bool(mask.any()):
        raise BadImage(f"a mask of the region whose {name} is set", "none" if mask is None else "an empty one", "Give masks=.")
    return mask


def rim_of(image: Image, mask: Tensor, samples: int = RIM) -> Tensor:
    """The samples around a region, without padding.

    Raises:
        BadImage: the region has no surroundings.
    """
    rim = widened(mask, samples + 1) & ~widened(mask)
    rim = rim if image.background is None else rim & ~image.background.bool()
    if not bool(rim.any()):
        raise BadImage("a region with surroundings", "a mask that fills the image", "Give a smaller mask.")
    return rim


def channels_of(image: Image, channel: str | int | None) -> list[int]:
    """Which channels are meant: one by name or number, or all.

    Raises:
        BadParameter: no such channel.
    """
    if channel is None:
        return list(range(len(image.channels)))
    if isinstance(channel, str) and channel in image.channels:
        return [image.channels.index(channel)]
    if isinstance(channel, int) and not isinstance(channel, bool) and 0 <= channel < len(image.channels):
        return [channel]
    raise BadParameter(f"a channel among {', '.join(image.channels)}", repr(channel), "Name one, or leave channel= out.")


def with_channels(image: Image, at: Sequence[int], changed: Tensor) -> Image:
    """The image with some channels (k, *space) replaced."""
    values = image.values.clone()
    values[list(at)] = changed.to(values)
    return image.with_values(values)


def mean_in(image: Image, at: Sequence[int], where: Tensor) -> float:
    """Mean over channels and samples, in float64."""
    return float(image.values[list(at)][:, where].double().mean())


def nan_free(values: Sequence[float]) -> Tensor:
    """Doses that images have, without those that have none.

    Raises:
        BadImage: none has any.
    """
    kept = torch.tensor([v for v in values if v == v], dtype=torch.float64)
    if not len(kept):
        raise BadImage("an image whose dose can be measured", "none", "Give images with what is changed, and their masks.")
    return kept
