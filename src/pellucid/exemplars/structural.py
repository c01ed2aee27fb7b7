"""Structural similarity of one picture with many, in 2D and 3D."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.exemplars.search import Found, Rows
from pellucid.ops.blur import gaussian

AT_ONCE = 2**21  # samples blurred at a time
SIGMA, K1, K2 = 1.5, 0.01, 0.03


@dataclass(frozen=True, eq=False)
class Pictures:
    """Rows (n, c * space) that are pictures of ``shape`` (c, *space); the distance is 1 minus the mean structural similarity of the channels,
    each over its own ``span`` where they have several.

    As ``ops.similarity.ssim`` (Wang et al. 2004, equation 13; windows where they lie inside), of one picture with many at a time, float64.
    """

    rows: Rows
    shape: tuple[int, ...]
    span: float | tuple[float, ...]

    def __post_init__(self) -> None:
        if isinstance(self.span, tuple) and len(self.span) != self.shape[0]:
            got = f"{len(self.span)} for {self.shape[0]} channels"
            raise BadParameter("a span for each channel, or one for all", got, "Give as many, or leave span= out.")

    @cached_property
    def step(self) -> int:
        return max(1, AT_ONCE // int(np.prod(self.shape)))

    def nearest(self, queries: NDArray[np.floating], k: int, *, leave: NDArray[np.bool_] | None = None) -> list[Found]:
        """As ``Search.nearest``."""
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise BadParameter("k is a whole number of at least 1", repr(k), "Say how many.")
        if queries.ndim != 2 or queries.shape[1] != self.rows.shape[1]:
            raise BadParameter(f"queries (q, {self.rows.shape[1]})", f"shape {queries.shape}", "Describe them by the same measure.")
        kept = np.arange(len(self.rows)) if leave is None else np.flatnonzero(~leave)
        found = []
        for q in queries:
            far = self._distances(q, kept)
            order = np.lexsort((kept, far))[:k]
            found.append(Found(kept[order], far[order]))
        return found

    def _distances(self, q: NDArray[np.floating], places: NDArray[np.int64]) -> NDArray[np.float64]:
        y = self._picture(q[None])
        my, vy = _blurred(y), _blurred(y * y)
        vy = vy - my * my
        span = torch.as_tensor(self.span, dtype=torch.float64).reshape(-1, *[1] * (len(self.shape) - 1))
        c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
        parts = [np.empty(0)]
        for at in range(0, len(places), self.step):
            x = self._picture(self.rows[places[at : at + self.step]])
            mx = _blurred(x)
            vx, vxy = _blurred(x * x) - mx * mx, _blurred(x * y) - mx * my
            local = ((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
            parts.append(1 - _inner(local).flatten(1).mean(1).numpy())
        return np.concatenate(parts)

    def _picture(self, rows: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).double().reshape(len(rows), *self.shape)


def _blurred(x: Tensor) -> Tensor:
    """Blur (n, c, *space) over space."""
    flat = x.flatten(0, 1)
    return gaussian(flat, (SIGMA,) * (flat.ndim - 1)).view_as(x)


def _inner(local: Tensor) -> Tensor:
    margin = int(3.5 * SIGMA + 0.5)
    cut = tuple(slice(margin, n - margin) if n > 2 * margin else slice(None) for n in local.shape[2:])
    return local[(slice(None), slice(None), *cut)]
