"""Shares of what winners contributed: the arithmetic of excitation backpropagation, without a graph where all is of one sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

BLOCK = 2**18  # weights that stay in a processor's cache
Part = Callable[[Tensor, int], "Tensor | None"]  # a linear map with its positive weights only (1), or its negative ones (-1)


@dataclass(eq=False)
class Room:
    """Memory for the parts of weights, one operation after the other: fresh memory for each would cost more than what is written there."""

    of: dict[Any, Tensor] = field(default_factory=dict)

    def part(self, weight: Tensor, sign: int) -> Tensor:
        """The weights above 0, or those below."""
        key = sign, weight.dtype, weight.device
        if key not in self.of or self.of[key].numel() < weight.numel():
            self.of[key] = weight.new_empty(weight.numel())
        here = self.of[key][: weight.numel()].view(weight.shape)
        return torch.clamp_min(weight, 0, out=here) if sign > 0 else torch.clamp_max(weight, 0, out=here)


def per(q: Tensor, total: Tensor) -> Tensor:
    """q per unit of a total; what has no total has nobody to win it."""
    return torch.div(q, total).nan_to_num_(0.0, 0.0, 0.0)


def won_by_rows(q: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """``won_of`` of few vectors of at least 0 through a matrix: what costs is to read the weights, so they are read once, block by block."""
    flat, flow = x.reshape(-1, x.shape[-1]), q.reshape(-1, q.shape[-1])
    won, step = torch.zeros_like(flat), max(1, BLOCK // weight.shape[1])
    room = torch.empty_like(weight[:step])
    for at in range(0, len(weight), step):
        rows = weight[at : at + step]
        plus = torch.clamp_min(rows, 0, out=room[: len(rows)])
        won.addmm_(per(flow[:, at : at + step], flat @ plus.T), plus)
    return won.mul_(flat).view(x.shape)


def steps(dims: int, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> tuple[list[int], list[int], list[int], int]:
    """Stride, padding, dilation and groups of a convolution as given, in full."""
    wide = [[v] * dims if isinstance(v, int) else list(v) * (dims // len(v)) for v in (stride, padding, dilation)]
    return wide[0], wide[1], wide[2], groups


def won_back(q: Tensor, x: Tensor, plus: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int) -> Tensor:
    """``won_of`` of values of at least 0 through the weights of a convolution above 0: one convolution on, one back, no graph."""
    how = stride, padding, dilation, False, [0] * len(stride), groups
    total = torch.convolution(x, plus, None, *how)
    flow = torch.div(q, total, out=total).nan_to_num_(0.0, 0.0, 0.0)
    won: Tensor = torch.ops.aten.convolution_backward(flow, x, plus, None, *how, [True, False, False])[0]
    return won.mul_(x)


def won_of(q: Tensor, x: Tensor, part: Part, below: bool) -> Tensor:
    """What each unit of x wins of q: in shares of ``max(sign(q) * w * x, 0)``, with the sign of x. ``below``: whether some x are below 0."""
    won: Tensor | None = None
    signs = (1, -1) if below else (1,)
    ways = (1,) if float(q.min()) >= 0 else (1, -1)
    for way in ways:
        flow = q if len(ways) == 1 else (q * way).clamp_min(0)
        found: list[tuple[int, Tensor, Tensor]] = []
        with torch.enable_grad():
            for s in signs:
                of_sign = ((x * s).clamp_min(0) * s if below else x.detach()).requires_grad_()
                z = part(of_sign, way * s)
                if z is not None:
                    found.append((s, of_sign, z))
        if not found:
            continue
        total = found[0][2].detach()
        for _, _, z in found[1:]:
            total = total + z.detach()
        flow = per(flow, total)
        for s, of_sign, z in found:
            (g,) = torch.autograd.grad(z, of_sign, flow)
            share = g.mul_(of_sign.detach()) if g.is_contiguous() else g * of_sign.detach()
            share = share if s > 0 else -share
            won = share if won is None else won + share
    return torch.zeros_like(x) if won is None else won
