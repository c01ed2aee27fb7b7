"""Differences of one operand: what an elementwise function adds from a reference to the image, per unit that its operand adds.

A multiplier ``m`` with ``m * (x - x0) = f(x) - f(x0)``. Where x and x0 all but coincide the quotient is noise: smooth functions take
their slope half way, whose error is of the third order; functions with a corner take it only where the two are equal but for rounding.
Powers, roots and logarithms have closed forms, exact at every distance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import NoRule
from pellucid.probe.rules.operation import Operation, live, tensors

# slopes of these jump somewhere; the others in SMOOTH have three derivatives of the size of the function
CORNERED = """relu relu6 leaky_relu prelu rrelu elu selu celu hardtanh hardswish hardsigmoid hardshrink softshrink threshold clamp clamp_min
    clamp_max abs softplus""".split()
SMOOTH = "sigmoid tanh gelu silu mish log_sigmoid logsigmoid exp exp2 expm1 sin cos atan erf erfc sinh cosh".split()
CLOSED = "square sqrt rsqrt reciprocal log log2 log10 log1p".split()

Function = Callable[[Tensor], Tensor]
Boxed = list[Tensor]  # a value that a surrogate gives: in a list, autograd takes it for a result and not for an operand


def own(value: Boxed) -> Tensor:
    """The value itself, in memory of its own: the network may write into it."""
    (y,) = value
    return y.clone() if y._is_view() else y


class Scaled(torch.autograd.Function):
    """A given value in the place of f(x); gradients are multiplied by ``m``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Boxed, m: Tensor) -> Tensor:
        ctx.m = m
        return own(value)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        m, ctx.m = ctx.m, None  # used once: one backward pass
        return m.mul_(g), None, None


def scaled(x: Tensor, value: Tensor, m: Tensor) -> Tensor:
    """``value`` with the multiplier ``m`` to x."""
    return Scaled.apply(x, [value], m)  # type: ignore[no-untyped-call,no-any-return]


def unruled(op: Operation, what: str) -> Any:
    """Refuse an operation by name."""
    raise NoRule(f"a rule of {op.mode.rules.name} for every operation", f"{what}, {op}", "Choose another method, target or site.")


def there(op: Operation) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of an operation in the reference's run."""
    kept = iter(op.reference)

    def swap(value: Any) -> Any:
        if isinstance(value, Tensor):
            return next(kept)
        if isinstance(value, (list, tuple)):
            return type(value)([swap(v) for v in value])
        return {k: swap(v) for k, v in value.items()} if isinstance(value, dict) else value

    return swap(op.args), swap(op.kwargs)


def constant(op: Operation) -> bool:
    """Whether what does not depend on the image in autograd's sight is the same in both runs."""
    here = list(tensors((op.args, op.kwargs)))
    return all(a is b or torch.equal(a, b) for a, b in zip(here, op.reference, strict=True) if not live(a))


def multiplier(
    f: Function, x: Tensor, x0: Tensor, y: Tensor, y0: Tensor, *, smooth: bool, relative: bool = False, apart: bool = True
) -> Tensor:
    """``(y - y0) / (x - x0)``, and the slope half way where the quotient would be noise.

    ``relative``: distances count in shares of x (a power near 0). ``apart``: f may be asked about a part of the samples alone.
    """
    eps = torch.finfo(x.dtype).eps
    dx = x - x0
    limit: Tensor | float = eps ** (1 / 3) if smooth else 8 * eps
    if relative or not smooth:
        size = torch.maximum(x.abs(), x0.abs())
        limit = size.mul_(limit) if relative else size.clamp_(min=1).mul_(limit)
    near = dx.abs() <= limit
    m = (y - y0).div_(dx)
    if bool(near.any()):
        middle = (x + x0) / 2
        m = m.masked_scatter(near, slopes_at(f, middle[near])) if apart else torch.where(near, slopes_at(f, middle), m)
    return m


def slopes_at(f: Function, at: Tensor) -> Tensor:
    """The derivative of an elementwise function."""
    with torch.enable_grad():
        leaf = at.detach().requires_grad_()
        (slope,) = torch.autograd.grad(f(leaf).sum(), leaf)
    return slope.nan_to_num(0.0, 0.0, 0.0)  # infinite only where x = x0 (a root at 0): any number is right there, 0 is the norm's


