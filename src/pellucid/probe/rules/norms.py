"""Differences of norms: an operation that divides its input by statistics of its own.

y = c/s of centered c, with ``s^2 = mean c^2 + eps``, is a quotient: ``dy = (dc - mean(y) ds) / mean(s)``, bars of ``joint`` written as means
of both runs, and ``ds = mean over the samples of mean(c) dc, over mean(s)``. Both are exact, and no multiplier exceeds 2 / mean(s): also
where a constant reference has no deviation but eps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pellucid.probe.rules.differences import Boxed, closed, constant, multiplier, own, scaled, there
from pellucid.probe.rules.joint import CHOSEN, between_runs, halfway
from pellucid.probe.rules.operation import Operation, live, tensors


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Boxed, c: Tensor, y: Tensor, s: Tensor, weight: Tensor | None, how: _How) -> Tensor:
        ctx.save_for_backward(c, y, s, weight)
        ctx.how = how
        return own(value)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        c, y, s, weight = ctx.saved_tensors
        dims = ctx.how.dims
        u = (g if weight is None else g * weight).reshape(c.shape) / s
        out = u - c / s * (y * u).mean(dims, keepdim=True)
        if ctx.how.centered:
            out = out - out.mean(dims, keepdim=True)
        return out.reshape(g.shape), None, None, None, None, None, None


class _How:
    """Over which dimensions of which view a norm goes, and whether it subtracts the mean."""

    def __init__(self, view: tuple[int, ...], dims: tuple[int, ...], eps: float, centered: bool = True) -> None:
        self.view, self.dims, self.eps, self.centered = view, dims, eps, centered

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Centered values and their deviation."""
        c = x.reshape(self.view)
        c = c - c.mean(self.dims, keepdim=True) if self.centered else c
        return c, (c.square().mean(self.dims, keepdim=True) + self.eps).sqrt()


def _normed(op: Operation, input: Tensor, how: _How, weight: Tensor | None) -> Any:
    if live(weight) or not live(input) or not constant(op):
        return NotImplemented
    c, s = how.parts(input.detach())
    c0, s0 = how.parts(op.reference[0])
    half_s, half_y = (s + s0) / 2, (c / s + c0 / s0) / 2
    op.caveat(CHOSEN.format("norms of the input's own statistics", f"{op.name} shares its change as a quotient of two"))
    op.steep(1 / half_s if weight is None else weight.abs().max() / half_s)
    return _Norm.apply(input, [op.plain()], (c + c0) / 2, half_y, half_s, weight, how)  # type: ignore[no-untyped-call]


def layer_norm(
    op: Operation, input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    """Over the last dimensions."""
    return _normed(op, input, _How(tuple(input.shape), tuple(range(-len(normalized_shape), 0)), eps), weight)


def rms_norm(op: Operation, input: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """Without a mean."""
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _normed(op, input, _How(tuple(input.shape), tuple(range(-len(normalized_shape), 0)), eps, centered=False), weight)


def group_norm(op: Operation, input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any) -> Any:
    """Over space and groups of channels."""
    return _normed(op, input, _How((input.shape[0], num_groups, -1), (-1,), eps), _channels(weight, input))


def batch_norm(
    op: Operation,
    input: Tensor,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: Any,
    eps: float,
    *_: Any,
) -> Any:
    """Linear with running statistics; without them a norm over batch and space."""
    if not training:
        return NotImplemented if live(weight) or live(bias) else op.func(*op.args, **op.kwargs)
    return _normed(op, input, _How(tuple(input.shape), (0, *range(2, input.ndim)), eps), _channels(weight, input))


def instance_norm(
    op: Operation, input: Tensor, weight: Any, bias: Any, running_mean: Any, running_var: Any, use_input_stats: bool, momentum: Any, eps: float, *_: Any
) -> Any:  # fmt: skip
    """Over space; linear with running statistics."""
    if not use_input_stats:
        return NotImplemented if live(weight) or live(bias) else op.func(*op.args, **op.kwargs)
    return _normed(op, input, _How((*input.shape[:2], -1), (-1,), eps), _channels(weight, input))


def own_statistics(op: Operation) -> bool:
    """Whether a batch or instance norm looks at its input's own statistics."""
    named = "training" if op.name == "batch_norm" else "use_input_stats"
    return bool(op.args[5] if len(op.args) > 5 else op.kwargs.get(named, True))


def _channels(weight: Any, input: Tensor) -> Any:
    return None if weight is None else weight.view(1, -1, *[1] * (input.ndim - 2))


def spread(op: Operation, *args: Any, **kwargs: Any) -> Any:
    """var is a sum of squares: its slope half way is exact; std is a root of it."""
    if "std" not in op.name:
        return halfway(op)
    squared = torch.var_mean if op.name == "std_mean" else torch.var
    (here,) = [t for t in tensors((args, kwargs)) if live(t)]
    rest = args[1:]
    found = between_runs(op, squared(here.detach(), *rest, **kwargs), lambda t: squared(t, *rest, **kwargs), [here], op.reference)
    (v, mean) = found if op.name == "std_mean" else (found, None)
    (args0, kwargs0) = there(op)
    before: Any = squared(*args0, **kwargs0)
    m = closed("sqrt", v.detach(), before if mean is None else before[0])
    op.caveat(CHOSEN.format("deviations", "the change of a sum of squares, and of its root"))
    op.steep(m)
    s = scaled(v, v.detach().sqrt(), m)
    return s if mean is None else (s, mean)


def vector_norm(op: Operation, input: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """A root of a sum of squares, or a sum of absolute values."""
    if dtype is not None or ord not in (1, 2) or not live(input):
        return NotImplemented
    x, x0 = input.detach(), op.reference[0]
    dims = tuple(range(x.ndim)) if dim is None else ((dim,) if isinstance(dim, int) else tuple(dim))
    op.caveat(CHOSEN.format("norms of vectors", "the change of the sum of their powers, and of its root"))
    if ord == 1:
        m = multiplier(torch.abs, x, x0, x.abs(), x0.abs(), smooth=False)
        return scaled(input, x.abs(), m).sum(dims, keepdim)
    total = scaled(input, x.square(), x + x0).sum(dims, keepdim)
    m = closed("sqrt", total.detach(), x0.square().sum(dims, keepdim))
    op.steep(m)
    return scaled(total, op.plain(), m)
