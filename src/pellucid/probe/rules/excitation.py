"""Winner takes its share: how excitation backpropagation passes a probability down, operation by operation.

What flows back is not a gradient but the probability that a unit wins, with a sign: below zero, the unit wins by being *low*. Units that
feed a sum win in the shares of what they contributed in the right direction, ``max(sign * w * x, 0)``. With activations of at least 0
and no falling scale every sign is +, and this is the paper's rule; the signs carry it through norms with negative scale, through
subtraction, and past activations that fall below 0. Whatever only moves values moves their probability along (``MOVES``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pellucid.probe.rules.guard import Node, kind
from pellucid.probe.rules.mode import Rule, Rules
from pellucid.probe.rules.operation import Operation, live, tensors
from pellucid.probe.rules.winning import Part, Room, per, steps, won_back, won_by_rows, won_of

MOVES = frozenset(
    """Neg View UnsafeView ReshapeAlias AsStrided Alias Permute Transpose T Expand Squeeze Unsqueeze Slice Select Split SplitWithSizes
    Unbind Cat Stack Index IndexSelect Gather Clone Copy Copys CopySlices ToCopy UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D
    UpsampleNearestExact1D UpsampleNearestExact2D UpsampleNearestExact3D ConstantPadNd ReflectionPad1D ReflectionPad2D ReflectionPad3D
    ReplicationPad1D ReplicationPad2D ReplicationPad3D Roll Flip Repeat PixelShuffle PixelUnshuffle Im2Col Unfold SliceScatter
    SelectScatter IndexPut Diagonal Movedim Unflatten Narrow AccumulateGrad Max Amax Maximum Topk Sort MaxPool1D MaxPool2DWithIndices
    MaxPool3DWithIndices AdaptiveMaxPool1D AdaptiveMaxPool2D AdaptiveMaxPool3D""".split()
)
WITH_WEIGHT = "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d".split()
FORWARD = frozenset({"conv1d", "conv2d", "conv3d"})
PRODUCTS = "matmul rmatmul mm bmm mul rmul"
AVERAGES = """sum mean avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d upsample_linear1d
    upsample_bilinear2d upsample_trilinear3d""".split()
RISING = """relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish softplus hardswish hardsigmoid hardtanh sigmoid tanh threshold
    clamp clamp_min logsigmoid softsign exp expm1 log log1p sqrt""".split()
RECTIFIES = frozenset({"relu", "relu6", "clamp_min", "threshold"})
NORMS = "batch_norm layer_norm group_norm instance_norm rms_norm".split()
FEW = 8  # vectors: with more, a matrix product costs more than reading its weights
OF_TARGETS = "softmax log_softmax logsumexp pow square abs logit reciprocal rsub rdiv std var norm".split()


Direct = Callable[[Tensor, Tensor], Tensor]  # what units of at least 0 win of probabilities of at least 0, without a graph


class _Pass(torch.autograd.Function):
    """The operation's own value; who wins there wins here, upside down where ``sign`` is negative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, op: Operation, sign: Tensor | None) -> Tensor:
        ctx.save_for_backward(sign)
        ctx.rectified = op.name == "relu"
        if op.writes is not None and x is op.args[0]:
            ctx.mark_dirty(x)
            return op.write(x)
        y: Tensor = op.plain()
        return y

    @staticmethod
    def backward(ctx: Any, q: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (sign,) = ctx.saved_tensors
        return (q if sign is None else q * sign), None, None


class _Shares(torch.autograd.Function):
    """The operation's own value; on the way back each unit of x wins what it contributed; at ``top`` with negated weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, op: Operation, part: Part, top: Top | None, direct: Direct | None) -> Tensor:
        ctx.part, ctx.top, ctx.token, ctx.below = part, top, top.next() if top is not None else None, _below(op, x)
        ctx.kept, ctx.direct = op.mode.keep(x), direct
        y: Tensor = op.plain()
        return y

    @staticmethod
    def backward(ctx: Any, q: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if ctx.top is not None and ctx.token == ctx.top.last:
            ctx.top.through += float(q.abs().sum())
            q = -q
        x = ctx.kept.value
        alone = ctx.direct is not None and not ctx.below and float(q.min()) >= 0
        return (ctx.direct(q, x) if alone else won_of(q, x, ctx.part, ctx.below)), None, None, None, None


class _Sum(torch.autograd.Function):
    """a + sign * b of one shape."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, op: Operation, sign: int) -> Tensor:
        ctx.sign = sign
        ctx.kept = op.mode.keep(a), op.mode.keep(b)
        if op.writes is not None and a is op.args[0] and b is not a:
            ctx.mark_dirty(a)
            return op.write(a)
        y: Tensor = op.plain()
        return y

    @staticmethod
    def backward(ctx: Any, q: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        a, b = (k.value for k in ctx.kept)
        ways = (1,) if float(q.min()) >= 0 else (1, -1)
        for_a = for_b = torch.zeros(())
        for way in ways:
            flow = q if len(ways) == 1 else (q * way).clamp_min(0)
            up = a.clamp_min(0) if way > 0 else a.clamp_max(0)
            down = b.clamp_min(0) if way * ctx.sign > 0 else b.clamp_max(0)
            total = torch.add(up, down, alpha=ctx.sign)  # of the sign of way; so a and b carry their own
            flow = per(flow, total)
            for_a = for_a - up.mul_(flow) if way < 0 else up.mul_(flow)
            for_b = for_b - down.mul_(flow) if way < 0 else down.mul_(flow)
        return for_a, for_b, None, None


class Top:
    """The last operation with weights: the classifier, whose weights are negated; ``through`` is what went through it."""

    def __init__(self) -> None:
        self.last, self.through = 0, 0.0

    def next(self) -> int:
        self.last += 1
        return self.last


class _Prior(torch.autograd.Function):
    """Where the target begins: its slopes become probabilities of the network's outputs."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return g / g.abs().sum().clamp_min(torch.finfo(g.dtype).tiny)


def excitation(name: str, top: Top | None = None) -> Rules:
    """The table of excitation backpropagation; with ``top``, of its second pass: the classifier's weights negated."""
    room = Room()
    table: dict[str, Rule] = {
        **dict.fromkeys(WITH_WEIGHT, _weighted(top, room)),
        **dict.fromkeys(PRODUCTS.split(), _product(top)),
        "einsum": _einsum,
        **dict.fromkeys(AVERAGES, _averaged),
        **dict.fromkeys(RISING, _rising),
        **dict.fromkeys(NORMS, _norm),
        **dict.fromkeys(OF_TARGETS, _of_targets),
        "add": _added,
        "sub": _subtracted,
        "div": _divided,
        "softmax": _softmax,
        "scaled_dot_product_attention": _attention,
    }
    return Rules(name, {k: _unless_in_target(rule) for k, rule in table.items()}, _moves, seed=_Prior.apply)


def _moves(node: Node) -> bool:
    return kind(node) in MOVES or kind(node) == "_Prior"


def _unless_in_target(rule: Rule) -> Rule:
    """The target itself keeps its slopes: they are the prior of the network's outputs."""

    def either(op: Operation, *args: Any, **kwargs: Any) -> Any:
        return op.func(*args, **kwargs) if op.mode.in_target else rule(op, *args, **kwargs)

    return either


def _of_sign(weight: Tensor, sign: int) -> Tensor:
    return weight.clamp_min(0) if sign > 0 else weight.clamp_max(0)


def _below(op: Operation, x: Tensor) -> bool:
    """Whether some units are below 0, which no paper speaks of."""
    if _rectified(x.grad_fn):
        return False
    if found := float(x.detach().min()) < 0:
        op.caveat("the paper assumes activations of at least 0; units below 0 win by being low, in shares of what they contribute")
    return found


def _rectified(node: Node | None) -> bool:
    """Whether values come from a ReLU as they are, so that nobody need look for one below 0."""
    while node is not None and kind(node) in ("Clone", "Alias", "View", "UnsafeView", "MaxPool2DWithIndices", "MaxPool3DWithIndices"):
        node = node.next_functions[0][0]
    return bool(getattr(node, "rectified", False))


def _weighted(top: Top | None, room: Room) -> Rule:
    def rule(op: Operation, input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any) -> Any:
        if live(weight) or not live(input):
            return NotImplemented
        func, w = op.func, weight.detach()
        direct: Direct | None = None
        if op.name == "linear" and input.is_cpu and input.numel() <= FEW * input.shape[-1]:
            direct = lambda q, x: won_by_rows(q, x, w)  # noqa: E731
        elif op.name in FORWARD and not any(isinstance(v, str) for v in (*rest, *named.values())) and input.ndim == w.ndim:
            direct = lambda q, x: won_back(q, x, room.part(w, 1), *steps(w.ndim - 2, *rest, **named))  # noqa: E731
        part: Part = lambda x, s: func(x, room.part(w, s), None, *rest, **named)  # noqa: E731
        return _Shares.apply(input, op, part, top, direct)  # type: ignore[no-untyped-call]

    return rule


def _product(top: Top | None) -> Rule:
    def rule(op: Operation, input: Any, other: Any) -> Any:
        if op.name in ("mul", "rmul"):
            return _scaled(op, input, other)
        if live(input) == live(other):
            return NotImplemented
        x, w = (input, other) if live(input) else (other, input)
        first = x is input
        part: Part = lambda z, s: op.func(z, _of_sign(w, s)) if first else op.func(_of_sign(w, s), z)  # noqa: E731
        return _Shares.apply(x, op, part, top, None)  # type: ignore[no-untyped-call]

    return rule


def _einsum(op: Operation, equation: str, *operands: Any) -> Any:
    pair = list(tensors(operands))
    if len(pair) != 2 or live(pair[0]) == live(pair[1]):
        return NotImplemented
    first = live(pair[0])
    x, w = pair if first else pair[::-1]
    part: Part = lambda z, s: torch.einsum(equation, *((z, _of_sign(w, s)) if first else (_of_sign(w, s), z)))  # noqa: E731
    return _Shares.apply(x, op, part, None, None)  # type: ignore[no-untyped-call]


def _scaled(op: Operation, a: Any, b: Any) -> Any:
    """A factor that is given passes all to the other; of two that depend on the image each wins half."""
    if live(a) and live(b):
        op.caveat("of two factors that both depend on the image each wins half")
        halves = [0.5 * _Upside.apply(x.expand(_shape(op)), y.sign()) for x, y in ((a, b), (b, a))]  # type: ignore[no-untyped-call]
        return _Valued.apply(halves[0] + halves[1], op)  # type: ignore[no-untyped-call]
    x, w = (a, b) if live(a) else (b, a)
    sign = w.sign() if isinstance(w, Tensor) else torch.as_tensor(float(w > 0) - float(w < 0))
    return _Pass.apply(x.expand(_shape(op)), op, sign.to(x))  # type: ignore[no-untyped-call]


def _shape(op: Operation) -> torch.Size:
    return torch.broadcast_shapes(*(a.shape for a in op.args if isinstance(a, Tensor)))


class _Upside(torch.autograd.Function):
    """x, whose winnings are turned by a sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sign: Tensor) -> Tensor:
        ctx.save_for_backward(sign)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, q: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return q * ctx.saved_tensors[0], None


class _Valued(torch.autograd.Function):
    """The operation's own value in the place of ``x``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, op: Operation) -> Tensor:
        y: Tensor = op.plain()
        return y

    @staticmethod
    def backward(ctx: Any, q: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return q, None


def _averaged(op: Operation, input: Tensor, *args: Any, **named: Any) -> Any:
    return _Shares.apply(input, op, lambda x, s: op.func(x, *args, **named) if s > 0 else None, None, None)  # type: ignore[no-untyped-call]


def _rising(op: Operation, input: Tensor, *args: Any, **named: Any) -> Any:
    if op.name not in RECTIFIES:
        op.caveat(f"the paper knows ReLU only; {op.name} passes all to its operand")
    return _Pass.apply(input, op, None)  # type: ignore[no-untyped-call]


def _norm(op: Operation, input: Tensor, *args: Any, **named: Any) -> Any:
    """One to one, with the statistics as they are; a negative scale turns high into low."""
    at = {"layer_norm": 1, "rms_norm": 1, "group_norm": 1}.get(op.name, 0)
    weight = named.get("weight", args[at] if len(args) > at else None)
    trained = {"batch_norm": 4, "instance_norm": 4}.get(op.name)
    own = trained is None or bool(args[trained] if len(args) > trained else named.get("training", named.get("use_input_stats")))
    if own and op.name == "batch_norm":
        return NotImplemented
    if own:
        op.caveat(f"{op.name} passes all to its operand: its mean and variance are taken as given")
    if weight is None or bool((weight > 0).all()):
        return _Pass.apply(input, op, None)  # type: ignore[no-untyped-call]
    last = op.name in ("layer_norm", "rms_norm")
    sign = weight.sign() if last else weight.sign().view(1, -1, *[1] * (input.ndim - 2))
    return _Pass.apply(input, op, sign)  # type: ignore[no-untyped-call]


def _added(op: Operation, input: Any, other: Any, *, alpha: Any = 1) -> Any:
    return _summed(op, input, other, 1) if alpha == 1 else NotImplemented


def _subtracted(op: Operation, input: Any, other: Any, *, alpha: Any = 1) -> Any:
    return _summed(op, input, other, -1) if alpha == 1 else NotImplemented


def _summed(op: Operation, a: Any, b: Any, sign: int) -> Any:
    if live(a) and live(b):
        return _Sum.apply(*torch.broadcast_tensors(a, b), op, sign)  # type: ignore[no-untyped-call]
    return op.func(*op.args, **op.kwargs)


def _divided(op: Operation, input: Any, other: Any) -> Any:
    if not live(input):
        return NotImplemented
    if live(other):
        op.caveat("a divisor that depends on the image is taken as given")
    sign = other.detach().sign() if isinstance(other, Tensor) else torch.as_tensor(float(other > 0) - float(other < 0))
    return _Pass.apply(input.expand(_shape(op)), op, sign.to(input))  # type: ignore[no-untyped-call]


def _softmax(op: Operation, input: Tensor, *args: Any, **named: Any) -> Any:
    """Over the last of three or more dimensions it weighs values; elsewhere it ranks classes, each of which passes to its own logit."""
    dim = named.get("dim", args[0] if args else None)
    if input.ndim >= 3 and dim in (-1, input.ndim - 1):
        op.caveat("attention is taken as given: what wins is what it reads, not where it looks")
        return op.plain()
    return _Pass.apply(input, op, None)  # type: ignore[no-untyped-call]


def _attention(op: Operation, query: Tensor, key: Tensor, value: Tensor, *args: Any, **named: Any) -> Any:
    if not live(value):
        return NotImplemented
    op.caveat("attention is taken as given: what wins is what it reads, not where it looks")
    seen = [query.detach(), key.detach()]
    # linear in the values, with the weights of a mean
    return _Shares.apply(value, op, lambda v, s: op.func(*seen, v, *args, **named) if s > 0 else None, None, None)  # type: ignore[no-untyped-call]


def _of_targets(op: Operation, *_args: Any, **_named: Any) -> Any:
    return NotImplemented
