"""Patterns: what the signal that a filter detects looks like, learnt from data; and the backward pass with patterns for weights.

For a linear operation ``y = w x`` (bias apart) the pattern of an output is ``a = cov(x, y) / (w cov(x, y))`` with
``cov = E+[x y] - E+[x] E[y]``: x and xy over the positions where the rectifier that follows is active (all, if none follows), y over all.
A norm with fixed statistics between the two counts as merged into the operation. All sums stream, in float64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from pellucid.errors import BadParameter
from pellucid.image import digest
from pellucid.probe.rules.gates import DEFINED, RECTIFIERS
from pellucid.probe.rules.guard import LINEAR, Node, kind
from pellucid.probe.rules.mode import Rule, Rules
from pellucid.probe.rules.operation import Operation, live

WEIGHTED = "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d".split()
ROUTED = frozenset(
    "MaxPool1D MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool1D AdaptiveMaxPool2D AdaptiveMaxPool3D Max Amax".split()
)


@dataclass(frozen=True, eq=False)
class Patterns:
    """The patterns of a network's weighted operations (module, operation and its turn there), fitted on a number of images."""

    of: Mapping[str, Tensor]
    images: int

    @property
    def fingerprint(self) -> str:
        return digest(*(part for name, a in sorted(self.of.items()) for part in (name, a)))

    def __repr__(self) -> str:
        return f"<patterns of {self.images} images, {self.fingerprint[:12]}>"

    def at(self, name: str, op: Operation, weight: Tensor) -> Tensor:
        """The pattern of an operation with these weights.

        Raises:
            BadParameter: fitted on another network, or on other weights.
        """
        a, fix = self.of.get(name), "Fit them on this network: pl.patterns(net, images)."
        if a is None or a.shape != weight.shape:
            raise BadParameter("patterns of this network", f"none for {op} of shape {tuple(weight.shape)}", fix)
        along = _per_output(a.double() * weight.double(), op)
        size = _per_output((a.double() * weight.double()).abs(), op)
        if not bool(((along - 1).abs() < 1e-3 + 1e-6 * size).logical_or(size == 0).all()):
            raise BadParameter("patterns of this network", f"other weights of {op} than those they were fitted on", fix)
        return a.to(weight)


def _per_output(values: Tensor, op: Operation) -> Tensor:
    """Sums over all but the dimension of the outputs."""
    out = 1 if "transpose" in op.name else 0
    return values.sum([d for d in range(values.ndim) if d != out])


AT_ONCE = 2**16  # weights whose pattern is worked out at once


