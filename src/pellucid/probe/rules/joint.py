"""Differences of several operands at once: products, quotients, softmax, attention. Exact, and without tiny denominators.

With a bar for the mean of image and reference, and d for their difference:

- a product: ``d(ab) = mean(b) da + mean(a) db``: the slope of a function of the second degree half way.
- a quotient y = a/b, from the product a = yb: ``dy = (da - mean(y) db) / mean(b)``.
- softmax: ``dp_i = L_i (dz_i - sum_j L_j dz_j / sum_j L_j)``, L the logarithmic mean of both probabilities (``dp = L d log p``).

None is in the DeepLIFT paper. Every denominator is a mean of both runs: a product with a reciprocal would hold the smaller one alone, and
multipliers that only cancel on paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.probe.rules.differences import Boxed, constant, multiplier, own, scaled, there, unruled
from pellucid.probe.rules.operation import Operation, live, tensors

CHOSEN = "the paper has no rule for {}: {}"
PRODUCTS = CHOSEN.format("products of operands", "each gets its change times the mean of the other")
SOFTMAX = CHOSEN.format("softmax", "its slope at the logarithmic mean of both probabilities")


class _Halfway(torch.autograd.Function):
    """A given value; gradients are the mean of those of ``call`` at some places between image and reference (``nodes``)."""

    @staticmethod
    def forward(ctx: Any, value: list[Any], call: Callable[..., Any], nodes: list[list[Tensor]], *now: Tensor) -> Any:
        ctx.call, ctx.many, ctx.count = call, isinstance(value[0], tuple), len(nodes)
        ctx.save_for_backward(*[t for node in nodes for t in node])
        return tuple(own([v]) for v in value[0]) if ctx.many else own(value)

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        saved, n = ctx.saved_tensors, len(ctx.saved_tensors) // ctx.count
        found: list[Any] = [0.0] * n
        for k in range(ctx.count):
            with torch.enable_grad():
                leaves = [t.detach().requires_grad_() for t in saved[k * n : (k + 1) * n]]
                out = ctx.call(*leaves)
            grads = torch.autograd.grad(out, leaves, g if ctx.many else g[0])
            found = [f + x / ctx.count for f, x in zip(found, grads, strict=True)]
        return None, None, None, *found


def between_runs(op: Operation, value: Any, call: Callable[..., Any], now: Sequence[Tensor], before: Sequence[Tensor]) -> Any:
    """``value``, with the slopes of ``call`` half way: exact up to the second degree; at two Gauss-Legendre nodes, up to the fourth."""
    reach = [0.0] if len(now) <= 2 else [-math.sqrt(1 / 3), math.sqrt(1 / 3)]
    nodes = [[((1 + r) * a.detach() + (1 - r) * b).div_(2) for a, b in zip(now, before, strict=True)] for r in reach]
    for node in nodes:
        for t in node:
            op.steep(t)
    return _Halfway.apply([value], call, nodes, *now)  # type: ignore[no-untyped-call]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, value: Boxed, mean_a: Tensor, mean_b: Tensor) -> Tensor:
        ctx.save_for_backward(mean_a, mean_b)
        return own(value)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # type: ignore[override]
        a, b = ctx.saved_tensors
        return (g * b).sum_to_size(a.shape), (g * a).sum_to_size(b.shape), None, None, None


class TwoSlopes(torch.autograd.Function):
    """A given value with a given slope for each of two operands that broadcast."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, value: Boxed, for_a: Tensor, for_b: Tensor) -> Tensor:
        ctx.save_for_backward(for_a, for_b)
        ctx.shapes = a.shape, b.shape
        return own(value)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # type: ignore[override]
        for_a, for_b = ctx.saved_tensors
        a, b = ctx.shapes
        return (g * for_a).sum_to_size(a), (g * for_b).sum_to_size(b), None, None, None


