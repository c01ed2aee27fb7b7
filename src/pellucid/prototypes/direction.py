"""A direction among the channels of a site, as a target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pellucid.errors import BadTarget
from pellucid.target import Seen, Target


@dataclass(frozen=True)
class Direction(Target):
    """How far the mean activation at a site points along a direction of length 1."""

    site: str
    way: tuple[float, ...]

    @property
    def sites(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.site,)

    def score(self, seen: Seen) -> Tensor:
        z = seen.sites[self.site]
        flat = z.flatten(2).mean(2) if z.ndim > 2 else z
        if flat.shape[1] != len(self.way):
            raise BadTarget(f"a direction of {flat.shape[1]} channels at {self.site!r}", f"{len(self.way)}", "Give a number for each.")
        return flat @ flat.new_tensor(self.way)

    def __repr__(self) -> str:
        return f"direction({self.site!r}, [{', '.join(f'{w:.4g}' for w in self.way)}])"


def direction(site: str, way: Sequence[float] | Tensor) -> Target:
    """The mean over cells of the activation at ``site``, along a direction among its channels (brought to length 1): a concept's, say.

    >>> direction("features.2", [3.0, 4.0])
    direction('features.2', [0.6, 0.8])
    """
    numbers = [float(w) for w in way]
    length = math.sqrt(sum(w * w for w in numbers))
    if not numbers or not math.isfinite(length) or length == 0:
        raise BadTarget("a direction with a length", repr(numbers[:8]), "Give a number for each channel, not all 0.")
    return Direction(site, tuple(w / length for w in numbers))
