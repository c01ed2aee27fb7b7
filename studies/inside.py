"""A map against a mask: how much of it lies inside, and whether its peak does; chance is the mask's share of the area."""

from __future__ import annotations

import torch
from torch import Tensor


def mass_share(relevance: Tensor, mask: Tensor) -> float:
    """Positive relevance inside the mask over all positive relevance, both (*space); NaN where there is none."""
    positive = relevance.double().clamp_min(0)
    total = float(positive.sum())
    return float(positive[mask].sum()) / total if total > 0 else float("nan")


def area_share(mask: Tensor) -> float:
    """The mask's share of the image: what a map without knowledge reaches, in mass and in hits."""
    return float(mask.double().mean())


def enrichment(relevance: Tensor, mask: Tensor) -> float:
    """Mass share over area share: 1 is chance; NaN for an empty mask or a map without positive relevance."""
    area = area_share(mask)
    return mass_share(relevance, mask) / area if area > 0 else float("nan")


def hit(relevance: Tensor, mask: Tensor) -> bool:
    """Whether the highest sample lies inside the mask (Zhang et al. 2018, without tolerance). An empty mask is no hit."""
    return bool(mask.flatten()[torch.argmax(relevance.flatten())])
