"""Written: a text for any value, the same for equal values and another for others. Provenance shows it, and stores keep results by it.

It never fails and its cost is bounded: what is too large, too deep or closed to looking gets a number that nothing else in this process has, so that
nothing is ever taken for something that it may not be.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import itertools
import pathlib
import re
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
SIMPLE = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), slice, range, enum.Enum)
PLAIN = (*SIMPLE, torch.dtype, torch.device, pathlib.PurePath, re.Pattern, datetime.date, datetime.timedelta)  # their repr tells everything
HEAP = 1 << 9  # the flag of classes that Python code made
MOST_THINGS, MOST_BYTES, MOST_DEEP = 20_000, 2**28, 100
_nameless: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_numbers = itertools.count()


class _TooMuch(Exception):
    """More than is worth to be written."""


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
    if value is None:
        return ""
    try:
        return _Writer().text(value)
    except Exception:
        return _number(value)


def structure(module: nn.Module) -> str:
    """A text for a network without its weights: names, classes, settings, hooks, shapes of parameters, and the code that it runs.

    What a pass leaves in the network (a counter, its last activations) belongs to it: such a network has another text afterwards.
    """
    try:
        return digest(_Writer().network(module))
    except Exception:
        return _number(module)


_BOOKS = {*vars(nn.Module()), "training"} - {"forward"}


class _Writer:
    """One text in the making: what was told before is told by its place, so that circles end and what is shared is told once."""

    def __init__(self) -> None:
        self.told: dict[int, int] = {}
        self.alive: list[Any] = []  # an id is somebody else's once its owner is gone
        self.bytes, self.deep = 0, 0

    def text(self, value: Any) -> str:
        if isinstance(value, PLAIN):
            return repr(value)
        if isinstance(value, types.ModuleType):
            return f"<module {value.__name__} {_release(value.__name__)}>"
        if id(value) in self.told:
            return f"<thing {self.told[id(value)]}>"
        self.told[id(value)] = len(self.told)
        self.alive.append(value)
        if len(self.told) > MOST_THINGS or self.deep > MOST_DEEP:
            raise _TooMuch
        self.deep += 1
        try:
            return self._inside(value)
        finally:
            self.deep -= 1

    def _inside(self, value: Any) -> str:
        if isinstance(value, type):
            return f"<{self._class(value)}>"
        if isinstance(value, Tensor):
            dense = value.layout == torch.strided and not value.is_meta and not value.is_nested
            return f"<tensor {tuple(value.shape)} {self._hash(value.resolve_conj().resolve_neg())}>" if dense else _number(value)
        if isinstance(value, np.ndarray):
            return f"<array {value.shape} {value.dtype} {self._hash(value)}>" if value.dtype != object else _number(value)
        if isinstance(value, nn.Module):
            state = [f"{k}={self.text(t)}" for k, t in value.state_dict().items()]
            return f"<{_name(type(value))} {digest(self.network(value), *state)[:SHORT]}>"
        if isinstance(value, types.FunctionType | types.MethodType | functools.partial):
            return f"<{_name(value)} {digest(self._function(value))[:SHORT]}>"
        if isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType | np.ufunc):
            owner = getattr(value, "__self__", None)
            held = "" if owner is None or isinstance(owner, type | types.ModuleType) else f" of {self.text(owner)}"
            return f"<{_name(value)}{held}>"
        return self._holder(value)

    def _holder(self, value: Any) -> str:
        """Collections, and objects by their class and state."""
        if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections", "types"):
            return self._items(value)
        if isinstance(value, Set) and type(value).__module__ == "builtins":
            return "{" + ", ".join(sorted(written(v) for v in value)) + "}"
        if isinstance(value, Sequence) and type(value).__module__ in ("builtins", "collections"):
            return f"{type(value).__name__}(" + ", ".join(self.text(v) for v in value) + ")"
        kind: Any = type(value)
        if dataclasses.is_dataclass(value):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            if all(isinstance(v, PLAIN) or (isinstance(v, tuple) and all(isinstance(x, PLAIN) for x in v)) for v in fields.values()):
                return repr(value)
            return f"<{_name(kind)} {digest(self.text(kind), self._items(fields))[:SHORT]}>"
        if not all(_of_python(c) for c in kind.__mro__):  # written in C: it may keep more than it shows
            return _number(value)
        slots = [n for c in kind.__mro__ for n in _listed(vars(c).get("__slots__", ())) if n not in ("__weakref__", "__dict__")]
        state = {**getattr(value, "__dict__", {}), **{n: getattr(value, n) for n in slots if hasattr(value, n)}}
        return f"<{_name(kind)} {digest(self.text(kind), self._items(state))[:SHORT]}>"

    def network(self, module: nn.Module) -> str:
        """Every module by name; those below it are told by their names, wherever they are met again."""
        parts = []
        tree = list(module.named_modules())
        for _, part in tree:
            self.told.setdefault(id(part), len(self.told))
            self.alive.append(part)
        for name, part in tree:
            own = {k: v for k, v in vars(part).items() if k not in _BOOKS and not (isinstance(v, nn.Module) and id(v) in self.told)}
            tensors = [f"{k}{tuple(t.shape)}" for k, t in (*part._parameters.items(), *part._buffers.items()) if t is not None]
            hooks = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]
            parts.append(f"{name}:{self.text(type(part))}{tensors}{self._items(own)}{[self.text(h) for h in hooks]}")
        return "\n".join(parts)

    def _class(self, kind: type) -> str:
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
                    own.append(f"{n}{self.text(held)}")
                elif not n.startswith("__") and not isinstance(held, types.MemberDescriptorType | types.GetSetDescriptorType):
                    own.append(f"{n}={self.text(held)}")
        return f"{_name(kind)} {digest(*own)[:SHORT]}"

    def _items(self, held: Mapping[Any, Any]) -> str:
        return "{" + ", ".join(f"{self.text(k)}: {self.text(v)}" for k, v in held.items()) + "}"

    def _function(self, value: Any) -> str:
        if isinstance(value, functools.partial):
            return f"{self.text(value.func)}{self.text(value.args)}{self._items(value.keywords)}"
        if isinstance(value, types.MethodType):
            return f"{self.text(value.__func__)} of {self.text(value.__self__)}"
        held = []
        for cell in value.__closure__ or ():
            try:
                held.append(self.text(cell.cell_contents))
            except ValueError:  # not filled yet
                held.append("<empty>")
        told = [*held, self.text(value.__defaults__ or ()), self._items(value.__kwdefaults__ or {})]
        if release := _release(value.__module__):
            return "\n".join([release, _name(value), *told])
        named = {n: value.__globals__[n] for n in sorted(_globals(value.__code__)) if n in value.__globals__}
        return "\n".join([_bytecode(value.__code__), *told, self._items(named)])

    def _hash(self, values: Tensor | Any) -> str:
        self.bytes += values.nbytes
        if self.bytes > MOST_BYTES:
            raise _TooMuch
        return (digest(values) if isinstance(values, Tensor) else digest(np.ascontiguousarray(values).tobytes()))[:SHORT]


def _of_python(kind: type) -> bool:
    """Whether Python code made the class, so that its attributes and slots are all that its objects keep."""
    if kind is object:
        return True
    made = any(n in vars(c) for c in kind.__mro__ for n in ("__dict__", "__slots__"))
    return made and bool(kind.__flags__ & HEAP)


def _listed(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _name(value: Any) -> str:
    if isinstance(value, functools.partial):
        return f"partial of {_name(value.func)}"
    home = getattr(value, "__module__", None) or getattr(getattr(value, "__objclass__", None), "__module__", None)
    name = str(getattr(value, "__qualname__", None) or type(value).__name__)
    return (name if home in (None, "builtins") else f"{home}.{name}").replace("_VariableFunctionsClass.", "")


@functools.cache
def _release(home: str | None) -> str:
    """The library that a module belongs to, with its version; an empty text for anybody's own code."""
    from importlib import metadata

    top = str(home).partition(".")[0]
    if top in sys.stdlib_module_names and top != "__main__":
        return "python " + sys.version.split()[0]
    if top not in LIBRARIES:
        return ""
    try:
        return f"{top} {metadata.version(top)}"
    except metadata.PackageNotFoundError:  # run from its source, or named otherwise than its module
        return f"{top} {getattr(sys.modules.get(top), '__version__', '')}"


def _globals(code: types.CodeType) -> set[str]:
    """The names that code looks up outside of itself; those of attributes are not among them."""
    import dis

    own = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*(_globals(c) for c in code.co_consts if isinstance(c, types.CodeType)))


def _bytecode(code: types.CodeType) -> str:
    constants = [_bytecode(c) if isinstance(c, types.CodeType) else written(c) for c in code.co_consts]
    return f"{code.co_code.hex()}{constants}{code.co_names}{code.co_varnames}"


def _number(value: Any) -> str:
    """A name that only this object has, in this process."""
    try:
        number = _nameless.setdefault(value, next(_numbers))
    except Exception:  # it can neither be hashed nor followed
        number = id(value)
    return f"<{_name(type(value))} number {number} of {_process()}>"


@functools.cache
def _process() -> str:
    import uuid

    return uuid.uuid4().hex[:SHORT]