@dataclass(eq=False)
class _Sums:
    """Of one operation: how often each output was active, x and xy where it was, y everywhere."""

    active: Tensor | float = 0.0
    x: Tensor | float = 0.0
    xy: Tensor | float = 0.0
    y: Tensor | float = 0.0
    positions: int = 0
    out: int = 0
    weight: Tensor | None = None

    def pattern(self) -> Tensor:
        assert isinstance(self.xy, Tensor)
        assert isinstance(self.active, Tensor)
        assert isinstance(self.y, Tensor)
        assert self.weight is not None
        assert isinstance(self.x, Tensor)
        found = torch.empty_like(self.weight)
        outputs = self.xy.shape[self.out]
        each = max(1, AT_ONCE // max(1, self.xy.numel() // outputs))
        for k in range(0, outputs, each):
            part = min(each, outputs - k)
            one = [t.narrow(self.out, k, part) for t in (self.xy, self.x, self.weight, found)]
            _pattern(one[0], one[1], self.y[k : k + part] / self.positions, self.active[k : k + part], one[2], one[3], self.out)
        return found


def _pattern(xy: Tensor, x: Tensor, y: Tensor, active: Tensor, weight: Tensor, into: Tensor, out: int) -> None:
    """Patterns of some outputs: so few at once that they stay in the cache."""
    shape = [-1 if d == out else 1 for d in range(xy.ndim)]
    n = active.clamp_min(1).view(shape)
    cov = xy / n - (x / n) * y.view(shape)
    along = weight.double() * cov
    others = [d for d in range(cov.ndim) if d != out]
    scale, along = along.abs().sum(others, keepdim=True), along.sum(others, keepdim=True)
    into.copy_(torch.where(along.abs() > 1e-9 * scale, cov / along, 0))  # an output that never varies has no pattern


@dataclass(eq=False)
class _Pending:
    """A weighted operation whose rectifier has not been met yet."""

    name: str
    linear: Callable[[Tensor], Tensor]  # of the weights
    weight: Tensor
    y: Tensor  # (n, outputs, ...) or (..., outputs), bias apart
    last: bool


class Fit:
    """Collects sums while images pass through the network; ``done`` makes patterns of them."""

    def __init__(self) -> None:
        self.sums: dict[str, _Sums] = {}
        self.images = 0
        self._turns: Counter[str] = Counter()
        self._waiting = WeakIdKeyDictionary()
        self._left: dict[str, _Pending] = {}

    def rules(self) -> Rules:
        """A table that only looks; one for each image."""
        self._turns.clear()
        table: dict[str, Rule] = {
            **dict.fromkeys(WEIGHTED, self._weighted),
            **dict.fromkeys(RECTIFIERS, self._rectified),
            "batch_norm": self._normed,
        }
        return Rules("patterns", table, lambda _node: True)

    def end(self) -> None:
        """The image has passed: operations that no rectifier follows are active everywhere."""
        for waiting in self._left.values():
            self._count(waiting, torch.ones_like(waiting.y))
        self._left.clear()
        self._waiting.clear()
        self.images += 1

    def done(self) -> Patterns:
        return Patterns(MappingProxyType({name: self.sums.pop(name).pattern() for name in list(self.sums)}), self.images)

    def _weighted(self, op: Operation, input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any) -> Any:
        y = op.func(input, weight, bias, *rest, **named)
        if live(weight) or op.mode.in_target:
            return y
        x = input.detach()
        last = op.name == "linear"
        plain = y.detach() if bias is None else y.detach() - (bias if last else bias.view(-1, *[1] * (y.ndim - 2)))
        name = turn(self._turns, op)
        self._left[name] = _Pending(name, lambda w: op.func(x, w, None, *rest, **named), weight.detach(), plain, last)
        self._waiting[y] = name
        return y

    def _normed(self, op: Operation, input: Tensor, *args: Any, **named: Any) -> Any:
        y = op.func(input, *args, **named)
        if input in self._waiting:
            self._waiting[y] = self._waiting[input]
        return y

    def _rectified(self, op: Operation, input: Tensor, *args: Any, **named: Any) -> Any:
        y = op.func(input, *args, **named)
        waiting = self._left.pop(self._waiting.get(input, ""), None)
        if waiting is not None:
            self._count(waiting, (y.detach() > 0).to(waiting.y))
        return y

    def _count(self, one: _Pending, active: Tensor) -> None:
        out = one.y.ndim - 1 if one.last else 1
        rest = [d for d in range(one.y.ndim) if d != out]
        with torch.enable_grad():
            w = one.weight.clone().requires_grad_()
            y = one.linear(w)  # its derivative by a weight sums what that weight is multiplied with
            (xy,) = torch.autograd.grad(y, w, active * one.y, retain_graph=True)
            (x,) = torch.autograd.grad(y, w, active)
        s = self.sums.setdefault(one.name, _Sums())
        s.x, s.xy = _added(s.x, x), _added(s.xy, xy)
        s.active, s.y = _added(s.active, active.sum(rest)), _added(s.y, one.y.double().sum(rest))
        s.positions += one.y.numel() // one.y.shape[out]
        s.weight, s.out = one.weight, int("transpose" in one.name)


def _added(total: Tensor | float, more: Tensor) -> Tensor:
    return total.add_(more) if isinstance(total, Tensor) else more.double()


def turn(turns: Counter[str], op: Operation) -> str:
    """The operation's name in its module, and how often it has run there."""
    name = f"{op.where}:{op.name}"
    turns[name] += 1
    return f"{name}#{turns[name] - 1}"


class _Linear(torch.autograd.Function):
    """The operation's own value; backward the linear map with other weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, op: Operation, back: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.back, ctx.shape = back, x.shape
        y: Tensor = op.plain()
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        with torch.enable_grad():
            x = g.new_zeros(ctx.shape).requires_grad_()
            (found,) = torch.autograd.grad(ctx.back(x), x, g)
        return found, None, None


class _Scaled(torch.autograd.Function):
    """The operation's own value; backward a factor (None: 1), or a rectifier's gate."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, op: Operation, factor: Tensor | None, gate: bool) -> Tensor:
        y: Tensor = op.plain()
        ctx.save_for_backward(y > 0 if gate else factor)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (factor,) = ctx.saved_tensors
        return (g if factor is None else g * factor), None, None, None


def with_patterns(name: str, patterns: Patterns, *, times_weights: bool) -> Rules:
    """The table: patterns (PatternNet), or patterns times weights (PatternAttribution), take the place of weights on the way back."""
    turns: Counter[str] = Counter()

    def weighted(op: Operation, input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any) -> Any:
        if live(weight):
            return NotImplemented
        if op.mode.in_target:
            return op.func(*op.args, **op.kwargs)
        a = patterns.at(turn(turns, op), op, weight)
        a = a * weight if times_weights else a
        return _Linear.apply(input, op, lambda x: op.func(x, a, None, *rest, **named))  # type: ignore[no-untyped-call]

    def scaled(op: Operation, input: Any, other: Any, **named: Any) -> Any:
        """One weight each: its pattern is its inverse."""
        if op.mode.in_target:
            return op.func(*op.args, **op.kwargs)
        if live(input) == live(other) or (op.name == "div" and not live(input)) or named:
            return NotImplemented
        x, c = (input, other) if live(input) else (other, input)
        c = c.detach().to(x) if isinstance(c, Tensor) else torch.as_tensor(float(c)).to(x)
        shape = torch.broadcast_shapes(x.shape, c.shape)
        factor = None if times_weights else c if op.name == "div" else torch.where(c == 0, 0, 1 / c)
        return _Scaled.apply(x.expand(shape), op, factor, False)  # type: ignore[no-untyped-call]

    def normed(
        op: Operation, input: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: Any, momentum: Any, eps: Any, *_rest: Any
    ) -> Any:
        if training or mean is None:
            return NotImplemented
        slope = (1 if weight is None else weight) / torch.sqrt(var + eps)
        factor = None if times_weights else torch.where(slope == 0, 0, 1 / slope).view(1, -1, *[1] * (input.ndim - 2))
        return _Scaled.apply(input, op, factor, False)  # type: ignore[no-untyped-call]

    def rectified(op: Operation, input: Tensor, *args: Any, **named: Any) -> Any:
        if op.mode.in_target:
            return op.func(*op.args, **op.kwargs)
        if op.name not in DEFINED:
            op.caveat(f"the paper knows ReLU only; {op.name} is treated as one: open where its value is above 0")
        return _Scaled.apply(input, op, None, True)  # type: ignore[no-untyped-call]

    table: dict[str, Rule] = {
        **dict.fromkeys(WEIGHTED, weighted),
        **dict.fromkeys(RECTIFIERS, rectified),
        **dict.fromkeys(("mul", "rmul", "div"), scaled),
        "batch_norm": normed,
    }
    return Rules(name, table, _allowed)


def _allowed(node: Node) -> bool:
    return kind(node) in LINEAR or kind(node) in ROUTED
