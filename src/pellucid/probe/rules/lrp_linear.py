"""Linear operations: convolutions, matrix products with fixed weights, and what mixes values without weights; the rules that share out there.

Every rule is one formula. A *group* of terms (a_t, v_t), a_t a part of the input and v_t a part of the weights, makes
z = sum_t f(a_t, v_t) + b and shares out R_in = sum_t a_t f'_{v_t}(R_out / (z + stabilizer)):

- zero, epsilon: (x, w), bias b
- gamma: (x+, w + g w+), (x-, w + g w-), bias b + g b+ where y > 0; the mirrored pair, g w- and g w+, where y < 0
- alpha_beta: alpha times (x+, w+), (x-, w-), bias b+; minus beta times (x+, w-), (x-, w+), bias b-;  z_plus: alpha 1, beta 0
- w_square: (1, w^2), bias b^2;  flat: (1, 1);  z_box: (x, w), (-low, w+), (-high, w-), in which the bias cancels

Terms of x- are left out where the input has no negative values. For w_square and flat the input's values do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import NoRule
from pellucid.probe.rules.guard import Node
from pellucid.probe.rules.lrp_composites import Rule
from pellucid.probe.rules.lrp_flow import Ended, distance_to_leaf, flow, made_of, quotient, times
from pellucid.probe.rules.operation import Kept, Operation

STABILIZER = 1e-6  # of all rules but epsilon, as in zennit; in units of the operation's output


@dataclass(frozen=True)
class Term:
    """A part of the input (None: ones) with a part of the weights."""

    a: Tensor | None
    v: Tensor | None


@dataclass(frozen=True)
class Group:
    """Terms that share one denominator."""

    terms: tuple[Term, ...]
    bias: Tensor | None
    share: float = 1.0
    sign: int = 0  # of the denominator, where all terms have one


@dataclass(eq=False)
class Linear:
    """One operation y = f(x, w) + b as it ran. ``raw`` are its weights w, None where there are no weights and none is negative (a mean, attention).

    ``inner`` is, of epsilon only, the input and f(x, w) with a graph of their own, and its values, of which y is ``scale`` times plus the
    bias. ``live`` is the operand as the network knows it, ``kept`` its values; ``y`` is kept where only its signs are asked.
    """

    op: Operation
    rule: Rule
    live: Tensor
    f: Callable[[Tensor, Tensor | None], Tensor]
    raw: Tensor | None  # weights before a BatchNorm scales them
    bias: Tensor | None  # broadcasts against y
    kept: Kept
    inner: tuple[Tensor, Tensor, Kept] | None = None
    scale: Tensor | None = None
    y: Tensor | None = None
    bounds: tuple[Tensor, Tensor] | None = None
    axis: int | None = None  # of weights, where outputs lie; None: nothing merges with it
    factor: Tensor | None = None  # of weights
    node: Node | None = None  # of ``live`` when this ran

    def __call__(self, relevance: Tensor, ended: Ended) -> list[Tensor | None]:
        """Relevance of the operand."""
        if self.rule.name in ("zero", "epsilon"):
            return [self._in_proportion(relevance, ended)]
        if self.y is None:
            parts = [self._share(relevance * g.share if g.share != 1 else relevance, g, ended) for g in self._groups()]
            return [sum(parts[1:], parts[0])]
        parts = []
        for sign in (1, -1):  # by the sign of the output
            off = self.y <= 0 if sign > 0 else self.y >= 0
            part = relevance.masked_fill(off, 0)
            if bool(part.any()):
                parts.append(self._share(part, self._tilted(sign) if self.raw is not None else self._signed(sign), ended))
        if self.rule.name == "gamma" or self.raw is None:
            ended.add("stabilizers", relevance.masked_fill(self.y != 0, 0).sum())
        return [sum(parts[1:], parts[0]) if parts else torch.zeros_like(self.x)]

    @property
    def x(self) -> Tensor:
        return self.kept.value

    @property
    def w(self) -> Tensor | None:
        return self.raw if self.raw is None or self.factor is None else self.raw * self.factor

    def open(self) -> Tensor:
        """f(x, w) with a graph of its own."""
        with torch.enable_grad():
            x = self.x.detach().requires_grad_()
            z = self.f(x, self.raw)
        self.inner = x, z, self.op.mode.keep(z)
        return z.detach()

    def _in_proportion(self, relevance: Tensor, ended: Ended) -> Tensor:
        assert self.inner is not None
        x, inner, values = self.inner
        z = values.value
        if self.scale is not None and self.bias is not None:
            z = torch.addcmul(self.bias, z, self.scale)
        else:
            z = z.clone() if self.bias is None else z + self.bias
        q = quotient(relevance, z, self.rule.epsilon, ended)
        self.op.steep(q)
        if self.bias is not None:
            ended.add("biases", dot(self.bias, q))
        if self.kept.copied:  # somebody wrote into the input: its graph is void
            with torch.enable_grad():
                x = self.x.detach().requires_grad_()
                inner = self.f(x, self.raw)
        (g,) = torch.autograd.grad(inner, x, q if self.scale is None else q.mul_(self.scale), retain_graph=True)
        return times(x.detach(), g, q)

    def _share(self, relevance: Tensor, group: Group, ended: Ended) -> Tensor:
        with torch.enable_grad():
            leaves = [(torch.ones_like(self.x) if t.a is None else t.a.detach()).requires_grad_() for t in group.terms]
            z = self.f(leaves[0], group.terms[0].v)
            for leaf, t in zip(leaves[1:], group.terms[1:], strict=True):
                z = z + self.f(leaf, t.v)
        total = z.detach() if self.raw is not None else z.detach().clone()  # no product with weights asks for its result again
        q = quotient(relevance, total if group.bias is None else total.add_(group.bias), STABILIZER, ended, group.sign)
        self.op.steep(q)
        if group.bias is not None:
            ended.add("biases", dot(group.bias, q))
        slopes = torch.autograd.grad(z, leaves, q)
        shares = [g if t.a is None else times(t.a, g, q) for t, g in zip(group.terms, slopes, strict=True)]
        return sum(shares[1:], shares[0])

    # ------------------------------------------------------------------ the formulas
    def _groups(self) -> list[Group]:
        x, w, b = self.x, self.w, self.bias
        if not self.rule.bias:
            b = None
        if self.rule.name == "flat":
            return [Group((Term(None, None if w is None else torch.ones_like(w)),), None)]
        if self.rule.name == "w_square":
            return [Group((Term(None, None if w is None else w * w),), None if b is None else b * b)]
        if self.rule.name == "z_box":
            assert self.bounds is not None
            low, high = self.bounds
            return [Group((Term(x, w), Term(-low, _part(w, 1)), Term(-high, _part(w, -1))), None)]
        negative = bool(x.min() < 0)
        assert w is not None
        alpha, beta = (1.0, 0.0) if self.rule.name == "z_plus" else self.rule.numbers
        if not negative and not beta and self.factor is not None:
            return [Group((Term(x, w.clamp_(min=0)),), _part(b, 1), alpha, 1)]  # w is a product of its own
        groups = [Group(_terms(x, w, negative, 1), _part(b, 1), alpha, 1)]
        if beta:
            groups.append(Group(_terms(x, w, negative, -1), _part(b, -1), -beta, -1))
        return groups

    def _tilted(self, sign: int) -> Group:
        """gamma, for outputs of one sign."""
        x, w, b, (g,) = self.x, self.w, self.bias, self.rule.numbers
        assert w is not None
        negative = bool(x.min() < 0)
        terms = [Term(x.clamp(min=0) if negative else x, torch.add(w, _clamped(w, sign), alpha=g))]
        if negative:
            terms.append(Term(x.clamp(max=0), torch.add(w, _clamped(w, -sign), alpha=g)))
        return Group(tuple(terms), None if b is None else b + g * _clamped(b, sign))

    def _signed(self, sign: int) -> Group:
        """z_plus of what mixes without weights: an output below 0 comes from inputs below 0."""
        return Group((Term(_clamped(self.x, sign), None),), None)

    # ------------------------------------------------------------------ BatchNorm behind it
    def merged(self, op: Operation, scale: Tensor, shift: Tensor, y: Tensor) -> Linear:
        """This operation and the affine one behind it as one: weights s w, bias s b + t."""
        assert self.raw is not None
        assert self.axis is not None
        wide = scale.view(-1, *[1] * (y.ndim - 2))
        bias = shift.view_as(wide) if self.bias is None else self.bias * wide + shift.view_as(wide)
        ones = [1] * (self.raw.ndim - 1)
        if self.axis == 0:
            factor = scale.view(-1, *ones)
        else:  # transposed: (inputs, outputs per group, *kernel)
            per, inputs = self.raw.shape[1], len(self.raw)
            factor = scale.view(-1, 1, per).expand(-1, inputs // (len(scale) // per), -1).reshape(inputs, per, *ones[1:])
        return replace(
            self,
            op=op,
            bias=bias,
            factor=factor if self.factor is None else factor * self.factor,
            scale=wide if self.scale is None else wide * self.scale,
            y=y.clone() if self.y is not None else None,
        )


def dot(bias: Tensor, q: Tensor) -> Tensor:
    """What biases take, in float64."""
    return (q.sum_to_size(_padded(bias, q)).double() * bias.double().view(_padded(bias, q))).sum()


def _padded(bias: Tensor, q: Tensor) -> tuple[int, ...]:
    return (1,) * (q.ndim - bias.ndim) + tuple(bias.shape)


def _clamped(t: Tensor, sign: int) -> Tensor:
    return t.clamp(min=0) if sign > 0 else t.clamp(max=0)


def _part(t: Tensor | None, sign: int) -> Tensor | None:
    return None if t is None else _clamped(t, sign)


def _terms(x: Tensor, w: Tensor, negative: bool, sign: int) -> tuple[Term, ...]:
    """The positive (or negative) products of inputs and weights."""
    plus = Term(x.clamp(min=0) if negative else x, _clamped(w, sign))
    return (plus, Term(x.clamp(max=0), _clamped(w, -sign))) if negative else (plus,)


# ---------------------------------------------------------------------------- the operations
def shared(
    op: Operation,
    rule: Rule,
    live: Tensor,
    f: Callable[[Tensor, Tensor | None], Tensor],
    w: Tensor | None = None,
    bias: Tensor | None = None,
    bounds: tuple[Tensor, Tensor] | None = None,
    axis: int | None = None,
) -> Tensor:
    """y = f(x, w) + b under a rule."""
    weights, shift = (None if t is None else t.detach() for t in (w, bias))
    known = Linear(op, rule, live, f, weights, shift, op.mode.keep(live), bounds=bounds, axis=axis, node=live.grad_fn)
    if rule.name in ("zero", "epsilon"):
        y = known.open()
        y = y if known.bias is None else y + known.bias
    else:
        y = op.plain()
        known.y = y.clone() if rule.name == "gamma" or w is None else None
    return out_of(op, known, y)


def out_of(op: Operation, known: Linear, y: Tensor) -> Tensor:
    """The values of a linear operation, with the way back."""
    sinks = ("stabilizers",) if known.bias is None or not known.rule.bias else ("stabilizers", "biases")
    return flow(op, y, [known.live], known, sinks, "linear", known if known.axis is not None else None)


def before(t: Tensor) -> Linear | None:
    """The convolution whose result an operand is, for an affine operation to merge with."""
    made = made_of(t.grad_fn)
    known: Linear | None = made.linear if made is not None else None
    # an operand that was written into since stands for something else now
    return known if known is not None and known.node is not None and known.live.grad_fn is known.node else None


Choose = Callable[[Operation, str, int | None], Rule]


@dataclass(frozen=True, eq=False)
class LinearRules:
    """Rules of operations with weights, as a composite chooses them. ``bounds``: lowest and highest value that the image can have."""

    choose: Choose
    bounds: tuple[Tensor, Tensor] | None

    def convolution(self, op: Operation, input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **more: Any) -> Any:
        if not input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad):
            return NotImplemented
        turned = "transpose" in op.name or (op.name == "convolution" and bool(more.get("transposed", rest[3] if len(rest) > 3 else False)))
        wide = None if bias is None else bias.view(-1, *[1] * (weight.ndim - 2))
        f = lambda x, w: op.func(x, w, None, *rest, **more)  # noqa: E731
        rule, bounds = self.rule(op, "convolution", input)
        return shared(op, rule, input, f, weight, wide, bounds, axis=1 if turned else 0)

    def dense(self, op: Operation, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
        if not input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad):
            return NotImplemented
        rule, bounds = self.rule(op, "dense", input)
        return shared(op, rule, input, lambda x, w: op.func(x, w), weight, bias, bounds, axis=0 if input.ndim == 2 else None)

    def weighted(self, op: Operation, live: Tensor, w: Tensor, f: Callable[[Tensor, Tensor | None], Tensor]) -> Tensor:
        """A matrix product with fixed weights, however it is spelled."""
        rule, bounds = self.rule(op, "dense", live)
        return shared(op, rule, live, f, w, None, bounds)

    def rule(self, op: Operation, what: str, live: Tensor) -> tuple[Rule, tuple[Tensor, Tensor] | None]:
        far = distance_to_leaf(live)
        rule = self.choose(op, what, far)
        return rule, (self._bounds(op, live, far) if rule.name == "z_box" else None)

    def _bounds(self, op: Operation, live: Tensor, far: int | None) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of each input, as the operation sees them."""
        found = self.reach(live, far)
        if found is not None:
            return found
        got = "one behind others" if far is None or self.bounds is None else "one on an image that the network itself changes before"
        raise NoRule(
            "z_box at the operation that touches the image first, whose lowest and highest values are known",
            f"{op}, {got}",
            "Choose w_square or flat there; describe a normalization by normalize= of the Model.",
        )

    def reach(self, live: Tensor, far: int | None) -> tuple[Tensor, Tensor] | None:
        """Bounds of a tensor that is the image, moved or padded; None where they are not known."""
        made = made_of(live.grad_fn)
        if made is not None and made.bounds is not None:
            return made.bounds
        if self.bounds is None or far is None or far > 1:
            return None
        low, high = self.bounds
        if far == 0 and low.shape == live.shape[1:]:
            return low.expand_as(live).contiguous(), high.expand_as(live).contiguous()
        ends = [float(b.flatten()[0]) for b in self.bounds]
        uniform = all(bool((b == end).all()) for b, end in zip(self.bounds, ends, strict=True))
        return (torch.full_like(live, ends[0]), torch.full_like(live, ends[1])) if uniform else None
