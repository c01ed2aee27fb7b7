"""The rule mode: a network's own forward pass in which surrogates, whose gradients are a method's rules, take the place of operations.

Three locks keep a plain gradient from passing for a rule in silence. The output under the mode equals the plain one (the engine compares
them). Every node of the graph was made by a rule or is allowed by a written list (``guard``), and no operation mixes what depends on the
input with what was derived from it out of autograd's sight (``x * (x > 0)``). Explained and reference are paired by the order of their
operations, never by halves of a batch.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from pellucid.errors import NoRule
from pellucid.probe.rules.guard import Node, between, linear, unknown
from pellucid.probe.rules.operation import Kept, Operation, composite, live, opened, out_of_place, spelled, tensors

# results that take shape and type from an operand, but no values
SHAPED = frozenset(
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full new_tensor".split()
)

RECURRENT = ("lstm", "gru", "rnn")  # how the names of recurrent layers and cells begin

Rule = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Rules:
    """A method's table: the rule of each primitive operation.

    A rule is called as ``rule(operation, *arguments of the operation)`` and returns what takes the place of its result: the same values,
    with a graph of its own. It may return NotImplemented: the operation then runs as it is, and the guard judges its node.

    Args:
        name: of the method, for messages.
        table: by the operation's one name (``relu``, ``conv2d``, ``add``; see ``operation.spelled``).
        allowed: whether a node of the graph that no rule made may keep its own gradient.
        normalized: whether relevance is told of the normalized image; otherwise of the image before ``normalize``.
        paired: whether rules compare with a reference's run.
        compares: which of the table's operations do; of the others nothing is kept.
        seed: what stands between the network's outputs and the target; its gradient turns the target's slopes into what flows back.
    """

    name: str
    table: dict[str, Rule]
    allowed: Callable[[Node], bool] = linear
    normalized: bool = False
    paired: bool = False
    compares: Callable[[Operation], bool] = lambda _op: True
    seed: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Absorbed:
    """Relevance that ended in an operation and not in the input: where, why, and the leaf whose gradient it is."""

    where: str
    why: str
    leaf: Tensor = field(repr=False)


class RuleMode(TorchFunctionMode):
    """One forward pass under rules (of the reference first, if they are paired)."""

    def __init__(self, rules: Rules, reference: list[tuple[str, list[Tensor]]] | None = None, recording: bool = False) -> None:
        super().__init__()
        self.rules, self.reference, self.recording = rules, reference, recording
        self.record: list[tuple[str, list[Tensor]]] = []
        self.absorbed: list[Absorbed] = []
        self.caveats: dict[str, None] = {}
        self.largest = 0.0
        self.in_target = False  # the network's output is known: what runs now belongs to the target
        self._ruled: set[Node] = set()
        self._made: dict[Node, tuple[str, list[Node]]] = {}  # by which operation, from which operands
        self._derived = WeakIdKeyDictionary()
        self._kept: dict[int, list[Kept]] = {}  # by storage
        self._modules: list[str] = []
        self._open: list[Any] = []  # composites now running; one that calls its own name means the primitive
        self._count = 0
        self.endings: list[Callable[[], None]] = []  # called when the pass is over: what a rule lets go of

    # ------------------------------------------------------------------ operations
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tensors((args, kwargs))
        if not any(t.requires_grad for t in given):
            out = func(*args, **kwargs)
            self._derive(func, given, out)
            return out
        if composite(func) and func not in self._open:
            self._open.append(func)
            try:
                with self:
                    return opened(func)(*args, **kwargs)
            finally:
                self._open.pop()
        name, writes = spelled(func)
        rule = self.rules.table.get(name)
        if rule is not None:
            out = self._ruled_result(rule, name, func, writes, args, kwargs)
            if out is not NotImplemented:
                return out
        if any(t in self._derived for t in given) and not name.startswith("."):
            text = f"{name}{self._place()} of the input and of something derived from it out of autograd's sight (a comparison, detach)"
            raise NoRule(
                f"a rule of {self.rules.name} for every operation", text, "Write it with torch's own functions, or choose another method."
            )
        operands = [t.grad_fn for t in given if t.requires_grad]
        if writes:
            self.rescue(args[0])
        out = func(*args, **kwargs)
        self._derive(func, given, out)
        for t in tensors(out):
            if t.grad_fn is not None:
                self._made.setdefault(t.grad_fn, (f"{name}{self._place()}", operands))
        return out

    def _ruled_result(self, rule: Rule, name: str, func: Any, writes: bool, args: Any, kwargs: Any) -> Any:
        target = args[0] if writes else None
        operands = [t.grad_fn for t in tensors((args, kwargs)) if t.requires_grad]
        written, kwargs = kwargs, {("input" if k == "self" else k): v for k, v in kwargs.items() if k != "out"}
        operation = Operation(name, self._modules[-1] if self._modules else "", out_of_place(name, func), self, args, kwargs)
        if isinstance(target, Tensor) and target.grad_fn is not None and not target._is_view():
            operation.writes = func
        compared = self.rules.paired and self.rules.compares(operation)
        if self.recording:
            return self._recorded(operation, target, func, args, written) if compared else NotImplemented
        if compared:
            operation.reference = self._partner(operation)
        try:
            _signature(rule).bind(operation, *args, **kwargs)
        except TypeError as error:
            text = f"{operation} with arguments that it does not know ({error})"
            raise NoRule(f"a rule of {self.rules.name} for every operation", text, "Choose another method.") from None
        with torch.enable_grad():
            out = rule(operation, *args, **kwargs)
        if out is NotImplemented:
            return out
        operands += [t.grad_fn for t in operation.behind]
        for t in tensors(out):
            if t.grad_fn is not None:
                self._ruled |= between(t.grad_fn, [o for o in operands if o is not None])
            elif not t.requires_grad:
                self._derived[t] = True  # places of maxima
        if target is None or out is target:
            return out
        self.rescue(target)
        target.copy_(out)  # whoever else holds the operand must see the result too
        return target

    def _recorded(self, operation: Operation, target: Tensor | None, func: Any, args: Any, kwargs: Any) -> Any:
        """The reference's run: operands are kept, and the graph ends here."""
        given = tensors((operation.args, operation.kwargs))
        # weights stay as they are; what the network computed it may write into
        self.record.append((operation.name, [t.detach().clone() if t.requires_grad or t in self._derived else t for t in given]))
        with torch.no_grad():
            if target is not None and target.requires_grad:
                return func(*args, **kwargs)
            out = operation.func(*operation.args, **operation.kwargs)
        return _alive(out) if target is None else target.copy_(_alive(out))

    def _partner(self, operation: Operation) -> list[Tensor]:
        assert self.reference is not None
        at, self._count = self._count, self._count + 1
        name, kept = self.reference[at] if at < len(self.reference) else ("nothing", [])
        mine = [tuple(t.shape) for t in tensors((operation.args, operation.kwargs))]
        if name != operation.name or mine != [tuple(t.shape) for t in kept]:
            raise NoRule(
                f"{self.rules.name} compares two runs of the same operations",
                f"{operation} for the image where the reference has {name}",
                "The network decides by its input; choose another method.",
            )
        self.reference[at] = "", []  # used up: its memory is free when the rule is done
        return kept

    def _derive(self, func: Any, given: list[Tensor], out: Any) -> None:
        """Mark what comes from the input without a graph."""
        if not any(t.requires_grad or t in self._derived for t in given) or spelled(func)[0] in SHAPED:
            return
        for t in tensors(out):
            if not t.requires_grad:
                self._derived[t] = True

    def _place(self) -> str:
        return f" in {self._modules[-1]!r}" if self._modules and self._modules[-1] else ""

    def absorb(self, amount: Tensor, operation: Operation, why: str) -> Tensor:
        """``amount`` times a leaf of one, whose gradient is the relevance that ends here."""
        one = torch.ones((), dtype=amount.dtype, device=amount.device, requires_grad=True)
        self.absorbed.append(Absorbed(operation.where, why, one))
        return amount.detach() * one

    def keep(self, t: Tensor) -> Kept:
        """The values of a tensor as they are now, whatever the network writes into it later."""
        kept = Kept(t.detach())
        self._kept.setdefault(t.untyped_storage().data_ptr(), []).append(kept)
        return kept

    def rescue(self, target: Any) -> None:
        """Copy what is kept of a tensor that is about to be written into."""
        if self._kept and isinstance(target, Tensor):
            for kept in self._kept.pop(target.untyped_storage().data_ptr(), ()):
                kept.rescue()

    def sink(self, why: str, device: torch.device) -> Tensor:
        """The leaf into which all relevance that ends for one reason flows, operation by operation, in float64."""
        for a in self.absorbed:
            if a.why == why and not a.where and a.leaf.device == device:
                return a.leaf
        leaf = torch.zeros((), dtype=torch.float64, device=device, requires_grad=True)
        self.absorbed.append(Absorbed("", why, leaf))
        return leaf

    def derived(self, t: Tensor) -> bool:
        """Whether a tensor without a graph was computed from the input."""
        return t in self._derived

    # ------------------------------------------------------------------ the locks
    def check(self, score: Tensor) -> None:
        """Refuse a score behind which a node is neither ruled nor allowed.

        Raises:
            NoRule: naming the operation and the module.
        """
        strange = unknown(score.grad_fn, self._ruled, self.rules.allowed)
        if strange:
            name = self._maker(strange[0])
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            other = "Choose another method, or another target or site."
            fix = "Write its steps out: pl.unrolled(net)." if name.startswith(RECURRENT) else other
            raise NoRule(f"a rule of {self.rules.name} for every operation", name + more, fix)

    def forget(self) -> None:
        """Let go of the graph, which knows this mode in turn: memory is free at once, not when cycles are next collected."""
        self._ruled.clear()
        self._made.clear()
        self.absorbed.clear()
        self.record.clear()
        self._kept.clear()
        for end in self.endings:
            end()
        self.endings.clear()

    def _maker(self, node: Node) -> str:
        """The operation that made a node, which may be one of many of it (an LSTM); its own name if none is known (TorchScript)."""
        spans = ((len(span), name) for made, (name, operands) in self._made.items() if node in (span := between(made, operands)))
        return min(spans, default=(0, node.name()))[1]

    @contextlib.contextmanager
    def following(self, module: nn.Module) -> Iterator[None]:
        """Know which module runs, and run checkpointed parts plainly: recomputed outside of the mode they would lose their rules."""
        names = {part: name for name, part in module.named_modules()}
        here = threading.get_ident()

        def enter(part: nn.Module, _args: Any) -> None:
            if part in names and threading.get_ident() == here:
                self._modules.append(names[part])

        def leave(part: nn.Module, _args: Any, _out: Any) -> None:
            if part in names and threading.get_ident() == here:
                self._modules.pop()

        # one pair of hooks for all modules: a pair for each would cost more than the rules
        handles = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
        try:
            with _unchecked():
                yield
        finally:
            for handle in handles:
                handle.remove()


