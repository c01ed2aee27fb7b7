"""How an image was taken: blur, resolution and noise in physical units, the strength of a sequence, the brightness of a ring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.effects.intervention import Changed, Intervention, channels_of, mean_in, nan_free, spread, with_channels
from pellucid.effects.scoring import chance, inside
from pellucid.errors import BadImage, BadParameter
from pellucid.features import numbers
from pellucid.features.rings import distances, middle
from pellucid.image import Image
from pellucid.ops.blur import gaussian

SEEN = 0.1  # share of a frequency that must be left for its loss to be read as a width
FEWEST = 1e-9  # of the power, below which a frequency tells nothing


def lost_width(before: Image, after: Image) -> float:
    """How far detail was spread: standard deviation of the Gaussian that takes as much from each frequency, in the grid's unit; 0 where nothing is lost.

    The share of each frequency that is left, ``Re sum F'F* / sum |F|^2`` over channels and shells of equal frequency under a Hann window, is read as
    ``exp(-2 pi^2 s^2 f^2)`` and fitted by its logarithm where at least a tenth is left.
    """
    grid = before.grid
    window = torch.ones(grid.shape, dtype=torch.float64)
    radius = torch.zeros(grid.shape, dtype=torch.float64)
    for a, (n, gap) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
        along = [-1 if b == a else 1 for b in range(grid.ndim)]
        window = window * (torch.hann_window(n, periodic=False, dtype=torch.float64) if n > 2 else torch.ones(n)).view(along)
        radius = radius + (torch.fft.fftfreq(n, gap, dtype=torch.float64) ** 2).view(along)
    dims = tuple(range(1, grid.ndim + 1))
    x, y = ((v - v.mean(dims, keepdim=True)) * window for v in (before.values.double(), after.values.double()))
    f, g = torch.fft.fftn(x, dim=dims), torch.fft.fftn(y, dim=dims)
    power, kept = (f.abs() ** 2).sum(0), (g * f.conj()).real.sum(0)
    step = 1 / max(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
    shell = (radius.sqrt() / step).round().long().flatten()
    total = torch.bincount(shell, power.flatten())
    left = torch.bincount(shell, kept.flatten()) / total.clamp_min(1e-300)
    square = torch.bincount(shell, (power * radius).flatten()) / total.clamp_min(1e-300)
    use = (total > FEWEST * total.sum()) & (left > SEEN) & (torch.arange(len(total)) > 0)
    weight = total[use] * left[use]
    slope = -float((weight * square[use] * left[use].log()).sum() / (weight * square[use] ** 2).sum().clamp_min(1e-300))
    return math.sqrt(max(0.0, slope) / (2 * math.pi**2))


def sharpness(image: Image) -> float:
    """Fine detail beside the image's spread: the variance of its Laplacian over its own variance (see ``features.numbers.laplacian``)."""
    return numbers.laplacian(numbers.block(image.values).double().mean(0))


@dataclass(frozen=True)
class Blur(Intervention):
    """A Gaussian blur of that standard deviation, the same in all directions of the patient (mm; samples of a plain raster); 0 is the image as it is.

    The dose is read off the spectrum of the result; held against the data is the image's sharpness.

    **Source**: corruption in physical units, after Hendrycks and Dietterich 2019, ICLR.
    """

    measured_in = "length"

    @property
    def name(self) -> str:
        return "blur"

    @property
    def held_as(self) -> str:
        return "sharpness"

    def apply(self, image: Image, value: float, mask: Tensor | None = None) -> Changed:
        return Changed(image.with_values(gaussian(image.values, [value / s for s in image.grid.spacing])), mask)

    def measure(self, changed: Changed, original: Image) -> float:
        return lost_width(original, changed.image)

    def own(self, image: Image, mask: Tensor | None = None) -> float:
        return 0.0

    def held(self, changed: Changed) -> float:
        return sharpness(changed.image)

    def values(self, images: Sequence[Image], own: Sequence[float]) -> tuple[float, ...]:
        """From none to a twentieth of the shortest side."""
        return spread(0.0, min(n * s for i in images for n, s in zip(i.grid.shape, i.grid.spacing, strict=True)) / 20)


