"""Norms, and functions of single values.

A BatchNorm in evaluation is affine, y = s x + t. Directly behind a convolution or linear layer it becomes one operation with it, exactly: weights
s w and bias s b + t (as zennit's canonizers do, for every network and spelling). Elsewhere (before a convolution, behind a concatenation
or a sum, as in DenseNet) it is a convolution with one weight per channel, under the rule of the convolutions there (z_plus for alpha_beta): its
shift takes the share that the rule gives to biases.

Norms with statistics of the input itself (LayerNorm, GroupNorm, InstanceNorm, RMSNorm, LocalResponseNorm by its quotient) hand relevance through
unchanged, value by value. Achtibat et al. 2024 (proposition 3.4) derive this for LayerNorm and RMSNorm of transformers; the others differ only
in which values share their statistics. Every other choice shares out to means and deviations that belong to all values.

Functions of single values have one operand, and it takes all. Bach et al. 2015 ask of such a function that it rises and maps 0 to 0 (ReLU, tanh):
then what speaks for the sum before it speaks for its value. For others the same holds only in the sum, so the map says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.probe.rules.lrp_composites import Rule
from pellucid.probe.rules.lrp_flow import Ended, flow, passed, quotient
from pellucid.probe.rules.lrp_linear import STABILIZER, LinearRules, before, dot, out_of, shared
from pellucid.probe.rules.operation import Operation, live, tensors

ACTIVATIONS = frozenset(
    """relu relu6 leaky_relu rrelu prelu elu selu celu gelu silu mish softplus hardswish hardtanh threshold clamp_min sigmoid
    hardsigmoid tanh softsign tanhshrink hardshrink softshrink log_sigmoid logsigmoid clamp neg""".split()
)
# these rise and map 0 to 0
DEFINED = frozenset("""relu relu6 leaky_relu rrelu prelu elu selu celu tanh softsign tanhshrink hardshrink softshrink neg""".split())
LIMITS = frozenset({"hardtanh", "threshold", "clamp_min", "clamp"})  # by their limits
PROPOSED = frozenset({"LayerNorm", "RMSNorm"})
OTHERS = frozenset("exp expm1 exp2 log log1p log2 sqrt rsqrt reciprocal abs square pow erf sin cos atan sinh asinh clamp_max".split())


@dataclass(frozen=True, eq=False)
class NormRules:
    """``apart``: whether a BatchNorm that stands alone hands relevance through (deep Taylor) instead of sharing it with its shift."""

    linear: LinearRules
    apart: bool = False

    def batch_norm(
        self, op: Operation, input: Tensor, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, momentum: Any,
        eps: float, cudnn_enabled: bool = True,
    ) -> Any:  # fmt: skip
        if training or running_mean is None:
            return self._own(op, input, "BatchNorm by the image's own statistics")
        return self._affine(op, input, weight, bias, running_mean, running_var, eps)

    def instance_norm(
        self, op: Operation, input: Tensor, weight: Any, bias: Any, running_mean: Any, running_var: Any, use_input_stats: bool,
        momentum: Any, eps: float, cudnn_enabled: bool = True,
    ) -> Any:  # fmt: skip
        if use_input_stats or running_mean is None:
            return self._own(op, input, "InstanceNorm")
        return self._affine(op, input, weight, bias, running_mean, running_var, eps)

    def of_its_own(self, op: Operation, input: Tensor, *rest: Any, **more: Any) -> Any:
        names = {"layer_norm": "LayerNorm", "group_norm": "GroupNorm", "rms_norm": "RMSNorm"}
        return NotImplemented if any(map(live, tensors((rest, more)))) else self._own(op, input, names[op.name])

    def _own(self, op: Operation, input: Tensor, name: str) -> Tensor:
        paper = (
            "derived for transformers by Achtibat et al. 2024" if name in PROPOSED else "Achtibat et al. 2024 derive it for LayerNorm only"
        )
        op.caveat(f"{name} hands relevance through unchanged, value by value; its mean, deviation, scale and shift take nothing ({paper})")
        return passed(op, input, "norm")

    def _affine(self, op: Operation, input: Tensor, weight: Any, bias: Any, mean: Tensor, variance: Tensor, eps: float) -> Any:
        if any(live(t) for t in (weight, bias, mean, variance)) or not live(input):
            return NotImplemented
        scale = torch.rsqrt(variance.detach() + eps) * (1.0 if weight is None else weight.detach())
        shift = (0.0 if bias is None else bias.detach()) - mean.detach() * scale
        known = before(input)
        if known is not None:
            y: Tensor = op.plain()
            merged = known.merged(op, scale, shift, y)
            op.behind.append(known.live)
            return out_of(op, merged, y)
        if self.apart:
            return passed(op, input, "norm")
        op.caveat("a BatchNorm that follows no convolution or linear layer is a convolution with one weight per channel, with its rule")
        wide = (-1, *[1] * (input.ndim - 2))
        rule, bounds = self.linear.rule(op, "convolution", input)
        if rule.name == "alpha_beta":  # of one product and one shift mostly nothing is negative: beta would be lost, alpha double
            rule = Rule("z_plus")
        s, t = scale.view(wide), shift.view(wide)
        if rule.name not in ("zero", "epsilon", "z_plus"):
            return shared(op, rule, input, lambda x, w: x * w if w is not None else x, s, t, bounds)
        kept, t = op.mode.keep(input), t.clamp(min=0) if rule.name == "z_plus" else t

        def back(relevance: Tensor, ended: Ended) -> list[Tensor]:
            c = kept.value * s
            if rule.name == "z_plus":
                c.clamp_(min=0)
            plus = rule.name == "z_plus"
            q = quotient(relevance, c + t, STABILIZER if plus else rule.epsilon, ended, int(plus))
            op.steep(q)
            ended.add("biases", dot(t, q))
            return [c.mul_(q)]

        return flow(op, op.plain(), [input], back, ("stabilizers", "biases"), "linear")

    # ------------------------------------------------------------------ single values
    def activation(self, op: Operation, input: Tensor, *rest: Any, **more: Any) -> Any:
        if any(t.requires_grad for t in tensors((rest, more))) or not live(input):
            return NotImplemented
        if op.name not in DEFINED and not (op.name in LIMITS and _keeps_zero(op, input, rest, more)):
            op.caveat(f"{op.name} hands relevance through unchanged; Bach et al. 2015 define this for functions that rise and map 0 to 0")
        return passed(op, input)

    def other(self, op: Operation, input: Tensor, *rest: Any, **more: Any) -> Any:
        if any(t.requires_grad for t in tensors((rest, more))) or not live(input):
            return NotImplemented
        op.caveat(f"{op.name} hands relevance through unchanged, as activations do; no paper defines a rule")
        return passed(op, input)


def _keeps_zero(op: Operation, input: Tensor, rest: Any, more: Any) -> bool:
    return not bool(op.func(input.detach().new_zeros(1), *rest, **more).any())
