"""Attention: its probabilities as a network computes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from pellucid.probe.rules.mode import Rule, Rules
from pellucid.probe.rules.operation import Operation, tensors

SAME = "dropout feature_dropout alpha_dropout contiguous to type_as float double clone detach".split()  # leave probabilities what they are
PRODUCTS = "matmul bmm einsum baddbmm".split()


def probabilities(
    query: Tensor, key: Tensor, mask: Tensor | None = None, causal: bool = False, scale: float | None = None, shared: bool = False
) -> Tensor:
    """What scaled dot-product attention weighs its values with, (..., queries, keys)."""
    if shared:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    logits = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if causal:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    return logits.softmax(-1)


@dataclass(frozen=True, eq=False)
class Weighing:
    """One attention operation: probabilities (heads, queries, keys), the width of its values, and the module that ran it."""

    probabilities: Tensor
    width: int
    where: str


@dataclass(eq=False)
class Watch:
    """Keeps the probabilities of every attention operation: a softmax over the last axis that feeds a product, or torch's own attention."""

    seen: list[Weighing] = field(default_factory=list)
    _soft: WeakIdKeyDictionary = field(default_factory=WeakIdKeyDictionary)

    def rules(self) -> Rules:
        """A table that only looks."""
        table: dict[str, Rule] = {
            "softmax": self._softened,
            "scaled_dot_product_attention": self._attended,
            **dict.fromkeys(SAME, self._same),
            **dict.fromkeys(PRODUCTS, self._multiplied),
        }
        return Rules("attention", table, lambda _node: True)

    def _softened(self, op: Operation, input: Tensor, *args: Any, **named: Any) -> Any:
        out = op.func(input, *args, **named)
        dim = named.get("dim", args[0] if args else None)
        if input.ndim >= 3 and dim in (-1, input.ndim - 1):
            self._soft[out] = True
        return out

    def _same(self, op: Operation, input: Tensor, *args: Any, **named: Any) -> Any:
        out = op.func(input, *args, **named)
        if input in self._soft:
            self._soft[out] = True
        return out

    def _multiplied(self, op: Operation, *args: Any, **named: Any) -> Any:
        given = list(tensors((args, named)))
        for p in given:
            if p in self._soft:
                self._keep(op, p.detach(), max((v.shape[-1] for v in given if v is not p), default=0))
        return op.func(*args, **named)

    def _attended(
        self, op: Operation, query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Any:  # fmt: skip
        found = probabilities(query.detach(), key.detach(), attn_mask, is_causal, scale, enable_gqa)
        self._keep(op, found, value.shape[-1])
        return op.func(*op.args, **op.kwargs)

    def _keep(self, op: Operation, p: Tensor, width: int) -> None:
        self.seen.append(Weighing(p.flatten(0, -3), width, op.where))