class _Softmax(torch.autograd.Function):
    """``mean`` is the logarithmic mean; of ``form`` softmax, log_softmax or logsumexp."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, value: Boxed, mean: Tensor, dims: tuple[int, ...], form: str) -> Tensor:
        ctx.save_for_backward(mean)
        ctx.dims, ctx.form = dims, form
        return own(value)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        (mean,) = ctx.saved_tensors
        share = mean / mean.sum(ctx.dims, keepdim=True)
        if ctx.form == "logsumexp":
            out = share * g
        elif ctx.form == "log_softmax":
            out = g - share * g.sum(ctx.dims, keepdim=True)
        else:
            out = mean * (g - (share * g).sum(ctx.dims, keepdim=True))
        return out, None, None, None, None


# ---------------------------------------------------------------------- sums of products
def several(op: Operation) -> bool:
    """Whether more than one operand depends on the image."""
    return sum(live(t) for t in tensors((op.args, op.kwargs))) > 1


def halfway(op: Operation, *_args: Any, **_kwargs: Any) -> Any:
    """Any operation that is a sum of products of its operands (matmul, einsum, a convolution by live weights) or of squares (var)."""
    here = [t for t in tensors((op.args, op.kwargs)) if live(t)]
    if not constant(op) or not op.reference or len(here) > 4:
        return NotImplemented
    before = [b for a, b in zip(tensors((op.args, op.kwargs)), op.reference, strict=True) if live(a)]

    def call(*leaves: Tensor) -> Any:
        given = iter(leaves)
        args, kwargs = _with(op.args, given), _with(op.kwargs, given)
        return op.func(*args, **kwargs)

    op.caveat(PRODUCTS)
    return between_runs(op, op.plain(), call, here, before)


def _with(value: Any, given: Any) -> Any:
    if isinstance(value, Tensor):
        return next(given) if live(value) else value
    if isinstance(value, (list, tuple)):
        return type(value)([_with(v, given) for v in value])
    return {k: _with(v, given) for k, v in value.items()} if isinstance(value, dict) else value


def product(op: Operation, input: Any, other: Any) -> Any:
    """The product of two tensors, element by element."""
    if not (live(input) and live(other)):
        return NotImplemented  # linear; the guard looks at it
    a, b = op.reference
    mean_a, mean_b = (input.detach() + a) / 2, (other.detach() + b) / 2
    op.caveat(PRODUCTS)
    op.steep(mean_a)
    op.steep(mean_b)
    return _Product.apply(input, other, [op.plain()], mean_a, mean_b)  # type: ignore[no-untyped-call]


def added_product(op: Operation, input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    """addcmul: linear in what it adds to."""
    return halfway(op) if live(tensor1) and live(tensor2) else NotImplemented


def divided(op: Operation, input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """By the quotient rule where both divisors have one sign; else as a product with the reciprocal."""
    if rounding_mode is not None:
        return unruled(op, f"div rounded to {rounding_mode}")
    if not live(other):
        return NotImplemented
    if not constant(op):
        return unruled(op, "div by something derived out of autograd's sight")
    args, kwargs = there(op)
    before_a, before_b = args[0], args[1] if len(args) > 1 else kwargs["other"]
    y, a, b = op.plain(), _still(input), other.detach()
    y0 = before_a / before_b
    half_b, half_y = (b + before_b) / 2, (y + y0) / 2
    alike = b * before_b > 0
    for_a = torch.where(alike, 1 / half_b, (1 / b + 1 / before_b) / 2)
    for_b = torch.where(alike, -half_y / half_b, -(a + before_a) / 2 / (b * before_b))
    op.caveat(CHOSEN.format("quotients", "divisor and dividend share the change as y = a/b from a = yb"))
    op.steep(for_a)
    op.steep(for_b)
    if not live(input):
        shape = y.shape
        return scaled(other if other.shape == shape else other.expand(shape), y, for_b.expand(shape).clone())
    return TwoSlopes.apply(input, other, [y], for_a, for_b)  # type: ignore[no-untyped-call]


def _still(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


# ---------------------------------------------------------------------- softmax
def log_mean(log_p: Tensor, log_p0: Tensor) -> Tensor:
    """The logarithmic mean (p - p0) / (log p - log p0); p where both are equal, 0 where one is 0."""
    gap = (log_p - log_p0).abs()
    falling = torch.where(gap == 0, 1.0, -torch.expm1(-gap) / gap)  # (1 - e^-gap) / gap, without cancellation
    return (torch.maximum(log_p, log_p0).exp() * falling).nan_to_num(0.0)  # masked with -inf in both


def softened(op: Operation, z: Tensor, z0: Tensor, dims: tuple[int, ...], form: str, value: Tensor | None = None) -> Tensor:
    """softmax, log_softmax or logsumexp of live z against z0."""
    now, before = z.detach(), z0
    totals = torch.logsumexp(now, dims, keepdim=True), torch.logsumexp(before, dims, keepdim=True)
    log_p = now - totals[0]
    if value is None:
        value = log_p.exp()
    mean = log_mean(log_p, before - totals[1])
    op.caveat(SOFTMAX)
    op.steep(mean if form == "softmax" else mean / mean.sum(dims, keepdim=True))
    return _Softmax.apply(z, [value], mean, dims, form)  # type: ignore[no-untyped-call,no-any-return]


def softmax(op: Operation, input: Any, dim: int, dtype: Any = None, **_kwargs: Any) -> Any:
    """softmax and log_softmax."""
    if dtype is not None and not isinstance(dtype, bool) and dtype != input.dtype:
        return NotImplemented
    return softened(op, input, op.reference[0], (dim,), op.name, op.plain())


def logsumexp(op: Operation, input: Any, dim: Any, keepdim: bool = False) -> Any:
    """The logarithm of a sum of exponentials, over one or several dimensions."""
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    value = torch.logsumexp(input.detach(), dims, keepdim=True)
    out = softened(op, input, op.reference[0], dims, "logsumexp", value)
    return out if keepdim else out.reshape(op.plain().shape)


# ---------------------------------------------------------------------- compositions
def attention(
    op: Operation, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False, scale: Any = None,
    enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """scaled_dot_product_attention as what it is: product, softmax, product."""
    if dropout_p or not constant(op):
        return unruled(op, "attention with dropout, or with a mask derived from the image")
    args, kwargs = there(op)
    before = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | kwargs
    q, k, v, mask = query, key, value, attn_mask
    q0, k0, v0, mask0 = before["query"], before["key"], before["value"], before.get("attn_mask")
    if enable_gqa:
        times = q.shape[-3] // k.shape[-3]
        k, v, k0, v0 = (t.repeat_interleave(times, -3) for t in (k, v, k0, v0))
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    scores, scores0 = _multiplied(op, q, k.transpose(-2, -1), q0, k0.transpose(-2, -1))
    scores, scores0 = scores * factor, scores0 * factor
    if is_causal:
        mask = mask0 = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = mask0 = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -math.inf)
        scores, scores0 = scores + mask, scores0 + mask0
    weights0 = torch.softmax(scores0, -1)
    weights = softened(op, scores, scores0, (-1,), "softmax") if live(scores) else torch.softmax(scores, -1)
    return _multiplied(op, weights, v, weights0, v0)[0]


def _multiplied(op: Operation, a: Tensor, b: Tensor, a0: Any, b0: Any) -> tuple[Tensor, Tensor]:
    before = torch.matmul(a0, b0)
    if not (live(a) and live(b)):
        return torch.matmul(a, b), before
    op.caveat(PRODUCTS)
    return between_runs(op, torch.matmul(a.detach(), b.detach()), torch.matmul, [a, b], [a0, b0]), before


def glu(op: Operation, input: Any, dim: int = -1) -> Any:
    """One half times the sigmoid of the other."""
    (a, b), (a0, b0) = input.chunk(2, dim), op.reference[0].chunk(2, dim)
    gate, gate0 = b.detach().sigmoid(), b0.sigmoid()
    m = multiplier(torch.sigmoid, b.detach(), b0, gate, gate0, smooth=True)
    op.caveat(PRODUCTS)
    mean_a, mean_gate = (a.detach() + a0) / 2, (gate + gate0) / 2
    op.steep(mean_a)
    return _Product.apply(a, scaled(b, gate, m), [op.plain()], mean_a, mean_gate)  # type: ignore[no-untyped-call]