@dataclass(frozen=True)
class Resolution(Intervention):
    """The image as samples of that size would have shown it: means over cells of ``value`` mm, read back by straight lines on its own grid.

    Axes whose samples are as large already stay as they are; at its own spacing the image is as it was. The dose is read off the spectrum: cells of
    size r and straight lines spread detail as far as a Gaussian of r / 2.

    **Source**: as ``Blur``.
    """

    measured_in = "length"

    @property
    def name(self) -> str:
        return "size of samples"

    @property
    def held_as(self) -> str:
        return "sharpness"

    def apply(self, image: Image, value: float, mask: Tensor | None = None) -> Changed:
        values = image.values.double()
        for axis, (n, s) in enumerate(zip(image.grid.shape, image.grid.spacing, strict=True)):
            if value > s * (1 + 1e-9) and n > 1:
                values = (values.movedim(axis + 1, -1) @ _coarse(n, value / s).T).movedim(-1, axis + 1)
        return Changed(image.with_values(values.to(image.values.dtype)), mask)

    def measure(self, changed: Changed, original: Image) -> float:
        return max(2 * lost_width(original, changed.image), self.own(original))

    def own(self, image: Image, mask: Tensor | None = None) -> float:
        return min(image.grid.spacing)

    def held(self, changed: Changed) -> float:
        return sharpness(changed.image)

    def values(self, images: Sequence[Image], own: Sequence[float]) -> tuple[float, ...]:
        """From the finest spacing to eight times the coarsest."""
        known = nan_free(own)
        return spread(float(known.min()), 8 * float(known.max()), 8)


def _coarse(n: int, ratio: float) -> Tensor:
    """(n, n): means over cells of ``ratio`` samples, centered on the image, then straight lines between the cells' centers."""
    count = max(1, round(n / ratio))
    edges = (n - count * ratio) / 2 + ratio * np.arange(count + 1)
    edges[0], edges[-1] = min(edges[0], 0.0), max(edges[-1], float(n))
    start = np.arange(n)
    share = np.clip(np.minimum(edges[1:, None], start + 1) - np.maximum(edges[:-1, None], start), 0, None)
    means = share / share.sum(1, keepdims=True)
    centers = (n - count * ratio) / 2 + ratio * (np.arange(count) + 0.5)
    back = np.stack([np.interp(start + 0.5, centers, unit) for unit in np.eye(count)], 1)
    return torch.from_numpy(back @ means)


@dataclass(frozen=True)
class Noise(Intervention):
    """White Gaussian noise of that standard deviation, in the image's unit, added to all channels; 0 is the image as it is.

    The same draw at every dose, so that an image's curve is smooth. Held against the data is the noise that an image has (Donoho and Johnstone 1994).

    Args:
        seed: of the draw, with the image's fingerprint.

    **Misleads when**: a scanner's noise is colored, or Rician.

    **Source**: as ``Blur``.
    """

    seed: int = 0

    @property
    def name(self) -> str:
        return "added noise"

    @property
    def held_as(self) -> str:
        return "noise"

    def apply(self, image: Image, value: float, mask: Tensor | None = None) -> Changed:
        draw = torch.randn(image.values.shape, generator=chance(self.seed, f"noise {image.fingerprint}"), dtype=torch.float64)
        return Changed(image.with_values((image.values + value * draw).to(image.values.dtype)), mask)

    def measure(self, changed: Changed, original: Image) -> float:
        return float((changed.image.values.double() - original.values.double()).std())

    def own(self, image: Image, mask: Tensor | None = None) -> float:
        return 0.0

    def held(self, changed: Changed) -> float:
        return float(np.mean([numbers.noise(c.double()) for c in numbers.block(changed.image.values)]))

    def values(self, images: Sequence[Image], own: Sequence[float]) -> tuple[float, ...]:
        """From none to half of the images' own standard deviation."""
        return spread(0.0, 0.5 * min(float(i.values.double().std()) for i in images))


