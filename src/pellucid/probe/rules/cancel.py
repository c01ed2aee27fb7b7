"""RevealCancel: what raises a unit and what lowers it pass its nonlinearity apart, in both orders (DeepLIFT paper, section 3.5.3).

With Dz+ and Dz- the raising and lowering parts of z - z0::

    Dy+ = ((f(z0 + Dz+) - f(z0)) + (f(z0 + Dz+ + Dz-) - f(z0 + Dz-))) / 2        Dy- likewise
    multipliers: Dy+ / Dz+ for what is in Dz+, Dy- / Dz- for what is in Dz-

The parts are born in a linear operation, ``Dz+ = sum of the positive w_i dx_i``; an input that does not change gets half of each. As in the
authors' code parts begin anew at every linear operation, RevealCancel follows linear operations and Rescale convolutions, both also
behind a BatchNorm or a change of shape; a nonlinearity behind anything else is refused, and so are products, norms and softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from pellucid.probe.rules.differences import Boxed, constant, elementwise, own, slopes_at, unruled
from pellucid.probe.rules.norms import batch_norm
from pellucid.probe.rules.operation import Operation, live

CONVOLUTIONS = "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d".split()
DENSE = "linear addmm mm matmul".split()
MOVES = "view reshape flatten unflatten permute transpose t unsqueeze squeeze contiguous clone dropout dropout2d dropout3d alpha_dropout".split()
AUTHORS = "Rescale behind convolutions and RevealCancel behind linear layers, as in the authors' code"


@dataclass(frozen=True, eq=False)
class _Source:
    """Where an operand comes from: a convolution (no parts), or a linear operation whose parts add up to the operand's change."""

    version: int
    parts: tuple[Tensor, Tensor] | None


class _Joined(torch.autograd.Function):
    """A given value that is the sum of two parts."""

    @staticmethod
    def forward(ctx: Any, up: Tensor, down: Tensor, value: Boxed) -> Tensor:
        return own(value)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        return g, g, None


class _Apart(torch.autograd.Function):
    """A given value, with a multiplier for each part."""

    @staticmethod
    def forward(ctx: Any, up: Tensor, down: Tensor, value: Boxed, for_up: Tensor, for_down: Tensor) -> Tensor:
        ctx.save_for_backward(for_up, for_down)
        return own(value)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # type: ignore[override]
        for_up, for_down = ctx.saved_tensors
        return g * for_up, g * for_down, None, None, None


