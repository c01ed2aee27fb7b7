"""Written: a text for any value, the same for equal values and another for others. Provenance shows it, and stores keep results by it."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import itertools
import sys
import types
import weakref
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.image import digest

SHORT = 12  # hex digits that stand for what cannot be read
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "skimage", "sklearn", "monai", "pellucid")  # their code is told by their version
PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), torch.dtype, torch.device)
_nameless: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_numbers = itertools.count()


def written(value: Any) -> str:
    """A text for a step, a target's function or a setting: its repr where that tells everything, else its name and a digest.

    The digest of a function covers its code, defaults, what it closes over and the globals that it names; that of an object its class
    and state. What cannot be looked into (a socket, a C extension's object) gets a number that no other object of this process has.
    An empty text stands for None.

    >>> written(torch.relu), written(0.5)
    ('<torch.relu>', '0.5')
    >>> make = lambda k: lambda out: out[:, k]
    >>> written(make(0)) == written(make(0)), written(make(0)) == written(make(1))
    (True, False)
    """
    return "" if value is None else _text(value, ())


def structure(module: nn.Module) -> str:
    """A text for a network without its weights: names, classes, settings, hooks, shapes of parameters, and the code that it runs."""
    parts = []
    for name, part in module.named_modules():
        kind: Any = type(part)
        own = {k: v for k, v in vars(part).items() if k not in _BOOKS and not isinstance(v, nn.Module)}
        tensors = [f"{k}{tuple(t.shape)}" for k, t in (*part._parameters.items(), *part._buffers.items()) if t is not None]
        hooks = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]
        told = f"{name}:{_code_of(kind)}{tensors}{_items(own, (part,))}{[_text(h, (part,)) for h in hooks]}"
        parts.append(told)
    return digest("\n".join(parts))


_BOOKS = {*vars(nn.Module()), "training"} - {"forward"}


def _text(value: Any, above: tuple[Any, ...]) -> str:
    """``above``: the values that hold this one, so that a circle ends."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, type | types.ModuleType):
        return f"<{getattr(value, '__module__', '')}.{value.__name__}>"
    if any(value is a for a in above):
        return "<itself>"
    inside = (*above, value)
    if isinstance(value, Tensor):
        return f"<tensor {tuple(value.shape)} {digest(value)[:SHORT]}>" if value.layout == torch.strided else _number(value)
    if isinstance(value, np.ndarray):
        return f"<array {value.shape} {digest(str(value.dtype), value.tobytes())[:SHORT]}>" if value.dtype != object else _number(value)
    if isinstance(value, nn.Module):
        state = [f"{k}={_text(t, inside)}" for k, t in value.state_dict().items()]
        return f"<{_name(type(value))} {digest(structure(value), *state)[:SHORT]}>"
    if isinstance(value, types.FunctionType | types.MethodType | functools.partial):
        return f"<{_name(value)} {digest(_function(value, inside))[:SHORT]}>"
    if isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType | np.ufunc):
        return f"<{_name(value)}>"
    return _holder(value, inside)


def _holder(value: Any, inside: tuple[Any, ...]) -> str:
    """Collections, and objects by their class and state."""
    if isinstance(value, Mapping):
        return _items(value, inside)
    if isinstance(value, Set):
        return "{" + ", ".join(sorted(_text(v, inside) for v in value)) + "}"
    if isinstance(value, Sequence):
        return f"{type(value).__name__}(" + ", ".join(_text(v, inside) for v in value) + ")"
    kind: Any = type(value)
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        if all(isinstance(v, PLAIN) or (isinstance(v, tuple) and all(isinstance(x, PLAIN) for x in v)) for v in fields.values()):
            return repr(value)
        return f"<{_name(kind)} {digest(_code_of(kind), _items(fields, inside))[:SHORT]}>"
    if kind.__repr__ is not object.__repr__ and " at 0x" not in repr(value):
        return repr(value)
    if not hasattr(value, "__dict__"):
        return _number(value)
    return f"<{_name(kind)} {digest(_code_of(kind), _items(vars(value), inside))[:SHORT]}>"


def _items(held: Mapping[Any, Any], inside: tuple[Any, ...]) -> str:
    return "{" + ", ".join(f"{_text(k, inside)}: {_text(v, inside)}" for k, v in held.items()) + "}"


def _name(value: Any) -> str:
    if isinstance(value, functools.partial):
        return f"partial of {_name(value.func)}"
    home = getattr(value, "__module__", None) or getattr(getattr(value, "__objclass__", None), "__module__", None)
    name = str(getattr(value, "__qualname__", None) or type(value).__name__)
    return (name if home in (None, "builtins") else f"{home}.{name}").replace("_VariableFunctionsClass.", "")


def _function(value: Any, inside: tuple[Any, ...]) -> str:
    if isinstance(value, functools.partial):
        return f"{_text(value.func, inside)}{_text(value.args, inside)}{_items(value.keywords, inside)}"
    if isinstance(value, types.MethodType):
        return f"{_text(value.__func__, inside)} of {_text(value.__self__, inside)}"
    held = []
    for cell in value.__closure__ or ():
        try:
            held.append(_text(cell.cell_contents, inside))
        except ValueError:  # not filled yet
            held.append("<empty>")
    told = [*held, _text(value.__defaults__ or (), inside), _items(value.__kwdefaults__ or {}, inside)]
    release = _release(value.__module__)
    if release:
        return "\n".join([release, _name(value), *told])
    named = {n: value.__globals__[n] for n in sorted(_names(value.__code__)) if n in value.__globals__}
    return "\n".join([_bytecode(value.__code__), *told, _items(named, inside)])


@functools.cache
def _release(home: str | None) -> str:
    """The library that a module belongs to, with its version; an empty text for anybody's own code."""
    top = str(home).partition(".")[0]
    if top not in LIBRARIES:
        return ""
    try:
        return f"{top} {importlib.metadata.version(top)}"
    except importlib.metadata.PackageNotFoundError:  # run from its source, or named otherwise than its module
        return f"{top} {getattr(sys.modules.get(top), '__version__', '')}"


def _names(code: types.CodeType) -> set[str]:
    return {*code.co_names, *(n for c in code.co_consts if isinstance(c, types.CodeType) for n in _names(c))}


def _bytecode(code: types.CodeType) -> str:
    constants = [_bytecode(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()}{constants}{code.co_names}{code.co_varnames}"


@functools.cache
def _code_of(kind: type) -> str:
    """A class with the code of its own methods and the functions and settings that they name; of a library's, its name and version."""
    own = []
    for c in kind.__mro__:
        if c.__module__ == "builtins" or _release(c.__module__):
            own.append(f"{_name(c)} {_release(c.__module__)}")
            continue
        for n, held in vars(c).items():
            if isinstance(held, staticmethod | classmethod | property):
                held = held.fget if isinstance(held, property) else held.__func__
            if isinstance(held, types.FunctionType):
                own.append(f"{n}{_function(held, (kind,))}")
            elif isinstance(held, (*PLAIN, tuple)) and not n.startswith("__"):
                own.append(f"{n}={_text(held, (kind,))}")
    return f"{_name(kind)} {digest(*own)[:SHORT]}"


def _number(value: Any) -> str:
    """A name that only this object has, in this process."""
    try:
        number = _nameless.setdefault(value, next(_numbers))
    except TypeError:  # it can neither be hashed nor followed
        number = id(value)
    return f"<{_name(type(value))} number {number} of {_process()}>"


@functools.cache
def _process() -> str:
    import uuid

    return uuid.uuid4().hex[:SHORT]