def elementwise(op: Operation, input: Any, *args: Any, **kwargs: Any) -> Any:
    """Rescale: the whole change of the function over the whole change of its operand."""
    if not live(input) or any(live(t) for t in tensors((args, kwargs))) or not constant(op):
        return NotImplemented
    if op.name == "rrelu" and (kwargs.get("training") or (len(args) > 2 and args[2])):
        return NotImplemented
    x, x0, value = input.detach(), op.reference[0], op.plain()
    m = corner_at_zero(x, x0, value) if op.name == "relu" else slopes(op, x, x0, value, args, kwargs)
    if op.name != "relu":  # never above 1
        op.steep(m)
    return scaled(input, value, m)


def slopes(op: Operation, x: Tensor, x0: Tensor, value: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The multiplier of an elementwise operation of this name."""
    if op.name in CLOSED:
        return closed(op.name, x, x0)

    def f(t: Tensor) -> Tensor:
        return op.func(t, *args, **kwargs)  # type: ignore[no-any-return]

    apart = all(t.numel() == 1 for t in tensors((args, kwargs)))
    if op.name == "prelu":
        apart = args[0].numel() == 1 if args else kwargs["weight"].numel() == 1
    return multiplier(f, x, x0, value, f(x0), smooth=op.name in SMOOTH, apart=apart)


def corner_at_zero(x: Tensor, x0: Tensor, value: Tensor) -> Tensor:
    """ReLU's, ``(y + y0) / (|x| + |x0|)``: the same quotient for each pair of signs, its slope where x = x0, and 0 for two zeros.

    x0 is used up. Written with ``|x| = 2y - x``: few passes over memory, as most of the cost of DeepLIFT on convolutional networks is here.
    """
    m = x0.clamp(min=0).add_(value)
    half = torch.sub(m, x0.add_(x), alpha=0.5, out=x0).clamp_(min=torch.finfo(x.dtype).tiny)
    return m.div_(half).mul_(0.5)


def closed(name: str, x: Tensor, x0: Tensor) -> Tensor:
    """Multipliers of roots, reciprocals and logarithms, without a quotient of differences."""
    if name == "square":
        return x + x0
    if name == "reciprocal":
        return -1 / (x * x0)
    if name == "sqrt":
        total = x.sqrt() + x0.sqrt()
        return torch.where(total > 0, 1 / total, 0)
    if name == "rsqrt":
        a, b = x.sqrt(), x0.sqrt()
        return -1 / (a * b * (a + b))
    if name == "log1p":
        return closed("log", 1 + x, 1 + x0)
    base = {"log": 1.0, "log2": math.log(2), "log10": math.log(10)}[name]
    d = x - x0
    return torch.where(d == 0, 1 / x, torch.log1p(d / x0) / d) / base


def power(op: Operation, input: Any, exponent: Any) -> Any:
    """A power of the operand, or a number to the power of it; both at once have no rule."""
    if live(input) and not live(exponent) and not (isinstance(exponent, Tensor) and exponent.numel() > 1):
        if not constant(op):
            return NotImplemented
        x, x0, p = input.detach(), op.reference[0], float(exponent)
        value = op.plain()
        m = _of_power(x, x0, value, p)
    elif live(exponent) and not live(input) and not (isinstance(input, Tensor) and input.numel() > 1):
        if not constant(op):
            return NotImplemented
        x, x0, value = exponent.detach(), op.reference[-1], op.plain()
        m = multiplier(lambda t: op.func(input, t), x, x0, value, op.func(input, x0), smooth=True)
        input = exponent
    else:
        return NotImplemented
    op.steep(m)
    return scaled(input, value, m)


def _of_power(x: Tensor, x0: Tensor, y: Tensor, p: float) -> Tensor:
    known = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}
    if p in known:
        return closed(known[p], x, x0)
    if p.is_integer() and abs(p) <= 16:
        n = int(abs(p))
        m = sum((x ** (n - 1 - k) * x0**k for k in range(n)), torch.zeros_like(x))
        return m if p >= 0 else -m / (x * x0) ** n
    return multiplier(lambda t: t**p, x, x0, y, x0**p, smooth=True, relative=True)
