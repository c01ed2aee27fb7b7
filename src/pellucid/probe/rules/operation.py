"""Primitive operations under one name each, whatever their spelling; composite functions of Python are opened."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from pellucid.probe.rules.mode import RuleMode

# one name for two spellings; in-place forms and operators lose their underscores first
ALIASES = {
    "multiply": "mul",
    "true_divide": "div",
    "truediv": "div",
    "divide": "div",
    "subtract": "sub",
    "negative": "neg",
    "absolute": "abs",
    "special_expit": "sigmoid",
    "special_expm1": "expm1",
    "special_softmax": "softmax",
    "_softmax": "softmax",
    "special_log_softmax": "log_softmax",
    "_log_softmax": "log_softmax",
    "concat": "cat",
    "concatenate": "cat",
    "clip": "clamp",
    "swapaxes": "transpose",
    "max_pool1d_with_indices": "max_pool1d",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
}
# the operators of Python
OPERATORS = {
    "__add__": "add",
    "__radd__": "add",
    "__iadd__": "add",
    "__sub__": "sub",
    "__rsub__": "rsub",
    "__isub__": "sub",
    "__mul__": "mul",
    "__rmul__": "mul",
    "__imul__": "mul",
    "__truediv__": "div",
    "__div__": "div",
    "__rtruediv__": "rdiv",
    "__rdiv__": "rdiv",
    "__itruediv__": "div",
    "__idiv__": "div",
    "__pow__": "pow",
    "__rpow__": "rpow",
    "__ipow__": "pow",
    "__neg__": "neg",
    "__abs__": "abs",
    "__matmul__": "matmul",
    "__rmatmul__": "rmatmul",
}
IN_PLACE_OPERATORS = frozenset({"__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__", "__ipow__", "__setitem__"})
_WRITTEN_IN_PYTHON = ("torch.nn.functional", "torch.functional", "torch._tensor", "torch._jit_internal")
_opened: dict[Any, Callable[..., Any]] = {}


@cache
def spelled(func: Any) -> tuple[str, bool]:
    """The one name of an operation, and whether this spelling writes into its operand."""
    func = getattr(func, "overloadpacket", func)
    name = str(getattr(func, "__name__", func))
    if name == "__get__":
        return "." + str(getattr(func.__self__, "__name__", name)), False
    if name.startswith("__"):
        return OPERATORS.get(name, name), name in IN_PLACE_OPERATORS
    writes = name.endswith("_")
    name = name.rstrip("_")
    return ALIASES.get(name, name), writes


@cache
def composite(func: Any) -> bool:
    """Whether an operation is a function of Python that calls others: rules act on those."""
    return isinstance(func, types.FunctionType) and func.__module__ in _WRITTEN_IN_PYTHON


def opened(func: types.FunctionType) -> Callable[..., Any]:
    """A copy of a composite function that does not hand itself to the mode, so that its operations reach the mode one by one."""
    if func not in _opened:
        closure = func.__closure__
        if closure is not None and "if_true" in func.__code__.co_freevars:  # torch's switch between two functions of one name
            closure = tuple(
                types.CellType(opened(c.cell_contents) if isinstance(c.cell_contents, types.FunctionType) else c.cell_contents)
                for c in closure
            )
        blind = {name: (lambda *_a, **_k: False) for name in func.__globals__ if name.startswith("has_torch_function")}
        copy = types.FunctionType(func.__code__, {**func.__globals__, **blind}, func.__name__, func.__defaults__, closure)
        copy.__kwdefaults__ = func.__kwdefaults__
        _opened[func] = copy
    return _opened[func]


def out_of_place(name: str, func: Any) -> Callable[..., Any]:
    """The same operation without writing into its operand."""
    if not spelled(func)[1]:
        return func  # type: ignore[no-any-return]
    for home in (torch, torch._C._nn, torch.Tensor, functional):
        if hasattr(home, name):
            return getattr(home, name)  # type: ignore[no-any-return]
    raise AttributeError(name)


def tensors(value: Any) -> list[Tensor]:
    """Every tensor in arguments, lists and dicts included."""
    found: list[Tensor] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, (list, tuple)):
        for part in value:
            _collect(part, found)
    elif isinstance(value, dict):
        for part in value.values():
            _collect(part, found)


@dataclass(eq=False)
class Operation:
    """One operation as it runs: what a rule is called with, before the operation's own arguments.

    ``where`` is the module that runs it; ``reference`` holds its tensor arguments in the reference's run (paired rules only). A rule that
    merges the operation with one before it names in ``behind`` what its result hangs on instead of the operands. ``writes``: the spelling
    that writes into the first operand, where a rule may do so itself (``write``) instead of giving a new tensor, which the mode then copies.
    """

    name: str
    where: str
    func: Callable[..., Any]  # never writes into its operand
    mode: RuleMode
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    reference: list[Tensor] = field(default_factory=list)
    behind: list[Tensor] = field(default_factory=list)
    writes: Callable[..., Any] | None = None

    def plain(self) -> Any:
        """The operation's own result, without a graph."""
        with torch.no_grad():
            return self.func(*self.args, **self.kwargs)

    def write(self, target: Tensor) -> Tensor:
        """The result in the memory of the first operand, for a node of the graph that marks it as changed."""
        assert self.writes is not None
        self.mode.rescue(target)
        with torch.no_grad():
            self.writes(target, *self.args[1:], **self.kwargs)
        return target

    def absorb(self, amount: Tensor, why: str) -> Tensor:
        """``amount`` as a part of the result that no operand gets relevance for: what flows into it is counted under ``why``."""
        return self.mode.absorb(amount, self, why)

    def caveat(self, text: str) -> None:
        """Say on the map that a rule was chosen which no paper defines."""
        self.mode.caveats.setdefault(text, None)

    def steep(self, multiplier: Tensor) -> None:
        """Keep the largest multiplier seen."""
        if multiplier.numel():
            low, high = multiplier.detach().aminmax()
            self.mode.largest = max(self.mode.largest, -float(low), float(high))

    def __str__(self) -> str:
        return f"{self.name} in {self.where!r}" if self.where else self.name


@dataclass(eq=False)
class Kept:
    """Values that the way back needs, shared with the network's own tensor: copied only when somebody is about to write there."""

    value: Tensor
    copied: bool = False

    def rescue(self) -> None:
        self.value, self.copied = self.value.clone(), True


def live(value: Any) -> bool:
    """Whether a tensor depends on what is explained."""
    return isinstance(value, Tensor) and value.requires_grad
