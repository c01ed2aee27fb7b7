"""Layer-wise relevance propagation: the table of all operations, for LRP's composites and for deep Taylor."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor

from pellucid.probe.rules.lrp_composites import Composite, Rule
from pellucid.probe.rules.lrp_flow import IN_TARGETS, PRODUCTS_IN_TARGETS, carries, in_target, seed
from pellucid.probe.rules.lrp_linear import STABILIZER, LinearRules
from pellucid.probe.rules.lrp_norms import ACTIVATIONS, OTHERS, NormRules
from pellucid.probe.rules.lrp_products import MixRules
from pellucid.probe.rules.mode import Rule as Call
from pellucid.probe.rules.mode import Rules
from pellucid.probe.rules.operation import Operation

CONVOLUTIONS = "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution".split()
MEANS = """mean sum nansum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    _adaptive_avg_pool2d _adaptive_avg_pool3d upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa upsample_trilinear3d
    upsample_bicubic2d _upsample_bicubic2d_aa cumsum col2im grid_sampler grid_sampler_2d grid_sampler_3d trace""".split()


def relevance_rules(name: str, composite: Composite, mixing: Rule, bounds: tuple[Tensor, Tensor] | None, *, apart: bool = False) -> Rules:
    """The table. ``mixing``: the rule of what has no weights; ``bounds``: lowest and highest normalized image; ``apart``: see ``NormRules``."""
    linear = LinearRules(composite.choose, bounds)
    mix, norm = MixRules(mixing, linear), NormRules(linear, apart)
    table: dict[str, Callable[..., Any]] = {
        **dict.fromkeys(CONVOLUTIONS, linear.convolution),
        "linear": linear.dense,
        **dict.fromkeys(MEANS, mix.mixed),
        **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), mix.matmul),
        **dict.fromkeys(("addmm", "baddbmm"), mix.addmm),
        **{n: getattr(mix, n) for n in ("add", "sub", "rsub", "mul", "div", "rdiv", "einsum", "glu", "pad", "cat")},
        "stack": mix.cat,
        "where": mix.chosen,
        **dict.fromkeys("min amin minimum fmin median nanmedian kthvalue sort topk".split(), mix.picked),
        "masked_fill": mix.masked_fill,
        "__setitem__": mix.written,
        "constant_pad_nd": mix.constant_pad,
        "scaled_dot_product_attention": mix.attention,
        "batch_norm": norm.batch_norm,
        "instance_norm": norm.instance_norm,
        **dict.fromkeys(("layer_norm", "group_norm", "rms_norm"), norm.of_its_own),
        **dict.fromkeys(ACTIVATIONS, norm.activation),
        **dict.fromkeys(OTHERS, norm.other),
        **dict.fromkeys(("softmax", "log_softmax"), _plainly),
    }
    return Rules(name, {n: _outside_of_targets(rule) for n, rule in table.items()}, allowed=carries, normalized=True, seed=seed)


def _plainly(op: Operation, *_args: Any, **_kwargs: Any) -> Any:
    """A softmax weights others (then nothing flows back through it); where relevance does reach it, the guard refuses its node."""
    return NotImplemented


def _outside_of_targets(rule: Call) -> Call:
    @wraps(rule)
    def ruled(op: Operation, *args: Any, **kwargs: Any) -> Any:
        return in_target(op) if op.mode.in_target else rule(op, *args, **kwargs)

    return ruled


__all__ = ["IN_TARGETS", "PRODUCTS_IN_TARGETS", "STABILIZER", "Composite", "Rule", "relevance_rules"]
