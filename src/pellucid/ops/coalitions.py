"""Which segments are shown together, and what their scores say of each: samples, merged duplicates, weighted regressions (float64)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

ALL_UP_TO = 10  # segments of which all coalitions are asked


def coins(samples: int, parts: int, random: torch.Generator) -> Tensor:
    """Rows (samples, parts) of fair coins, bool; the first shows everything."""
    rows = torch.rand(samples, parts, generator=random, dtype=torch.float64) < 0.5
    rows[0] = True
    return rows


def merged(rows: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Each different row once, those that show most first, and the summed weight (or the number) of its copies, float64."""
    different, which = torch.unique(rows, dim=0, return_inverse=True)
    weights = torch.ones(len(rows), dtype=torch.float64) if weights is None else weights
    total = torch.zeros(len(different), dtype=torch.float64).index_add_(0, which, weights)
    order = torch.argsort(different.sum(1), descending=True, stable=True)
    return different[order], total[order]


def subsets(parts: int, size: int) -> Iterator[list[bool]]:
    """All rows that show ``size`` of ``parts``."""
    for shown in itertools.combinations(range(parts), size):
        yield [p in shown for p in range(parts)]


def shapley_rows(parts: int, samples: int, random: torch.Generator) -> tuple[Tensor, Tensor, bool]:
    """Coalitions (n, parts) without the empty and the full one, their Shapley kernel weights, and whether they are all there are.

    All up to ten parts. Beyond, sizes are taken in pairs (k, parts - k) from the outside in, whole as long as ``samples`` suffice; the
    rest is drawn by the kernel, each row with its complement.
    """
    mass = torch.tensor([(parts - 1) / (k * (parts - k)) for k in range(1, parts)], dtype=torch.float64)
    mass = mass / mass.sum()
    rows: list[list[bool]] = []
    weights: list[float] = []
    left, everything = samples, parts <= ALL_UP_TO or samples >= 2**parts - 2
    for done in range(parts // 2):
        sizes = sorted({done + 1, parts - done - 1})
        count = sum(math.comb(parts, k) for k in sizes)
        share = float(mass[[k - 1 for k in sizes]].sum() / mass[done : parts - 1 - done].sum())
        if not everything and left * share < count:
            break
        for k in sizes:
            rows += subsets(parts, k)
            weights += [float(mass[k - 1]) / math.comb(parts, k)] * math.comb(parts, k)
        left -= count
    else:
        return torch.tensor(rows), torch.tensor(weights, dtype=torch.float64), True
    drawn = _pairs(parts, done, mass, max(1, left // 2), random)
    each = float(mass[done : parts - 1 - done].sum()) / len(drawn)
    rest_rows, rest_weights = merged(drawn, torch.full((len(drawn),), each, dtype=torch.float64))
    whole = torch.tensor(rows, dtype=torch.bool).view(-1, parts)
    return torch.cat([whole, rest_rows]), torch.cat([torch.tensor(weights, dtype=torch.float64), rest_weights]), False


def _pairs(parts: int, done: int, mass: Tensor, pairs: int, random: torch.Generator) -> Tensor:
    """Rows of the sizes not yet taken, drawn by the kernel, and their complements."""
    chances = mass.clone()
    chances[:done] = 0
    chances[len(mass) - done :] = 0
    sizes = torch.multinomial(chances, pairs, replacement=True, generator=random) + 1
    places = torch.rand(pairs, parts, generator=random, dtype=torch.float64).argsort(1).argsort(1)
    drawn = places < sizes[:, None]
    return torch.cat([drawn, ~drawn])


def ridge(rows: Tensor, scores: Tensor, weights: Tensor, alpha: float) -> tuple[Tensor, float]:
    """Weighted ridge regression with a free intercept: coefficients and intercept."""
    z, total = rows.double(), weights.sum()
    middle, mean = (weights[:, None] * z).sum(0) / total, (weights * scores).sum() / total
    centered = z - middle
    normal = centered.T @ (weights[:, None] * centered) + alpha * torch.eye(z.shape[1], dtype=torch.float64)
    found = torch.linalg.solve(normal, centered.T @ (weights * (scores - mean)))
    return found, float(mean - middle @ found)


def lasso_picks(rows: Tensor, scores: Tensor, weights: Tensor, most: int) -> Tensor:
    """K-Lasso: the columns that are not zero at the last point of the Lasso path with at most ``most`` of them."""
    from sklearn.linear_model import lars_path

    z, total = rows.double(), weights.sum()
    root = weights.sqrt()
    centered = (z - (weights[:, None] * z).sum(0) / total) * root[:, None]
    target = (scores - (weights * scores).sum() / total) * root
    _, _, path = lars_path(centered.numpy(), target.numpy(), method="lasso")
    for at in range(path.shape[1] - 1, -1, -1):
        found = path[:, at].nonzero()[0]
        if len(found) <= most:
            return torch.from_numpy(found)
    return torch.zeros(0, dtype=torch.int64)


def determination(rows: Tensor, scores: Tensor, weights: Tensor, coefficients: Tensor, intercept: float) -> float:
    """R squared of a weighted fit: the share of the scores' spread that it explains."""
    spread = scores - (weights * scores).sum() / weights.sum()
    missed = scores - intercept - rows.double() @ coefficients
    return 1 - float((weights * missed**2).sum() / (weights * spread**2).sum().clamp_min(1e-300))


def summing_fit(rows: Tensor, scores: Tensor, weights: Tensor, total: float) -> Tensor:
    """Weighted least squares without intercept whose coefficients sum to ``total``; the least such where rows are few."""
    z = rows.double()
    inverse = torch.linalg.pinv(z.T @ (weights[:, None] * z), hermitian=True)
    free = inverse @ (z.T @ (weights * scores))
    one = inverse.sum(1)
    return free - one * ((free.sum() - total) / one.sum())
