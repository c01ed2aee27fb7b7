"""Sums and products of values that depend on the input, concatenation with what does not, and means: none of them has weights of its own.

- A sum is shared out in proportion to its terms, R_a = a R / (a + b): the epsilon rule with weights of one (zennit's Norm). A constant term, such as
  a position embedding, takes its proportion too, which is counted as absorbed: it stands where a bias stands in that rule.
- A mean, an average pool or an interpolation is a linear layer whose weights nobody trained, y_j = sum_i w_ij x_i: the epsilon rule with these
  weights. For means of values of at least 0 it is the sum pooling of Montavon et al. 2017; bicubic interpolation has weights below 0, as layers have.
- In a product of a signal and a gate (the output of a softmax or sigmoid, the reciprocal of a size) the signal takes all
  (Arras et al. 2017; for attention and for sizes in normalizations Ali et al. 2022): the gate says how much passes, not what. So in
  attention all relevance goes to the values, none to queries and keys. In any other product both factors take half
  (Achtibat et al. 2024). In a quotient the numerator takes all.
- A constant factor takes nothing: the only operand that depends on the input takes all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import NoRule
from pellucid.probe.rules.lrp_composites import Rule
from pellucid.probe.rules.lrp_flow import Ended, distance_to_leaf, fitted, flow, is_gate, made_of, passed, quotient
from pellucid.probe.rules.lrp_linear import STABILIZER, LinearRules, shared
from pellucid.probe.rules.operation import Kept, Operation, live, tensors

GATED = (
    "the factor that only weights (softmax, sigmoid, reciprocal) takes nothing, its signal takes all (Arras et al. 2017, Ali et al. 2022)"
)
HALVES = "both factors of a product of two signals take half (Achtibat et al. 2024)"
SUMS = "sums of two parts of the network are shared out in proportion to both values, like a layer with weights of one (no paper's rule)"
CONSTANTS = (
    "constants that are added (embeddings, offsets) take relevance in proportion to their values, as biases do; it counts as absorbed"
)
MEANS = "means, sums and average pools are shared out as layers with fixed weights; Montavon et al. 2017 define it for values of at least 0"
BETWEEN = "interpolation and resampling are shared out as layers with the weights of the interpolation (no paper's rule)"
PICKED = "{} hands relevance to the value that it picks, as a maximum does (no paper's rule)"
INTERPOLATIONS = frozenset(
    """upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa upsample_trilinear3d upsample_bicubic2d _upsample_bicubic2d_aa
    grid_sampler grid_sampler_2d grid_sampler_3d col2im""".split()
)
QUOTIENT = "the numerator of a quotient takes all, its denominator is held fixed (Ali et al. 2022)"


@dataclass(frozen=True, eq=False)
class MixRules:
    """Sums, products and means. ``rule``: how what has no weights of its own is shared out (epsilon, or z_plus in deep Taylor)."""

    rule: Rule
    linear: LinearRules

    # ------------------------------------------------------------------ sums
    def add(self, op: Operation, input: Any, other: Any, *, alpha: float = 1) -> Any:
        return self._sum(op, [input, other], [1.0, float(alpha)])

    def sub(self, op: Operation, input: Any, other: Any, *, alpha: float = 1) -> Any:
        return self._sum(op, [input, other], [1.0, -float(alpha)])

    def rsub(self, op: Operation, input: Any, other: Any, *, alpha: float = 1) -> Any:
        return self._sum(op, [other, input], [1.0, -float(alpha)])

    def _sum(self, op: Operation, terms: list[Any], signs: list[float]) -> Any:
        alive = [live(t) for t in terms]
        op.caveat(SUMS if all(alive) else CONSTANTS)
        _no_copies(op, terms)
        like = next(t for t in terms if live(t))
        kept = [op.mode.keep(t) if isinstance(t, Tensor) else Kept(torch.as_tensor(t, dtype=like.dtype, device=like.device)) for t in terms]
        shapes = [k.value.shape for k in kept]
        positive = self.rule.name == "z_plus"
        stabilizer = STABILIZER if positive else self.rule.epsilon

        def back(relevance: Tensor, ended: Ended) -> list[Tensor]:
            parts = [k.value if s == 1 else k.value * s for k, s in zip(kept, signs, strict=True)]
            total = parts[0] + parts[1]
            if positive:  # a sum below 0 comes from what is below 0
                parts = [
                    torch.where((total >= 0) == (p >= 0), p, 0) if a else torch.zeros_like(p) for p, a in zip(parts, alive, strict=True)
                ]
                total = parts[0] + parts[1]
            q = quotient(relevance, total, stabilizer, ended)
            op.steep(q)
            out = []
            for shape, p, a in zip(shapes, parts, alive, strict=True):
                if a:
                    out.append(fitted(p * q, shape))
                else:
                    ended.add("constants", (p * q).sum())
            return out

        sinks = ("stabilizers",) if all(alive) or positive else ("stabilizers", "constants")
        return flow(op, None, [t for t, a in zip(terms, alive, strict=True) if a], back, sinks, "sum" if all(alive) else "shifted")

    def mixed(self, op: Operation, input: Any, *rest: Any, **more: Any) -> Any:
        """A mean, a pool, an interpolation: linear in its first operand, without weights."""
        if not live(input) or any(t.requires_grad for t in tensors((rest, more))):
            return NotImplemented
        op.caveat(BETWEEN if op.name in INTERPOLATIONS else MEANS)
        return shared(op, self.rule, input, lambda x, _: op.func(x, *rest, **more))

    def picked(self, op: Operation, *_args: Any, **_more: Any) -> Any:
        """A smallest, a middle or a sorted value: moved as it is, so that autograd carries its relevance."""
        op.caveat(PICKED.format(op.name))
        return NotImplemented

    # ------------------------------------------------------------------ products
    def mul(self, op: Operation, input: Any, other: Any) -> Any:
        if not (live(input) and live(other)):
            return passed(op, input if live(input) else other, "scaled")
        gates = [is_gate(input), is_gate(other)]
        if gates[0] != gates[1]:
            op.caveat(GATED)
            return passed(op, other if gates[0] else input, "gated")
        op.caveat(HALVES)
        value: Tensor = op.plain()
        return flow(op, value, [input, other], lambda r, _: [fitted(r / 2, input.shape), fitted(r / 2, other.shape)], label="product")

    def div(self, op: Operation, input: Any, other: Any, *, rounding_mode: Any = None) -> Any:
        if rounding_mode is not None:
            return NotImplemented
        if live(input) and live(other):
            op.caveat(QUOTIENT)
            return passed(op, input, "quotient")
        return passed(op, input, "scaled") if live(input) else self._inverse(op, other)

    def rdiv(self, op: Operation, input: Any, other: Any) -> Any:
        return self._inverse(op, input) if live(input) and not live(other) else NotImplemented

    def _inverse(self, op: Operation, divisor: Tensor) -> Tensor:
        op.caveat("the divisor of a constant hands relevance through unchanged, as activations do (no paper's rule)")
        return passed(op, divisor, "reciprocal")

    def matmul(self, op: Operation, input: Tensor, other: Tensor) -> Any:
        return self._product(op, input, other, op.func)

    def einsum(self, op: Operation, equation: str, *operands: Any, **_path: Any) -> Any:
        pair = operands[0] if isinstance(operands[0], (list, tuple)) else operands
        if len(pair) == 1:
            op.caveat(MEANS)
            return shared(op, self.rule, pair[0], lambda x, _: torch.einsum(equation, x))
        return self._product(op, pair[0], pair[1], lambda a, b: torch.einsum(equation, a, b)) if len(pair) == 2 else NotImplemented

    def _product(self, op: Operation, a: Tensor, b: Tensor, f: Any) -> Any:
        if not (live(a) and live(b)):
            w = b if live(a) else a
            turn = (lambda x, w: f(x, w)) if live(a) else (lambda x, w: f(w, x))
            if op.mode.derived(w):
                return shared(op, self.rule, a if live(a) else b, turn, w)
            return self.linear.weighted(op, a if live(a) else b, w, turn)
        gates = [is_gate(a), is_gate(b)]
        if gates[0] != gates[1]:
            op.caveat(GATED)
            gate, signal = (a.detach().clone(), b) if gates[0] else (b.detach().clone(), a)
            return shared(op, self.rule, signal, (lambda x, _: f(gate, x)) if gates[0] else (lambda x, _: f(x, gate)))
        op.caveat(HALVES)
        y: Tensor = op.plain()
        kept, total = [a.detach().clone(), b.detach().clone()], y.clone()

        def back(relevance: Tensor, ended: Ended) -> Sequence[Tensor]:
            q = quotient(relevance, total.clone(), self.rule.epsilon or STABILIZER, ended)
            op.steep(q)
            with torch.enable_grad():
                leaves = [k.requires_grad_() for k in kept]
                grads = torch.autograd.grad(f(*leaves), leaves, q / 2)
            return [k.detach() * g for k, g in zip(kept, grads, strict=True)]

        return flow(op, y, [a, b], back, ("stabilizers",), "product")

    def addmm(self, op: Operation, input: Any, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Any:
        """A bias (or any constant) and a matrix product."""
        if live(input) or beta != 1 or alpha != 1 or live(mat1) == live(mat2) or op.mode.derived(input):
            return NotImplemented
        product = torch.bmm if "b" in op.name.removeprefix("add") else torch.mm
        rule, bounds = self.linear.rule(op, "dense", mat1 if live(mat1) else mat2)
        f = (lambda x, w: product(x, w)) if live(mat1) else (lambda x, w: product(w, x))
        return shared(op, rule, mat1 if live(mat1) else mat2, f, mat2 if live(mat1) else mat1, input, bounds)

    def attention(self, op: Operation, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **more: Any) -> Any:
        if not live(value):
            return NotImplemented
        op.caveat(GATED)
        q, k = query.detach(), key.detach()
        rest, more = _still(rest), {n: _still(v) for n, v in more.items()}
        return shared(op, self.rule, value, lambda v, _: op.func(q, k, v, *rest, **more))

    def glu(self, op: Operation, input: Tensor, dim: int = -1) -> Tensor:
        op.caveat(GATED)
        value: Tensor = op.plain()
        return flow(op, value, [input], lambda r, _: [torch.cat([r, torch.zeros_like(r)], dim)], label="gated")

    # ------------------------------------------------------------------ beside what does not depend on the input
    def cat(self, op: Operation, tensors: Sequence[Tensor], dim: int = 0, **more: Any) -> Any:
        parts = list(tensors)
        if all(live(t) for t in parts) or more:
            return NotImplemented
        _no_copies(op, parts)
        value: Tensor = op.plain()
        sizes = [t.shape[dim] for t in parts] if op.name == "cat" else [1] * len(parts)

        def back(relevance: Tensor, ended: Ended) -> list[Tensor]:
            pieces = relevance.split(sizes, dim)
            for t, piece in zip(parts, pieces, strict=True):
                if not live(t):
                    ended.add("constants", piece.sum())
            own = [p for t, p in zip(parts, pieces, strict=True) if live(t)]
            return own if op.name == "cat" else [p.squeeze(dim) for p in own]

        return flow(op, value, [t for t in parts if live(t)], back, ("constants",), "cat")

    def pad(self, op: Operation, input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
        if mode != "constant" or not live(input):
            return NotImplemented
        out: Tensor = op.plain()
        amounts = list(pad)
        beside = torch.nn.functional.pad(torch.zeros_like(input), amounts, value=1.0)

        def back(relevance: Tensor, ended: Ended) -> list[Tensor]:
            ended.add("constants", (relevance * beside).sum())
            return [torch.nn.functional.pad(relevance, [-a for a in amounts])]

        padded = flow(op, out, [input], back, ("constants",), "padded")
        ends = self.linear.reach(input, distance_to_leaf(input))
        made = made_of(padded.grad_fn)
        if ends is not None and made is not None:
            made.bounds = tuple(torch.nn.functional.pad(e.detach(), amounts, value=value or 0.0) for e in ends)  # type: ignore[assignment]
        return padded

    def constant_pad(self, op: Operation, input: Tensor, pad: Sequence[int], value: float = 0) -> Any:
        return self.pad(op, input, pad, "constant", value)

    def chosen(self, op: Operation, condition: Any, input: Any = None, other: Any = None) -> Any:
        """One or the other, as a constant says."""
        if not isinstance(condition, Tensor) or op.mode.derived(condition) or input is None or other is None:
            return NotImplemented
        _no_copies(op, [input, other])
        sides = [(t, c) for t, c in ((input, condition), (other, ~condition))]

        def back(relevance: Tensor, ended: Ended) -> list[Tensor]:
            for t, c in sides:
                if not live(t):
                    ended.add("constants", (relevance * c).sum())
            return [fitted(relevance * c, t.shape) for t, c in sides if live(t)]

        return flow(op, op.plain(), [t for t, _ in sides if live(t)], back, ("constants",), "cat")

    def masked_fill(self, op: Operation, input: Tensor, mask: Tensor, value: Any) -> Any:
        if live(value) or not live(input) or op.mode.derived(mask):
            return NotImplemented
        return self._overwritten(op, op.plain(), input, mask)

    def written(self, op: Operation, input: Tensor, index: Any, value: Any) -> Any:
        """``z[index] = value``, where one of the two is constant."""
        if live(value) == live(input) or any(op.mode.derived(t) for t in tensors([index])):
            return NotImplemented
        _no_copies(op, [input, value])
        y, mask = input.detach().clone(), torch.zeros(input.shape, dtype=torch.bool, device=input.device)
        y[index], mask[index] = value.detach() if isinstance(value, Tensor) else value, True
        if live(input):
            return self._overwritten(op, y, input, mask)

        def back(relevance: Tensor, ended: Ended) -> list[Tensor]:
            ended.add("constants", (relevance * ~mask).sum())
            return [fitted(relevance[index], value.shape)]

        return flow(op, y, [value], back, ("constants",), "cat")

    def _overwritten(self, op: Operation, y: Tensor, input: Tensor, mask: Tensor) -> Tensor:
        def back(relevance: Tensor, ended: Ended) -> list[Tensor]:
            ended.add("constants", (relevance * mask).sum())
            return [fitted(relevance * ~mask, input.shape)]

        return flow(op, y, [input], back, ("constants",), "cat")


def _still(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    return type(value)(_still(v) for v in value) if isinstance(value, (list, tuple)) else value


def _no_copies(op: Operation, terms: Sequence[Any]) -> None:
    """Refuse a constant that was computed from the input out of autograd's sight: what it takes would not be the network's own."""
    if any(isinstance(t, Tensor) and not t.requires_grad and op.mode.derived(t) for t in terms):
        raise NoRule(
            f"a rule of {op.mode.rules.name} for every operation",
            f"{op} of the input and of something derived from it out of autograd's sight (a comparison, detach)",
            "Write it with torch's own functions, or choose another method.",
        )
