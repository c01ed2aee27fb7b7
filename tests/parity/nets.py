"""Small random networks on which peers work too, and how two maps are compared."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import pellucid as pl

TARGET = 1
SPACE = {2: (16, 12), 3: (12, 10, 8)}


class Block(nn.Module):
    """Two convolutions around a residual sum; activations work in place."""

    def __init__(self, conv: Any, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.one, self.two, self.mid, self.act = conv(4, 4, 3, padding=1), conv(4, 4, 3, padding=1), act(), act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.two(self.mid(self.one(x))))


def net(dims: int, act: Callable[[], nn.Module] = lambda: nn.ReLU(inplace=True), dtype: torch.dtype = torch.float64) -> nn.Module:
    """A fresh network (peers may damage theirs) with the same random weights each time."""
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    pool = nn.AdaptiveAvgPool2d(2) if dims == 2 else nn.AdaptiveAvgPool3d(2)
    made = nn.Sequential(conv(2, 4, 3, padding=1), act(), Block(conv, act), pool, nn.Flatten(), nn.Linear(4 * 2**dims, 3))
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn(p.shape, generator=random) * 0.4)
    return copy.deepcopy(made).to(dtype).eval()


def image(dims: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand((2, *SPACE[dims]), generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(dtype)


def ours(dims: int, method: Any, x: Tensor | None = None, of: nn.Module | None = None, **params: Any) -> Tensor:
    found: Tensor = pl.explain(of or net(dims), image(dims) if x is None else x, TARGET, method=method, **params).values
    return found


@dataclass(frozen=True)
class Row:
    """One comparison: ``maps(dims)`` gives ours and theirs; their relative difference (of the largest value) must stay below a limit."""

    peer: str
    what: str
    maps: Callable[[int], tuple[Tensor, Tensor]]
    limit: float
    dims: tuple[int, ...] = (2, 3)

    def differences(self, dims: int) -> tuple[float, float]:
        """Largest absolute difference, and as a share of the largest value of theirs."""
        a, b = (m.detach().double() for m in self.maps(dims))
        assert a.shape == b.shape, f"{tuple(a.shape)} against {tuple(b.shape)}"
        assert float(b.max() - b.min()) > 1e-6, "the peer's map says nothing"
        difference = float((a - b).abs().max())
        return difference, difference / float(b.abs().max())

    def check(self, dims: int) -> None:
        _, relative = self.differences(dims)
        assert relative <= self.limit, f"{self.what} differs from {self.peer} by {relative:.2e} in {dims}D, limit {self.limit}"


def cases(rows: list[Row]) -> list[tuple[Row, int]]:
    return [(row, d) for row in rows for d in row.dims]


def name(value: Any) -> str:
    return value.what if isinstance(value, Row) else f"{value}D"