_signatures: WeakKeyDictionary[Rule, inspect.Signature] = WeakKeyDictionary()  # a rule may hold the tensors of its pass: never kept alive


def _signature(rule: Rule) -> inspect.Signature:
    found = _signatures.get(rule)
    if found is None:
        found = _signatures[rule] = inspect.signature(rule)
    return found


class _Born(torch.autograd.Function):
    """A value that depends on the input as far as autograd knows, without a graph behind it; no leaf, for it may be written into."""

    @staticmethod
    def forward(ctx: Any, one: Tensor, value: list[Tensor]) -> Tensor:
        (y,) = value
        return y.clone() if y._is_view() else y


def _alive(out: Any) -> Any:
    if isinstance(out, Tensor):
        if not out.is_floating_point():
            return out
        with torch.enable_grad():
            return _Born.apply(torch.ones((), requires_grad=True), [out])  # type: ignore[no-untyped-call]
    return type(out)(_alive(o) for o in out) if isinstance(out, (list, tuple)) else out


class _Plainly:
    """Stands for the checkpoint function that recomputes by re-entering autograd."""

    @staticmethod
    def apply(function: Callable[..., Any], _preserve: bool, *args: Any) -> Any:
        return function(*args)


def _once(*_args: Any, **_kwargs: Any) -> Iterator[None]:
    yield


_patched = threading.RLock()
_patches: list[dict[str, Any]] = []  # what stood there before, once, however many threads are under rules


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    # torch.utils.checkpoint.checkpoint looks both up when called, however it was imported itself
    home: Any = torch.utils.checkpoint
    names = {"CheckpointFunction": _Plainly, "_checkpoint_without_reentrant_generator": _once}
    with _patched:
        _patches.append({name: getattr(home, name) for name in names} if not _patches else _patches[0])
        for name, plain in names.items():
            setattr(home, name, plain)
    try:
        yield
    finally:
        with _patched:
            before = _patches.pop()
            for name, own in before.items() if not _patches else ():
                setattr(home, name, own)


__all__ = ["Absorbed", "Rule", "RuleMode", "Rules", "live"]
