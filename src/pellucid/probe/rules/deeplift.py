"""DeepLIFT: multipliers that carry the difference from a reference, operation by operation (Shrikumar, Greenside, Kundaje 2017).

Every rule gives multipliers m with ``sum of m_i (x_i - x0_i) = y - y0`` for its own operation. By the chain rule of the paper (equation 3)
their product then carries the whole difference of the score to the input, through any composition: linear operations by their weights,
elementwise functions by Rescale (``differences``), several operands at once by ``joint`` and ``norms``, maxima by ``maxima``; or by RevealCancel
(``cancel``). What has no such rule is refused by the guard.
"""

from __future__ import annotations

from typing import Literal

from pellucid.probe.rules.cancel import CONVOLUTIONS, DENSE, MOVES, Cancel
from pellucid.probe.rules.differences import CLOSED, CORNERED, SMOOTH, elementwise, power
from pellucid.probe.rules.joint import added_product, attention, divided, glu, halfway, logsumexp, product, several, softmax
from pellucid.probe.rules.maxima import higher, highest, pool
from pellucid.probe.rules.mode import Rule, Rules
from pellucid.probe.rules.norms import batch_norm, group_norm, instance_norm, layer_norm, own_statistics, rms_norm, spread, vector_norm
from pellucid.probe.rules.operation import Operation, live

Way = Literal["rescale", "reveal_cancel"]

PRODUCTS = "mul matmul rmatmul mm bmm baddbmm addbmm addmm addmv addr mv dot inner outer ger einsum linear bilinear lerp addcmul".split()
POOLS = [f"{kind}max_pool{d}d" for kind in ("", "adaptive_") for d in (1, 2, 3)]
SOFTMAX = "softmax log_softmax".split()
SPREAD = "var std var_mean std_mean".split()
NORMS: dict[str, Rule] = {
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "linalg_vector_norm": vector_norm,
    **dict.fromkeys(SPREAD, spread),
}


def deeplift(way: Way) -> Rules:
    """The table of one run."""
    functions = dict.fromkeys((*CORNERED, *SMOOTH, *CLOSED), elementwise)
    table: dict[str, Rule] = {
        **functions,
        "pow": power,
        **dict.fromkeys((*PRODUCTS, *CONVOLUTIONS), _if_several(halfway)),
        "mul": product,
        "addcmul": added_product,
        "div": divided,
        "glu": glu,
        **dict.fromkeys(SOFTMAX, softmax),
        "logsumexp": logsumexp,
        "scaled_dot_product_attention": attention,
        "batch_norm": batch_norm,
        **NORMS,
        **dict.fromkeys(POOLS, pool),
        **dict.fromkeys("max min amax amin".split(), highest),
        **dict.fromkeys("maximum minimum fmax fmin".split(), higher),
    }
    if way == "reveal_cancel":
        table |= _cancelling(table)
        return Rules("deeplift with reveal_cancel", table, paired=True, compares=_compares_cancelling)
    return Rules("deeplift", table, paired=True, compares=_compares)


def _cancelling(table: dict[str, Rule]) -> dict[str, Rule]:
    cancel = Cancel()
    products = cancel.refuse("a product of operands, for which RevealCancel is not defined")
    return {
        **dict.fromkeys((*CORNERED, *SMOOTH, *CLOSED), cancel.nonlinear()),
        "pow": cancel.refuse("a power, for which RevealCancel is not defined"),
        **dict.fromkeys(PRODUCTS, _if_several(products)),
        "div": _if_several(products),
        **dict.fromkeys(CONVOLUTIONS, cancel.convolved),
        **dict.fromkeys(DENSE, cancel.dense),
        **dict.fromkeys(MOVES, cancel.moved),
        "batch_norm": cancel.batch_norm,
        **dict.fromkeys("glu maximum minimum fmax fmin".split(), products),
        "scaled_dot_product_attention": products,
        **dict.fromkeys((*SOFTMAX, "logsumexp"), cancel.refuse("softmax, for which RevealCancel is not defined (explain a logit)")),
        **dict.fromkeys(NORMS, cancel.refuse("a norm of the input's own statistics, for which RevealCancel is not defined")),
    }


def _if_several(rule: Rule) -> Rule:
    """Linear as long as one operand alone depends on the image; the guard looks at that."""
    return lambda op, *args, **kwargs: rule(op, *args, **kwargs) if several(op) else NotImplemented


def _compares(op: Operation) -> bool:
    if op.name in PRODUCTS or op.name in CONVOLUTIONS:
        return several(op)
    if op.name == "div":
        return live(op.args[1] if len(op.args) > 1 else op.kwargs.get("other"))
    if op.name in ("batch_norm", "instance_norm"):
        return own_statistics(op)
    return True


def _compares_cancelling(op: Operation) -> bool:
    if op.name in DENSE:
        return True
    return op.name not in MOVES and op.name not in CONVOLUTIONS and _compares(op)
