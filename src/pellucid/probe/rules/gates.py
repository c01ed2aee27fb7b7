"""Rectifiers on the way back: the rules of guided backpropagation and of the deconvolutional network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pellucid.probe.rules.guard import Node, kind, linear
from pellucid.probe.rules.mode import Rule, Rules
from pellucid.probe.rules.operation import Operation

RECTIFIERS = "relu relu6 leaky_relu rrelu prelu elu selu celu gelu silu mish softplus hardswish hardtanh threshold clamp clamp_min".split()
DEFINED = frozenset({"relu", "threshold", "clamp_min"})  # what the papers speak of
# smooth operations that keep their own gradient: the papers change rectifiers only
SMOOTH = frozenset(
    """Mul Div Reciprocal Sigmoid Tanh Softmax LogSoftmax Softmax LogSumExp Logsumexp Hardsigmoid Exp Log Pow Sqrt Rsqrt Square Abs Norm
    LinalgVectorNorm Std Var StdMean VarMean Max Amax Maximum MaxPool1D MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool1D
    AdaptiveMaxPool2D AdaptiveMaxPool3D NativeBatchNorm CudnnBatchNorm MiopenBatchNorm NativeLayerNorm NativeGroupNorm Mm Bmm Baddbmm Addmm
    Convolution Prod Cos Sin ScaledDotProductFlashAttentionForCpu ScaledDotProductFlashAttention ScaledDotProductEfficientAttention
    ScaledDotProductFusedAttentionOverrideable SafeSoftmax Topk Sort""".split()
)


class _Gate(torch.autograd.Function):
    """Forward the activation's own value; backward positive gradients only, through active units only if ``own`` is set."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, op: Operation, own: bool) -> Tensor:
        ctx.value = own and op.name == "relu"
        through: Tensor | None
        if own and op.name not in DEFINED:
            y, through = _value_and_slope(op, z)
        else:
            if op.writes is not None:
                ctx.mark_dirty(z)
            y = op.plain() if op.writes is None else op.write(z)
            # a tensor of its own, so that who writes into z or y later does not reach it; after a relu autograd itself forbids that
            through = None if not own else y if ctx.value else y > 0
        ctx.save_for_backward(through)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (through,) = ctx.saved_tensors
        if ctx.value:
            return torch.ops.aten.threshold_backward(g, through, 0).clamp_min_(0), None, None
        return (g.clamp_min(0) if through is None else g.clamp_min(0).mul_(through)), None, None


def _value_and_slope(op: Operation, z: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        rest = [a.detach() if isinstance(a, Tensor) else a for a in op.args[1:]]
        y = op.func(leaf, *rest, **op.kwargs)
        (slope,) = torch.autograd.grad(y.sum(), leaf)
    y = y.detach()
    return y, slope.mul_(y > 0)


def gates(name: str, *, own_slope: bool) -> Rules:
    """The table: only positive gradients pass a rectifier; with ``own_slope`` only where it is active, times its slope there."""

    def rectifier(op: Operation, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        if op.name == "clamp" and not _from_below(*args, **kwargs):
            return NotImplemented
        if op.name not in DEFINED:
            op.caveat(f"the paper knows ReLU only; {op.name} is treated as one: active where its value is above 0, with its own slope")
        return _Gate.apply(input, op, own_slope)  # type: ignore[no-untyped-call]

    table: dict[str, Rule] = dict.fromkeys(RECTIFIERS, rectifier)
    return Rules(name, table, allowed=_allowed)


def _from_below(min: Any = None, max: Any = None) -> bool:
    """Whether a clamp rectifies: limits from below at 0."""
    return isinstance(min, (int, float)) and min == 0


def _allowed(node: Node) -> bool:
    return linear(node) or kind(node) in SMOOTH