class Cancel:
    """The rules of one run, and the source of each operand that has one."""

    def __init__(self) -> None:
        self._sources = WeakIdKeyDictionary()

    def _source(self, z: Any) -> _Source | None:
        found: _Source | None = self._sources.get(z) if isinstance(z, Tensor) else None
        return found if found is not None and found.version == z._version else None  # written into since: another value

    def _keep(self, out: Tensor, parts: tuple[Tensor, Tensor] | None) -> Tensor:
        self._sources[out] = _Source(out._version, parts)
        return out

    # ------------------------------------------------------------------ where parts are born and how they travel
    def convolved(self, op: Operation, *args: Any, **kwargs: Any) -> Any:
        if live(args[1] if len(args) > 1 else kwargs["weight"]):
            return unruled(op, "a product of operands")
        return self._keep(op.func(*args, **kwargs), None)

    def dense(self, op: Operation, *args: Any, **kwargs: Any) -> Any:
        """``up`` and ``down`` are live tensors whose values are Dz+ and Dz-."""
        x, weight, f = _dense(op, args, kwargs)
        if sum(live(t) for t in (*args, *kwargs.values())) > 1 or not constant(op):
            return unruled(op, "a product of operands, or with something derived from the image")
        if x is None:
            return op.func(*args, **kwargs)  # linear, and no layer of units
        (before,) = [
            b for a, b in zip((t for t in (*args, *kwargs.values()) if isinstance(t, Tensor)), op.reference, strict=True) if a is x
        ]
        change = x - before
        rising, falling = (change > 0).to(x), (change < 0).to(x)
        still = 0.5 * (1 - rising - falling)
        high, low = weight.clamp(min=0), weight.clamp(max=0)
        up = f(change * (rising + still), high) + f(change * (falling + still), low)
        down = f(change * (rising + still), low) + f(change * (falling + still), high)
        return self._keep(_Joined.apply(up, down, [op.plain()]), (up, down))  # type: ignore[no-untyped-call]

    def moved(self, op: Operation, input: Any, *args: Any, **kwargs: Any) -> Any:
        out = op.func(input, *args, **kwargs)
        source = self._source(input)
        if source is not None:
            parts = source.parts
            self._keep(out, None if parts is None else (op.func(parts[0], *args, **kwargs), op.func(parts[1], *args, **kwargs)))
        return out

    def batch_norm(self, op: Operation, input: Tensor, weight: Any, *args: Any, **kwargs: Any) -> Any:
        """A scale per channel; a negative one turns what raises into what lowers."""
        if live(weight) or args[3]:
            return unruled(op, "a norm of the input's own statistics")
        out = batch_norm(op, input, weight, *args, **kwargs)
        source = self._source(input)
        if source is None or source.parts is None:
            return out if source is None else self._keep(out, None)
        eps, scale = args[5], args[2].new_ones(args[2].shape) if weight is None else weight
        scale = (scale / (args[2] + eps).sqrt()).view(1, -1, *[1] * (input.ndim - 2))
        up, down = source.parts
        turned = scale < 0
        return self._keep(out, (torch.where(turned, down, up) * scale, torch.where(turned, up, down) * scale))

    # ------------------------------------------------------------------ where they matter
    def nonlinear(self, rescale: Callable[..., Any] = elementwise) -> Callable[..., Any]:
        def rule(op: Operation, input: Any, *args: Any, **kwargs: Any) -> Any:
            source = self._source(input)
            if source is None:
                return unruled(op, f"{op.name} behind something else than a linear operation or a convolution")
            op.caveat(AUTHORS)
            if source.parts is None:
                return rescale(op, input, *args, **kwargs)
            if not constant(op):
                return unruled(op, "something derived from the image")
            return _apart(op, source.parts, lambda t: op.func(t, *args, **kwargs))

        return rule

    def refuse(self, what: str) -> Callable[..., Any]:
        return lambda op, *_args, **_kwargs: unruled(op, what)


def _apart(op: Operation, parts: tuple[Tensor, Tensor], f: Callable[[Tensor], Tensor]) -> Tensor:
    start, (up, down) = op.reference[0], parts
    rise, fall = up.detach(), down.detach()
    at, end, high, low = f(start), op.plain(), f(start + rise), f(start + fall)
    gained = ((high - at) + (end - low)) / 2
    lost = (end - at) - gained  # exact: both add up to the change
    at_end = start + rise + fall
    slope = (slopes_at(f, start) + slopes_at(f, at_end)) / 2  # the limit of the quotient of a part that vanishes
    none = 8 * torch.finfo(start.dtype).eps * torch.maximum(start.abs(), at_end.abs()).clamp(min=1)
    for_up = torch.where(rise.abs() <= none, slope, gained / rise)
    for_down = torch.where(fall.abs() <= none, slope, lost / fall)
    op.steep(for_up)
    op.steep(for_down)
    return _Apart.apply(up, down, [end], for_up, for_down)  # type: ignore[no-untyped-call,no-any-return]


def _dense(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Callable[[Tensor, Tensor], Tensor]]:
    """Operand, weight and the bare product of a linear operation: only what the operand enters on the left."""
    if op.name == "linear":
        given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        return given["input"], given["weight"], torch.nn.functional.linear
    if op.name == "addmm":
        given = dict(zip(("input", "mat1", "mat2"), args, strict=False)) | kwargs
        plain = given.get("alpha", 1) == 1 and given.get("beta", 1) == 1
        return (given["mat1"] if plain and live(given["mat1"]) else None), given["mat2"], torch.mm
    a, b = (*args, *kwargs.values())
    return (a if live(a) else None), b, torch.matmul
