"""A table in whole numbers of one byte: read four times faster than float32, with a bound for how far each product can be off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST = 127
LONGEST = 1024  # numbers in a row: the largest sum of products, 1024 * 127^2, is below 2^24 and exact in float32
AT_ONCE = 8192  # rows that are rounded at a time
ROUNDED = 1 + 2.0**-20  # on what is kept in float32, so that it stays an upper bound


@dataclass(frozen=True, eq=False)
class Coarse:
    """Rows r (n, d) as whole numbers times a ``scale`` each; ``off`` is the length of what rounding took from a row, ``length`` at least that of r'.

    ``|q . r - q' . r'| <= |q| |r - r'| + |q - q'| |r'|`` (Cauchy and Schwarz), with both lengths of rounding known, not estimated.
    """

    whole: Tensor
    scale: Tensor
    off: Tensor
    length: Tensor

    @classmethod
    def of(cls, rows: NDArray[np.float32]) -> Coarse | None:
        """None where rows are too long for exact sums, or this machine's products of whole numbers are not exact."""
        n, d = rows.shape
        if d > LONGEST or not products_are_exact():
            return None
        whole, scale = np.empty((n, d), np.int8), np.empty(n, np.float32)
        off, length = np.empty(n, np.float32), np.empty(n, np.float32)
        for at in range(0, n, AT_ONCE):
            part = slice(at, at + AT_ONCE)
            whole[part], scale[part], off[part], length[part] = _rounded(rows[part])
        return cls(*(torch.from_numpy(a) for a in (whole, scale, off, length)))

    def products(self, q: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Of a query (d,) with all rows: about how large, and how far off at most, both (n,) float32."""
        whole, scale, off, _ = _rounded(q[None])
        sums = torch._int_mm(self.whole, torch.from_numpy(whole).T.contiguous())[:, 0]
        far = (self.off * (float(np.linalg.norm(q.astype(np.float64))) * ROUNDED)).add_(self.length, alpha=float(off[0]))
        return sums.float().mul_(self.scale).mul_(float(scale[0])), far


def _rounded(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    exact = rows.astype(np.float64)
    scale = (np.abs(exact).max(1) / MOST).astype(np.float32)
    scale[scale == 0] = 1.0
    whole = np.clip(np.rint(exact / scale[:, None]), -MOST, MOST)
    off = np.linalg.norm(exact - whole * scale[:, None].astype(np.float64), axis=1)
    length = np.linalg.norm(exact, axis=1) + off
    return whole.astype(np.int8), scale, (off * ROUNDED).astype(np.float32), (length * ROUNDED).astype(np.float32)


@cache
def products_are_exact() -> bool:
    """Whether torch multiplies bytes without saturating on this machine: processors without an instruction for it add pairs in 16 bits."""
    chance = np.random.default_rng(0)
    rows = chance.integers(-MOST, MOST + 1, (256, LONGEST), dtype=np.int8)
    rows[:8], rows[8:16], rows[16:24, ::2] = MOST, -MOST, MOST
    try:
        for q in (rows[0], rows[8], rows[16], rows[-1]):
            told = torch._int_mm(torch.from_numpy(rows), torch.from_numpy(q[:, None].copy()))[:, 0].numpy()
            if not np.array_equal(told, rows.astype(np.int64) @ q.astype(np.int64)):
                return False
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return True
