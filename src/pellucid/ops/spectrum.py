"""Spectra of images of any dimension: how frequencies are counted, how they fall, and images of a given magnitude."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def frequencies(space: Sequence[int], spacing: Sequence[float], *, half: bool = True) -> Tensor:
    """Length of each frequency of ``rfftn`` (``half``) or ``fftn`` over ``space``, in cycles per finest sample, float64."""
    finest = min(spacing)
    last = len(space) - 1
    total = torch.zeros((), dtype=torch.float64)
    for a, (n, s) in enumerate(zip(space, spacing, strict=True)):
        f = (torch.fft.rfftfreq if half and a == last else torch.fft.fftfreq)(n, dtype=torch.float64) * finest / s
        total = total[..., None] + f**2
    return total.sqrt()


def falling(space: Sequence[int], spacing: Sequence[float], power: float) -> Tensor:
    """Weights of ``rfftn`` that fall as 1 / frequency ** power, as spectra of natural and medical images do; root mean square 1, float64."""
    f = frequencies(space, spacing)
    weights = f.clamp_min(1 / max(n * s / min(spacing) for n, s in zip(space, spacing, strict=True))) ** -power
    return weights / weights.square().mean().sqrt()


def smoothing(space: Sequence[int], spacing: Sequence[float], sigma: float) -> Tensor:
    """A Gaussian blur of ``sigma`` finest samples as weights of ``rfftn``, float64; exact for images that repeat."""
    return torch.exp(-2 * (math.pi * sigma * frequencies(space, spacing)) ** 2)


def magnitude(x: Tensor) -> Tensor:
    """Magnitude of the spectrum of each channel of (c, *space), as ``fftn`` counts, float64."""
    return torch.fft.fftn(x.double(), dim=tuple(range(1, x.ndim))).abs()


def with_magnitude(size: Tensor, phase: Tensor) -> Tensor:
    """Real images (n, c, *space) whose spectrum has the magnitude ``size`` (c, *space) exactly, and ``phase`` as nearly as a real image can.

    Of a real image opposite frequencies have opposite phases: the odd part of ``phase`` counts. Frequencies that are their own opposite (the mean
    among them) stay positive.
    """
    axes = tuple(range(2, phase.ndim))
    opposite = torch.roll(phase.flip(axes), [1] * len(axes), axes)
    odd = (phase - opposite) / 2
    return torch.fft.ifftn(torch.polar(size.to(odd).expand_as(odd), odd), dim=axes).real
