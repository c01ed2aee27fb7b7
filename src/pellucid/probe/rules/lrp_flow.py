"""Relevance on its way back: one node of the graph per operation, whose gradient is relevance itself.

The seed turns the target's slopes g at the network's outputs into relevance z g; from there on, what autograd hands from operation to operation is
relevance: values that are only moved (views, concatenations, winners of a maximum) take theirs along, values that are used twice add up
both shares, and every other operation shares out by a rule. What ends in an operation and not in its operands (biases, added
constants, stabilizers) flows into a sink, so that it is summed operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import NoRule
from pellucid.probe.rules.guard import Node, kind
from pellucid.probe.rules.operation import Operation, tensors

Back = Callable[[Tensor, "Ended"], Sequence[Tensor | None]]
MOVES = frozenset(
    """View UnsafeView ReshapeAlias AsStrided Alias Permute Transpose T Expand Squeeze Unsqueeze Slice Select Split SplitWithSizes
    Unbind Cat Stack Index IndexSelect Gather Clone Copy Copys CopySlices ToCopy ReflectionPad1D ReflectionPad2D ReflectionPad3D
    ReplicationPad1D ReplicationPad2D ReplicationPad3D Roll Flip Repeat RepeatInterleave PixelShuffle PixelUnshuffle Im2Col Unfold Diagonal
    Movedim Unflatten Narrow SliceScatter SelectScatter UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D UpsampleNearestExact1D
    UpsampleNearestExact2D UpsampleNearestExact3D AccumulateGrad""".split()
)
# the winner takes all, equals share
WINNERS = frozenset(
    """Max Min Amax Amin Maximum Minimum MaxPool1D MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool1D AdaptiveMaxPool2D
    AdaptiveMaxPool3D Topk Sort Median Kthvalue""".split()
)
TURNOVER = "all, in absolute values"  # what ends in each operation, without its sign
SAME = frozenset({"Clone", "Alias", "Copy", "Copys", "ToCopy"})  # one value, one place


def carries(node: Node) -> bool:
    """Whether a node that no rule made hands relevance on as it is."""
    return kind(node) in MOVES or kind(node) in WINNERS or isinstance(node, _Seed._backward_cls)


@dataclass(eq=False)
class Ended:
    """What ends in one operation, by reason, in float64."""

    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, why: str, amount: Tensor) -> None:
        wide = amount.to(torch.float64)
        self.sums[why] = self.sums[why] + wide if why in self.sums else wide


class _Flow(torch.autograd.Function):
    """Forward the operation's own values; backward relevance to its operands and to its sinks."""

    @staticmethod
    def forward(ctx: Any, made: Made, *_given: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.made = made
        value, made.value = made.value, None
        if isinstance(value, Tensor):
            return value
        assert value is not None
        ctx.mark_dirty(_given[0])
        return value.write(_given[0])

    @staticmethod
    def backward(ctx: Any, relevance: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        made: Made = ctx.made
        if relevance is None:
            return (None,) * (1 + made.operands + len(made.sinks))
        ended = Ended()
        shares = made.back(relevance, ended)
        zero = torch.zeros((), dtype=torch.float64, device=relevance.device)
        if made.sinks:
            ended.sums[TURNOVER] = sum((s.abs() for s in ended.sums.values()), zero)
        return None, *shares, *(ended.sums.get(why, zero) for why in made.sinks)


def _over(_relevance: Tensor, _ended: Any) -> list[Tensor | None]:
    raise RuntimeError("this pass is over")


@dataclass(eq=False)
class Made:
    """One operation as its rule made it: values, the way back, and what later operations may ask of it."""

    value: Tensor | Operation | None  # an operation: it writes into its first operand
    back: Back
    operands: int
    sinks: tuple[str, ...]
    label: str
    linear: Any = None  # of convolutions: what a following BatchNorm merges with
    bounds: tuple[Tensor, Tensor] | None = None  # of a padded image: its lowest and highest values, beside it the padding's own

    def end(self) -> None:
        """Let go of the operands: one that was written over leads back to here, by ways that no collector sees."""
        self.back = _over
        self.value = self.linear = self.bounds = None


def flow(
    op: Operation,
    value: Tensor | None,
    operands: Sequence[Tensor],
    back: Back,
    sinks: tuple[str, ...] = (),
    label: str = "",
    linear: Any = None,
) -> Tensor:
    """``value`` (None: the operation's own, into the first operand where it does that) as a tensor whose relevance goes back to ``operands`` (and into sinks) as ``back`` says."""
    sinks = (*sinks, TURNOVER) if sinks else ()
    given: Tensor | Operation | None = value
    if given is None:
        once = op.writes is not None and [o is op.args[0] for o in operands].count(True) == 1 and operands[0] is op.args[0]
        given = op if once else op.plain()
    made = Made(given, back, len(operands), sinks, label or op.name, linear)
    op.mode.endings.append(made.end)
    leaves = [op.mode.sink(why, operands[0].device) for why in sinks]
    out: Tensor = _Flow.apply(made, *operands, *leaves)  # type: ignore[no-untyped-call]
    return out


def passed(op: Operation, operand: Tensor, label: str = "") -> Tensor:
    """The only operand takes all."""
    shape = operand.shape
    return flow(op, None, [operand], lambda r, _: [fitted(r, shape)], label=label)


def fitted(relevance: Tensor, shape: torch.Size) -> Tensor:
    """Relevance of a value that was spread by broadcasting, summed where it was spread."""
    return relevance if relevance.shape == shape else relevance.sum_to_size(shape)


def quotient(relevance: Tensor, z: Tensor, stabilizer: float, ended: Ended, sign: int = 0) -> Tensor:
    """R / (z + stabilizer sign(z)), sign(0) = 1; without a stabilizer, what is shared out of z = 0 is lost. ``z`` is used up.

    ``sign``: of all z, where it is known, which saves a pass over memory; at z = 0 both signs leave the same to the stabilizer.
    """
    if stabilizer and sign:
        end = sign * stabilizer  # convolutions by Winograd's way give sums of nothing but positive terms that are a little below 0
        z = z.add_(end).clamp_(min=end) if sign > 0 else z.add_(end).clamp_(max=end)
        q = torch.div(relevance, z, out=z)
        ended.add("stabilizers", q.sum(dtype=torch.float64) * end)
        return q
    if stabilizer:
        size = torch.full((), stabilizer, dtype=z.dtype, device=z.device).copysign(z)
        q = torch.div(relevance, z.add_(size), out=z)
        ended.add("stabilizers", torch.dot(size.reshape(-1), q.reshape(-1)))
        return q
    empty = z == 0
    ended.add("stabilizers", relevance.masked_fill(~empty, 0).sum())
    return (relevance / z.masked_fill_(empty, 1)).masked_fill_(empty, 0)


def times(a: Tensor, slope: Tensor, q: Tensor) -> Tensor:
    """a times a slope, in the slope's own memory where it has one."""
    own = slope.is_contiguous() and slope.data_ptr() != q.data_ptr() and slope.shape == a.shape
    return slope.mul_(a) if own else a * slope


# ---------------------------------------------------------------------------- what an operand is
def made_of(node: Node | None) -> Made | None:
    """The rule's record behind a node, copies seen through."""
    while node is not None:
        made: Made | None = getattr(node, "made", None)
        if made is not None:
            return made
        if kind(node) not in SAME:
            return None
        node = _parents(node)[-1] if _parents(node) else None
    return None


def is_gate(t: Tensor) -> bool:
    """Whether an operand weights others: the output of a softmax or sigmoid, or the reciprocal of a size, moved and shifted as it may be."""
    node, shifted = t.grad_fn, False
    while node is not None:
        made: Made | None = getattr(node, "made", None)
        name = kind(node) if made is None else made.label
        if name in ("Softmax", "SafeSoftmax", "sigmoid", "hardsigmoid", "rsqrt", "reciprocal") or (shifted and name in ("erf", "tanh")):
            return True
        if made is not None and name not in ("shifted", "scaled"):
            return False
        if made is None and name not in MOVES:
            return False
        shifted = shifted or name == "shifted"
        parents = _parents(node)
        node = parents[-1] if len(parents) == 1 or name in SAME else None
    return False


def distance_to_leaf(t: Tensor) -> int | None:
    """How what is explained reaches an operand: 0 as it is, 1 moved, 2 shifted or scaled by constants, None by other operations."""
    seen: set[Node] = set()
    todo, far = [t.grad_fn], 0
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        made: Made | None = getattr(node, "made", None)
        if made is not None:
            if made.label not in ("shifted", "scaled", "padded", "cat"):
                return None
            far = 2
        elif kind(node) not in MOVES:
            return None
        elif kind(node) not in SAME and kind(node) != "AccumulateGrad":
            far = max(far, 1)
        todo += _parents(node)
    return far


def _parents(node: Node) -> list[Node]:
    made: Made | None = getattr(node, "made", None)
    edges = [n for n, _ in node.next_functions]
    if made is not None:
        edges = edges[: made.operands]  # the rest are sinks
    return [n for n in edges if n is not None]


# ---------------------------------------------------------------------------- the target
class _Seed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        kept = z.clone()
        ctx.save_for_backward(kept)
        return z.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        (z,) = ctx.saved_tensors
        return slope * z


def seed(z: Tensor) -> Tensor:
    """Between the outputs and the target: slopes become relevance."""
    if not z.is_floating_point() or not z.requires_grad:
        return z
    with torch._C.DisableTorchFunction():  # the mode would take its copies for values hidden from autograd
        out: Tensor = _Seed.apply(z)  # type: ignore[no-untyped-call]
    return out


IN_TARGETS = frozenset("add sub rsub neg mean sum cat stack".split())
PRODUCTS_IN_TARGETS = frozenset("mul div matmul mm bmm mv dot linear einsum".split())  # with one operand that depends on the outputs


def in_target(op: Operation) -> Any:
    """Targets are linear and keep their slopes; constants that they add are counted."""
    alive = [t for t in tensors((op.args, op.kwargs)) if t.requires_grad]
    product = op.name in PRODUCTS_IN_TARGETS and len(alive) == 1 and not (op.name == "div" and op.args[0] is not alive[0])
    if op.name not in IN_TARGETS and not product:
        raise NoRule(
            f"a target that {op.mode.rules.name} can share out: linear in the network's outputs",
            f"{op.name} in the target",
            "Ask for logit(k), a difference of logits, or region(k, of='logit'); explain a net that ends in a softmax or sigmoid without it.",
        )
    args = op.args
    if op.name in ("add", "sub", "rsub") and len(alive) == 1:
        like = alive[0]
        args = tuple(a if a is like else op.absorb(torch.as_tensor(a).to(like), "constants of the target") for a in args)
    return op.func(*args, **op.kwargs)
