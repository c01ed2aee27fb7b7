"""The guard: after a forward pass under rules, every node of the graph was made by a rule or is linear by this list."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

Node = Any  # torch.autograd.graph.Node

# what moves, repeats, adds or averages values; constants may be added
LINEAR = frozenset(
    """Add Sub Rsub Neg View UnsafeView ReshapeAlias AsStrided Alias Permute Transpose T Expand Squeeze Unsqueeze Slice Select Split
    SplitWithSizes Unbind Cat Stack Index IndexSelect Gather Clone Copy Copys CopySlices ToCopy Mean Sum AvgPool1D AvgPool2D AvgPool3D
    AdaptiveAvgPool1D AdaptiveAvgPool2D AdaptiveAvgPool3D MkldnnAdaptiveAvgPool2D UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D
    UpsampleNearestExact1D UpsampleNearestExact2D UpsampleNearestExact3D UpsampleLinear1D UpsampleBilinear2D UpsampleBilinear2DAa
    UpsampleTrilinear3D UpsampleBicubic2D ConstantPadNd ReflectionPad1D ReflectionPad2D ReflectionPad3D ReplicationPad1D ReplicationPad2D
    ReplicationPad3D Roll Flip Repeat RepeatInterleave PixelShuffle PixelUnshuffle Im2Col Col2Im Unfold Cumsum Tril Triu MaskedFill Where
    SliceScatter SelectScatter IndexPut MaskedScatter Fill Zero Diagonal Movedim Unflatten Narrow AccumulateGrad""".split()
)
# linear in an operand as long as no other operand depends on the input
IN_ONE = frozenset(
    "Mul Div Convolution ConvolutionOverrideable MkldnnConvolution SlowConv3D ThnnConv2D Addmm Mm Bmm Baddbmm Dot Mv Linear MkldnnLinear "
    "GridSampler2D GridSampler3D Lerp Einsum Addcmul".split()
)
DIVISORS = frozenset({"Div"})  # live in the first operand only


def kind(node: Node) -> str:
    """``MulBackward0`` as ``Mul``."""
    return re.sub(r"Backward(s|\d*)$", "", node.name().rsplit("::", 1)[-1]).replace("torch::autograd::", "")


def linear(node: Node) -> bool:
    """Whether a node of the graph is linear (or adds constants) in all that depends on the input."""
    name = kind(node)
    if name in LINEAR:
        return True
    alive = [n is not None for n, _ in node.next_functions]
    if name in DIVISORS:
        return not any(alive[1:])
    return name in IN_ONE and sum(alive) == 1


def between(result: Node | None, operands: Iterable[Node]) -> set[Node]:
    """The nodes that a rule made: from its result back to its operands, without these."""
    stop = set(operands)
    made: set[Node] = set()
    todo = [result]
    while todo:
        node = todo.pop()
        if node is None or node in stop or node in made:
            continue
        made.add(node)
        todo += [n for n, _ in node.next_functions]
    return made


def unknown(score: Node | None, ruled: set[Node], allowed: Callable[[Node], bool]) -> list[Node]:
    """Nodes behind the score that no rule made and that are not allowed."""
    seen: set[Node] = set()
    found = []
    todo = [score]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node not in ruled and not allowed(node):
            found.append(node)
        todo += [n for n, _ in node.next_functions]
    return found
