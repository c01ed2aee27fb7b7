"""Relevance through attention (AttnLRP): the table of LRP, in which attention is no gate but an operation like others.

``o = softmax(q k / sqrt(d)) v`` is shared out step by step: half of a product's relevance goes to each factor, so half to the probabilities, and
from there through the softmax ``R_x = x (R - s sum R)``, its linear part at x (what its constant part takes is counted), on to queries
and keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.probe.rules.attention import probabilities
from pellucid.probe.rules.lrp import Composite, Rule, relevance_rules
from pellucid.probe.rules.lrp_flow import Ended, fitted, flow, passed
from pellucid.probe.rules.mode import Rule as Call
from pellucid.probe.rules.mode import Rules
from pellucid.probe.rules.operation import Operation, live


@dataclass(eq=False)
class Attention:
    """The rules of attention, and how many attentions were met."""

    count: int = 0

    def rules(self, name: str, composite: Composite, mixing: Rule) -> Rules:
        """LRP's table with these in it; ``mixing``: the rule of sums and means."""
        base = relevance_rules(name, composite, mixing, None)
        shifted = base.table["add"]

        def add(op: Operation, input: Any, other: Any, **named: Any) -> Any:
            """A mask that shuts keys out takes nothing; any other constant takes its share."""
            signal, mask = (input, other) if live(input) else (other, input)
            if isinstance(mask, Tensor) and not live(mask) and bool(mask.isinf().any()):
                return passed(op, signal, "shifted")
            return shifted(op, input, other, **named)

        own: dict[str, Call] = {
            "softmax": self.softmax,
            "scaled_dot_product_attention": self.attend,
            "masked_fill": self.shut,
            "add": add,
        }
        return replace(base, table={**base.table, **own})

    def softmax(self, op: Operation, input: Tensor, dim: int | None = None, *_rest: Any, **_named: Any) -> Any:
        if op.mode.in_target or dim is None or not live(input):
            return NotImplemented
        return self._softened(op, input, op.plain(), dim)

    def _softened(self, op: Operation, logits: Tensor, s: Tensor, dim: int) -> Tensor:
        """``s``, the softmax of logits and whatever a mask adds to them."""
        self.count += 1
        x = torch.where(s > 0, logits.detach(), 0)  # those of masked keys may not be finite

        def back(relevance: Tensor, ended: Ended) -> list[Tensor]:
            taken = x * (relevance - s * relevance.sum(dim, keepdim=True))
            ended.add("softmax", (relevance - taken).sum(dtype=torch.float64))
            return [taken]

        return flow(op, s.clone(), [logits], back, ("softmax",), "attention")

    def shut(self, op: Operation, input: Tensor, mask: Tensor, value: Any) -> Any:
        if op.mode.in_target or live(value) or not live(input):
            return NotImplemented

        def back(relevance: Tensor, ended: Ended) -> list[Tensor]:
            ended.add("constants", (relevance * mask).sum(dtype=torch.float64))
            return [fitted(relevance.masked_fill(mask, 0), input.shape)]

        return flow(op, op.plain(), [input], back, ("constants",), "shifted")

    def attend(
        self, op: Operation, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Any:  # fmt: skip
        """torch's fused attention, opened: its products reach the mode one by one."""
        if op.mode.in_target or dropout_p:
            return NotImplemented
        with torch.no_grad():
            s = probabilities(query, key, attn_mask, is_causal, scale, enable_gqa)
        with op.mode:
            if enable_gqa:
                key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
            logits = torch.matmul(query, key.transpose(-2, -1)) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        weights = self._softened(op, logits, s, -1) if live(logits) else s
        with op.mode:
            return torch.matmul(weights, value)
