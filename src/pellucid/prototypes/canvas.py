"""Canvases: what is moved to make a picture (samples, or the spectrum), and how it becomes an image within the span."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.ops.blur import gaussian
from pellucid.ops.spectrum import falling, smoothing, with_magnitude

EDGE = 0.01  # of the span: how near to its ends a start may lie, where a squashed value could not leave them
FIRST = 0.01  # of the span: spread of the noise that a picture begins with


class Canvas(ABC):
    """Abstract: parameters of n pictures, (n, ...), and the pictures that they stand for, (n, c, *space)."""

    @abstractmethod
    def begin(self, n: int, random: torch.Generator) -> Tensor:
        """The first parameters of n pictures: the start, and a little noise that tells them apart."""

    @abstractmethod
    def image(self, at: Tensor) -> Tensor:
        """The pictures, differentiable in the parameters."""

    def settle(self, at: Tensor) -> Tensor:
        """Parameters brought back to what may be, after a step."""
        return at

    def blurred(self, at: Tensor, sigma: float) -> Tensor:
        """Parameters whose pictures differ from the start by a blurred change."""
        return at


@dataclass(frozen=True, eq=False)
class Samples(Canvas):
    """The samples themselves, as shares of the span, cut at its ends after each step; ``noise`` tells several apart at first."""

    start: Tensor
    low: Tensor
    high: Tensor
    noise: float = FIRST

    @property
    def width(self) -> Tensor:
        return torch.where(self.high > self.low, self.high - self.low, torch.ones_like(self.low))

    def begin(self, n: int, random: torch.Generator) -> Tensor:
        chance = torch.randn(n, *self.start.shape, generator=random, dtype=torch.float64).to(self.start)
        return self.settle((self.start - self.low) / self.width + self.noise * chance)

    def image(self, at: Tensor) -> Tensor:
        return self.low + self.width * at

    def settle(self, at: Tensor) -> Tensor:
        return at.clamp_min(0).minimum((self.high - self.low) / self.width)

    def blurred(self, at: Tensor, sigma: float) -> Tensor:
        sizes, start = [sigma if k > 1 else 0.0 for k in self.start.shape[1:]], (self.start - self.low) / self.width
        return torch.stack([start + gaussian(one - start, sizes, "zero") for one in at])


@dataclass(frozen=True, eq=False)
class Waves(Canvas):
    """The spectrum of the change, weighted to fall as spectra of images do; channels mixed as the images' own vary together; squashed into the span."""

    start: Tensor
    low: Tensor
    high: Tensor
    mix: Tensor
    spacing: Sequence[float]
    power: float = 1.0

    def __post_init__(self) -> None:
        space = tuple(self.start.shape[1:])
        object.__setattr__(self, "weights", falling(space, self.spacing, self.power).to(self.start))

    weights: Tensor = None  # type: ignore[assignment]  # worked out from the shape

    def begin(self, n: int, random: torch.Generator) -> Tensor:
        shape = (n, len(self.start), *self.weights.shape, 2)
        return (4 * FIRST * torch.randn(shape, generator=random, dtype=torch.float64)).to(self.start)

    def image(self, at: Tensor) -> Tensor:
        space = tuple(self.start.shape[1:])
        waves = torch.complex(at[..., 0], at[..., 1]) * self.weights
        change = torch.fft.irfftn(waves, s=space, dim=tuple(range(2, 2 + len(space))), norm="ortho")
        change = torch.einsum("ij,nj...->ni...", self.mix.to(change), change)
        width = torch.where(self.high > self.low, self.high - self.low, torch.ones_like(self.low))
        share = ((self.start - self.low) / width).clamp(EDGE, 1 - EDGE)
        return self.low + (self.high - self.low) * torch.sigmoid(torch.logit(share) + change)

    def blurred(self, at: Tensor, sigma: float) -> Tensor:
        return at * smoothing(tuple(self.start.shape[1:]), self.spacing, sigma).to(at)[..., None]


@dataclass(frozen=True, eq=False)
class Phases(Canvas):
    """The phase alone of a spectrum whose magnitude ``size`` (c, *space) stays, along ``axes`` (c, c) of the channels. ``whole`` has that very magnitude;
    ``image`` is its part within the span."""

    size: Tensor
    axes: Tensor
    low: Tensor
    high: Tensor

    def begin(self, n: int, random: torch.Generator) -> Tensor:
        phase = 2 * torch.rand(n, *self.size.shape, generator=random, dtype=torch.float64) - 1
        return (torch.pi * phase).to(self.low)

    def whole(self, at: Tensor) -> Tensor:
        """Before values are cut at the ends of the span."""
        return torch.einsum("ij,nj...->ni...", self.axes.to(at), with_magnitude(self.size, at))

    def image(self, at: Tensor) -> Tensor:
        whole = self.whole(at)
        return whole + (torch.minimum(torch.maximum(whole, self.low), self.high) - whole).detach()  # what is cut keeps its slope
