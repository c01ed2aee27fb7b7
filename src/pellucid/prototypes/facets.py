"""Facets: several pictures of one target, kept apart by what they cause at a site."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pellucid.grid import Grid
from pellucid.probe.sites import Place
from pellucid.prototypes.asked import Asked
from pellucid.target import Seen, Target


def gram(z: Tensor) -> Tensor:
    """Which channels are active together, (n, c * c), from activations (n, c, *cells): kinds of things, not their places."""
    flat = z.flatten(2) if z.ndim > 2 else z[..., None]
    return (flat @ flat.mT / flat.shape[2]).flatten(1)


@dataclass(frozen=True, eq=False)
class Apart(Target):
    """A target, less ``weight`` for a mean cosine of 1 with what the other facets cause beyond the start."""

    base: Target
    site: str
    others: Tensor
    origin: Tensor
    weight: float

    @property
    def sites(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.site, *self.base.sites)

    def score(self, seen: Seen) -> Tensor:
        code = gram(seen.sites[self.site]) - self.origin
        near = cosine_similarity(code[:, None], self.others[None], dim=2).mean(1)
        return self.base.score(seen) - self.weight * near

    def settle(self, seen: Seen, grid: Grid) -> Target:
        return self


@dataclass(frozen=True, eq=False)
class Facets:
    """For each step: what each facet is asked, given what the others are by now. The slope is that of the sum over all pairs."""

    asked: Asked
    place: Place
    start: Tensor
    weight: float

    def __call__(self, x: Tensor) -> Sequence[Target]:
        codes, origin = self._codes(x), self._origin()
        rest = [torch.cat([codes[:i], codes[i + 1 :]]) for i in range(len(codes))]
        return [Apart(self.asked.target, self.place.text, others, origin, self.weight) for others in rest]

    def alike(self, x: Tensor) -> float:
        """Mean cosine between the facets (nan: one)."""
        codes = self._codes(x)
        n = len(codes)
        cosines = cosine_similarity(codes[:, None], codes[None], dim=2)
        return float((cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1))) if n > 1 else math.nan

    def _origin(self) -> Tensor:
        return gram(self.asked.activation(self.start[None], self.place))

    def _codes(self, x: Tensor) -> Tensor:
        return gram(self.asked.activation(x, self.place)) - self._origin()
