"""What a region might look like without what is in it: smooth from its rim inwards, with the rim's grain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pellucid.ops.blur import gaussian

CLOSE = 1e-6  # relative residual at which the smooth fill is done
OUTLIER = 3.0  # median deviations beyond which a rim's residual is an edge, no grain


def widened(mask: Tensor, samples: int = 1) -> Tensor:
    """A mask (*space) with its neighbors along the axes, ``samples`` times."""
    from scipy.ndimage import binary_dilation

    return torch.from_numpy(binary_dilation(mask.cpu().numpy(), iterations=samples)) if samples > 0 else mask


def harmonic(values: Tensor, mask: Tensor, spacing: Sequence[float]) -> Tensor:
    """Values (c, *space) with the region filled by the smoothest surface through its rim: Laplace's equation, no flux through the image's border.

    Second differences are weighted by 1 / spacing^2, so that the fill is as smooth in all directions of the patient. Needs a sample outside.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import cg

    hole = mask.cpu().numpy()
    n = int(hole.sum())
    if n == 0 or n == hole.size:
        return values.clone()
    number = np.full(hole.shape, -1, np.int64)
    number[hole] = np.arange(n)
    x = values.double().cpu().numpy()
    diagonal, known = np.zeros(n), np.zeros((len(x), n))
    rows, columns, entries = [], [], []
    for axis, gap in enumerate(spacing):
        weight = 1 / gap**2
        for step in (1, -1):
            here, there = _shifted(hole.shape, axis, step)
            at = hole[here]
            own, other = number[here][at], number[there][at]
            np.add.at(diagonal, own, weight)
            free = other >= 0
            rows.append(own[free])
            columns.append(other[free])
            entries.append(np.full(int(free.sum()), -weight))
            for c in range(len(x)):
                np.add.at(known[c], own[~free], weight * x[c][there][at][~free])
    rows.append(np.arange(n))
    columns.append(np.arange(n))
    entries.append(diagonal + 1e-12)  # a region that fills a whole part of the image has no rim: it stays solvable
    matrix = coo_matrix((np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))), (n, n)).tocsr()
    out = x.copy()
    for c in range(len(x)):
        start = np.full(n, x[c][~hole].mean())
        out[c][hole], _ = cg(matrix, known[c], x0=start, rtol=CLOSE, atol=0.0, maxiter=4 * n)
    return torch.from_numpy(out).to(values.dtype)


def _shifted(shape: tuple[int, ...], axis: int, step: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Samples that have a neighbor on that side, and these neighbors."""
    first, last = slice(0, shape[axis] - 1), slice(1, None)
    here = [slice(None)] * len(shape)
    there = list(here)
    here[axis], there[axis] = (first, last) if step > 0 else (last, first)
    return tuple(here), tuple(there)


def grained(filled: Tensor, values: Tensor, mask: Tensor, rim: Tensor, random: torch.Generator) -> Tensor:
    """A smooth fill with grain in the region: residuals of the rim, drawn for each sample, all channels of one place together.

    A residual is what a blur of one sample takes away, brought to the strength of white noise; residuals of edges are left out.
    """
    smooth = gaussian(values.double(), [1.0] * mask.ndim)
    left = (values.double() - smooth)[:, rim]
    away = (left - left.median(1, keepdim=True).values).abs()
    scale = away.median(1, keepdim=True).values * 1.4826
    plain = left[:, (away <= OUTLIER * scale + 1e-12).all(0)]
    if not plain.shape[1]:
        return filled
    count = int(mask.sum())
    drawn = plain[:, torch.randint(plain.shape[1], (count,), generator=random)]
    out = filled.clone()
    out[:, mask] += ((drawn - plain.mean(1, keepdim=True)) / _kept(mask.ndim)).to(out.dtype)
    return out


def _kept(ndim: int) -> float:
    """Standard deviation of white noise less its blur of one sample."""
    t = torch.arange(-4, 5, dtype=torch.float64)
    w = (-(t**2) / 2).exp()
    w = w / w.sum()
    return float((1 - 2 * w[4] ** ndim + ((w**2).sum()) ** ndim) ** 0.5)
