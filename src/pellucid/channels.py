"""Channels: what their values mean. How they are normalized, which of them share a unit, and from where to where they reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import BadParameter

SPREADS, SIZES = 10.0, 4.0  # how far standard deviations, or else largest values, of channels in one unit lie apart
WHITE, FAR, DARK = 255.0, 10.0, 50.0  # of a picture: the most, the most of a standardized one, how much darker a channel may be
NEAR, FAINT = 30.0, 0.1  # of ``span``: 1 lies at 16 for the blue of fundus photographs, at 1250 for a diffusivity in mm2/s
CLOSE = 1e-4  # what resizing rounds

Pairs = tuple[float, float] | tuple[tuple[float, float], ...]  # lowest and highest value, or those of each channel


@dataclass(frozen=True)
class Normalize:
    """Per channel ``(x - mean) / std``: the last, differentiated step before the network. Numbers, or one per channel."""

    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(map(float, value)) if isinstance(value, Sequence) else float(value))
            column = value if isinstance(value := getattr(self, name), tuple) else (value,)
            if not column or not all(map(math.isfinite, column)):
                raise BadParameter(f"{name} is a finite number, or one for each channel", repr(value), "Give the training set's.")
            if name == "std" and 0 in column:
                raise BadParameter("std differs from 0", repr(value), "Give the training set's standard deviation.")

    def __call__(self, x: Tensor) -> Tensor:
        """Batch (n, c, *space) to the same shape."""

        def column(value: float | tuple[float, ...]) -> Tensor:
            return torch.as_tensor(value, dtype=x.dtype, device=x.device).view(-1, *[1] * (x.ndim - 2))

        return (x - column(self.mean)) / column(self.std)


def pairs(given: Any) -> Pairs | None:
    """A range as floats: one pair, or one for each channel."""
    if given is None:
        return None
    try:
        several = tuple((float(low), float(high)) for low, high in (given if isinstance(given[0], Sequence) else [given]))
    except (TypeError, ValueError, IndexError, KeyError):
        several = ()
    if not several or not all(math.isfinite(v) for pair in several for v in pair) or any(low > high for low, high in several):
        asked = "range is (lowest, highest), or such a pair for each channel"
        raise BadParameter(asked, repr(given), "Write (0, 1), or ((-1000, 3000), (0, 20)).")
    return several if isinstance(given[0], Sequence) else several[0]


def ends(values: Tensor, stated: Pairs | None = None, normalize: Normalize | None = None) -> tuple[Tensor, Tensor, bool]:
    """Lowest and highest value in an image (c, *space), both (c, 1, ..., 1) in float64, and whether its channels share one unit.

    If they do, both are those of all channels together. They do if one range was stated for all; else if they look like the three of a picture,
    where a dark channel is no unit of its own; or are alike, with largest values within a factor of ``SIZES`` and all or none of them below 0.
    Standard deviations that ``normalize`` has for each channel lie within a factor of ``SIZES`` besides, those of a picture within ``SPREADS``. Others
    (CT beside PET, T2 beside ADC) have each its own.
    """
    column = (-1, *[1] * (values.ndim - 1))
    flat = values.detach().flatten(1)
    low, high = (end.cpu().double().view(column) for end in (flat.amin(1), flat.amax(1)))
    picture = values.ndim == 3 and len(low) == 3 and _picture(low, high)
    if len(low) == 1:
        shared = True
    elif stated is not None:
        shared = not isinstance(stated[0], tuple) or len(set(stated)) == 1
    elif normalize is not None and isinstance(normalize.std, tuple):
        sizes = [abs(s) for s in normalize.std]
        shared = max(sizes) <= (SPREADS if picture else SIZES) * min(sizes) and (picture or _alike(low, high))
    else:
        shared = picture or _alike(low, high)
    return (low.min().expand_as(low), high.max().expand_as(high), True) if shared else (low, high, False)


def _alike(low: Tensor, high: Tensor) -> bool:
    """Whether channels have values of one size, and all or none of them go far below 0; empty ones tell nothing."""
    sizes = torch.maximum(low.abs(), high.abs()).flatten()
    told = sizes > 0
    below = (low.flatten() < -0.1 * sizes)[told]
    return not bool(told.any()) or bool(sizes.max() <= SIZES * sizes[told].min() and (below.all() or not below.any()))


def _picture(low: Tensor, high: Tensor) -> bool:
    """Whether three channels look like those of a picture: 0 to 1, 0 to 255, or around 0, none of them far darker than the others."""
    sizes = torch.maximum(low.abs(), high.abs()).flatten().tolist()
    least, most = float(low.min()), max(sizes)
    masks = (low == 0) & (high == 1)  # which standardized colors are not
    usual = most <= 1 + CLOSE or WHITE / 4 <= most <= WHITE if least >= 0 else most <= FAR and not bool(masks.any())
    return usual and most <= DARK * min([s for s in sizes if s > 0], default=1.0)


def span(values: Tensor, stated: Pairs | None = None, normalize: Normalize | None = None) -> tuple[Tensor, Tensor]:
    """Lowest and highest value that an image (c, *space) may have, both (c, 1, ..., 1) in float64: as stated, or (0, 1), or its own.

    (0, 1) holds if the image lies in it and 1 is near: within ``NEAR`` standard deviations of ``normalize``'s mean in some channel, or,
    without one, if the image is not darker than a tenth of it: what reaches from 0 to 0.003 is measured in a unit of its own. Channels with units of their
    own (CT beside PET, T2 beside ADC; see ``ends``) are judged one by one, all others together.
    """
    low, high, shared = ends(values, stated, normalize)
    if stated is not None:
        pairs = torch.tensor(stated, dtype=torch.float64).view(-1, 2).T
        first, last = (side.view(-1, *[1] * (values.ndim - 1)).expand_as(low) for side in pairs)
        return first, last
    if normalize is None:
        near = (high > FAINT) | (low == high)
    else:
        ones = values.new_ones(1, len(values), *[1] * (values.ndim - 1))
        near = (normalize(ones)[0].abs() <= NEAR).cpu()
    unit = (low >= 0) & (high <= 1 + CLOSE) & (near.any() if shared else near & (low < high))  # an empty channel among others has nothing
    return torch.where(unit, 0.0, low), torch.where(unit, 1.0, high)