@dataclass(frozen=True)
class Attenuation(Intervention):
    """How much of a sequence (channel) is left: ``fill + share (image - fill)``; 1 is the image as it is, 0 the sequence dropped.

    Args:
        channel: its name or number.
        fill: what a dropped sequence is: a value in the image's unit, or ``"mean"``: its own mean, of which the level stays known.

    **Source**: occlusion of a whole channel (Zeiler and Fergus 2014), in degrees.
    """

    channel: str | int
    fill: float | Literal["mean"] = 0.0
    measured_in = "share"

    @property
    def name(self) -> str:
        return f"share of {self.channel} that is left" if isinstance(self.channel, str) else f"share of channel {self.channel} that is left"

    @property
    def held_as(self) -> str:
        return f"standard deviation of {self.channel}"

    def apply(self, image: Image, value: float, mask: Tensor | None = None) -> Changed:
        at = channels_of(image, self.channel)
        x = image.values[at]
        fill = float(x[:, inside(image)].double().mean()) if self.fill == "mean" else float(self.fill)
        return Changed(with_channels(image, at, fill + value * (x - fill)), mask)

    def measure(self, changed: Changed, original: Image) -> float:
        """The slope of the changed channel over the original one."""
        at, where = channels_of(original, self.channel), inside(original)
        x, y = (i.values[at][:, where].double().flatten() for i in (original, changed.image))
        x, y = x - x.mean(), y - y.mean()
        return float((x * y).sum() / (x * x).sum()) if float((x * x).sum()) > 0 else math.nan

    def own(self, image: Image, mask: Tensor | None = None) -> float:
        return 1.0

    def held(self, changed: Changed) -> float:
        at = channels_of(changed.image, self.channel)
        return float(changed.image.values[at][:, inside(changed.image)].double().std())

    def values(self, images: Sequence[Image], own: Sequence[float]) -> tuple[float, ...]:
        """From none to all of it."""
        return spread(0.0, 1.0, 5)


@dataclass(frozen=True)
class RingIntensity(Intervention):
    """The mean of a ring around a place, in the image's unit: from ``inner`` to ``outer`` mm, with a soft hem of a quarter of its width.

    ``how="shift"`` adds the same to every sample and channel, ``"scale"`` multiplies them (colors stay), so that the ring's mean is the dose.

    Args:
        inner, outer: radii, in the grid's unit.
        center: a place of the world; None: the middle of each image's mask (a landmark: the fovea).
        channel: one alone; None: all.
        how: see above.

    **Source**: mean intensity of rings around the fovea (beside Narayanaswamy et al. 2020, MICCAI), set instead of read.
    """

    inner: float
    outer: float
    center: tuple[float, ...] | None = None
    channel: str | int | None = None
    how: Literal["shift", "scale"] = "shift"

    def __post_init__(self) -> None:
        if not 0 <= self.inner < self.outer:
            raise BadParameter(
                "a ring from inner to a larger outer radius", f"{self.inner} and {self.outer}", "Write inner=0.5, outer=1.5."
            )
        if self.how not in ("shift", "scale"):
            raise BadParameter("how is 'shift' or 'scale'", repr(self.how), "Choose one of them.")

    @property
    def name(self) -> str:
        return f"mean of the ring from {self.inner:g} to {self.outer:g}" + ("" if self.channel is None else f" in {self.channel}")

    def apply(self, image: Image, value: float, mask: Tensor | None = None) -> Changed:
        """Raises:
        BadImage: a ring without a sample, or one of mean 0 that is to be scaled.
        """
        away, ring, at = *self._ring(image, mask), channels_of(image, self.channel)
        hem = (self.outer - self.inner) / 4
        out, into = (away - self.outer) / hem, (self.inner - away) / hem
        weight = (1 - torch.maximum(out, into).clamp(0, 1)) * inside(image)
        now = mean_in(image, at, ring)
        if self.how == "scale" and now == 0:
            raise BadImage("a ring whose mean is not 0, to be scaled", "0", "Write how='shift'.")
        x = image.values[at].double()
        changed = x + weight * (value - now) if self.how == "shift" else x * (1 + weight * (value / now - 1))
        return Changed(with_channels(image, at, changed), mask)

    def _ring(self, image: Image, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.center is None and mask is None:
            raise BadImage("a center for the ring", "neither center= nor a mask", "Give center=, or masks= of the landmark.")
        away = distances(image.grid, middle(mask, image.grid) if self.center is None and mask is not None else self.center or ())
        ring = (away >= self.inner) & (away < self.outer) & inside(image)
        if not bool(ring.any()):
            raise BadImage(f"a ring from {self.inner:g} to {self.outer:g} {image.grid.unit}", "no sample in it", "Widen it.")
        return away, ring

    def measure(self, changed: Changed, original: Image) -> float:
        return self.own(changed.image, changed.mask)

    def own(self, image: Image, mask: Tensor | None = None) -> float:
        return mean_in(image, channels_of(image, self.channel), self._ring(image, mask)[1])

    def values(self, images: Sequence[Image], own: Sequence[float]) -> tuple[float, ...]:
        """The range of the images and a fifth of it on either side."""
        known = nan_free(own)
        low, high = float(known.min()), float(known.max())
        room = 0.2 * (high - low) or 0.1 * abs(high) or 0.1
        return spread(low - room, high + room)
