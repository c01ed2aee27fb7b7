"""Differences of a maximum: what wins in the image or in the reference gets the change, whichever is higher.

If the image's maximum is the higher one, its winner i rose from ``x0_i <= y0`` to ``x_i = y``, at least by ``y - y0``; else the reference's
winner fell by at least that. So ``(y - y0) / (x_i - x0_i)`` lies in [0, 1] and is exact. A winner that did not move keeps the slope 1.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.probe.rules.differences import Boxed, constant, own, there, unruled
from pellucid.probe.rules.joint import CHOSEN, TwoSlopes
from pellucid.probe.rules.operation import Operation

PAPER = CHOSEN.format("max pooling", "what wins in the image or in the reference gets the change, whichever is higher")


class _Won(torch.autograd.Function):
    """``value`` (*before, *out), whose gradient goes times ``m`` to the places ``at`` of x's last ``dims`` dimensions, flattened."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Boxed, at: Tensor, m: Tensor, dims: int) -> Tensor:
        ctx.save_for_backward(at, m)
        ctx.shape, ctx.dims = x.shape, dims
        return own(value)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        at, m = ctx.saved_tensors
        flat = g.new_zeros((*ctx.shape[: len(ctx.shape) - ctx.dims], ctx.shape[len(ctx.shape) - ctx.dims :].numel()))
        flat.scatter_add_(-1, at, (g * m).reshape(at.shape))
        return flat.view(ctx.shape), None, None, None, None


def _winners(
    op: Operation, x: Tensor, x0: Tensor, now: tuple[Tensor, Tensor], before: tuple[Tensor, Tensor], dims: int
) -> tuple[Tensor, Tensor]:
    """Where the change goes, and the multiplier; maxima and their places are (*before, out)."""
    (y, i), (y0, j) = now, before
    at = torch.where(y >= y0, i, j)
    start = x.ndim - dims
    here, there_ = x.flatten(start).gather(-1, at), x0.flatten(start).gather(-1, at)
    moved = here - there_
    return at, torch.where(moved == 0, 1.0, (y - y0) / moved)


def pool(op: Operation, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """max_pool and adaptive_max_pool in any number of dimensions."""
    dims, whole = int(op.name[-2]), getattr(F, op.name)
    names = ("output_size",) if op.name.startswith("adaptive") else ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    ask = {k: v for k, v in (dict(zip(names, args, strict=False)) | kwargs).items() if k in names and v != []}  # no stride: the kernel's
    x, x0, out = input.detach(), op.reference[0], op.plain()
    (y, i), (y0, j) = whole(x, **ask, return_indices=True), whole(x0, **ask, return_indices=True)
    start = y.ndim - dims
    flat = [t.flatten(start) for t in (y, i, y0, j)]
    at, m = _winners(op, x, x0, (flat[0], flat[1]), (flat[2], flat[3]), dims)
    op.caveat(PAPER)
    op.steep(m)
    won: Tensor = _Won.apply(input, [y], at, m.view(y.shape), dims)  # type: ignore[no-untyped-call]
    return (won, out[1]) if isinstance(out, tuple) else won


def highest(op: Operation, input: Any, *args: Any, **kwargs: Any) -> Any:
    """max, amax, min, amin over all, one or several dimensions; max and min of two tensors."""
    other = kwargs.get("other", args[0] if args else None)
    if op.name in ("max", "min") and isinstance(other, Tensor):
        return higher(op, input, other)
    sign = -1 if op.name.endswith("min") else 1
    dim = kwargs.get("dim", args[0] if args else None)
    dims = tuple(range(input.ndim)) if dim is None or dim == () or dim == [] else ((dim,) if isinstance(dim, int) else tuple(dim))
    dims = tuple(d % input.ndim for d in dims)
    kept = [d for d in range(input.ndim) if d not in dims]
    x = input.permute(*kept, *dims)
    now, before = x.detach().flatten(len(kept)) * sign, op.reference[0].permute(*kept, *dims).flatten(len(kept)) * sign
    (y, i), (y0, j) = now.max(-1, keepdim=True), before.max(-1, keepdim=True)
    at, m = _winners(op, now, before, (y, i), (y0, j), 1)
    op.caveat(PAPER)
    out = op.plain()
    values = out if isinstance(out, Tensor) else out[0]
    won: Tensor = _Won.apply(x, [values.reshape(y.shape)], at, m, len(dims))  # type: ignore[no-untyped-call]
    won = won.reshape(values.shape)
    return won if isinstance(out, Tensor) else type(out)((won, out[1]))


def higher(op: Operation, input: Any, other: Any) -> Any:
    """The higher (or lower) of two tensors, one of which may be given."""
    (args, kwargs) = there(op)
    a0, b0 = args[0], args[1] if len(args) > 1 else kwargs["other"]
    if not constant(op):
        return unruled(op, f"{op.name} with something derived from the image out of autograd's sight")
    a, b, value = input.detach(), other.detach(), op.plain()
    before = op.func(a0, b0)
    sign = -1 if "min" in op.name else 1
    rises = (value - before) * sign >= 0
    a_wins = torch.where(rises, (a - b) * sign >= 0, (a0 - b0) * sign >= 0)
    moved = torch.where(a_wins, a - a0, b - b0)
    m = torch.where(moved == 0, 1.0, (value - before) / moved)
    op.caveat(PAPER)
    op.steep(m)
    return TwoSlopes.apply(input, other, [value], m * a_wins, m * ~a_wins)  # type: ignore[no-untyped-call]
