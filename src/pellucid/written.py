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
import logging
import pathlib
import re
import types
import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.image import digest
from pellucid.insides import globals_of, hidden_state, listed, made_by_python, name_of, path_in_graph, release_of

SHORT = 12  # hex digits that stand for what cannot be read
SIMPLE = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), slice, range, enum.Enum)
PLAIN = (
    *SIMPLE,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
    torch.finfo,
    torch.iinfo,
    datetime.time,
    pathlib.PurePath,
    re.Pattern,
    datetime.date,
    datetime.timedelta,
)  # their repr tells everything
CONTENT = (tuple, list, dict, set, frozenset, OrderedDict, torch.Size)  # what these keep beside attributes is what they hold
CHANCE = {"monai.transforms.compose.Compose": "R"}  # made anew in every process, and nothing is drawn from it unless a person seeds it
MOST_THINGS, MOST_BYTES, MOST_DEEP, MOST_TEXT = 20_000, 2**28, 100, 2**12
_nameless: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_numbers = itertools.count()
_numbered: ContextVar[dict[str, None] | None] = ContextVar("numbered", default=None)


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


@contextmanager
def numbered() -> Iterator[dict[str, None]]:
    """The classes of what gets a number meanwhile: no other process writes it so."""
    found: dict[str, None] = {}
    before = _numbered.set(found)
    try:
        yield found
    finally:
        _numbered.reset(before)


def contents(module: nn.Module) -> dict[str, Any]:
    """All that a network computes with, by name: what it saves, and the buffers that it does not save."""
    saved = module.state_dict()
    return {**saved, **{name: t for name, t in module.named_buffers() if name not in saved}}


_BOOKS = {*vars(nn.Module()), "training"} - {"forward"}
_SCRIPT = {"_c", "_concrete_type", "_initializing", "forward"}  # of a TorchScript module, which is told by its graphs
_RECURRENT = {"_flat_weights", "_flat_weight_refs"}  # of nn.RNNBase: its parameters once more, which a copy has otherwise
_GRAPH = {"_graph", "_tracer_cls", "_lineno_map", "_prologue_start", "meta", "shape_env"}  # of torch.fx, whose forward tells the rest


class _Bounds:
    """What a text and those of all members of sets in it share: what they may cost, and the circle that they are in."""

    def __init__(self) -> None:
        self.things, self.bytes = 0, 0
        self.open: dict[int, int] = {}  # what is being written, by its level
        self.outermost = MOST_DEEP + 1  # level of the outermost open thing that a member of a set came back to
        self.members: dict[int, str] = {}  # texts of members that came back to nothing outside of them
        self.alive: list[Any] = []  # an id is somebody else's once its owner is gone


class _Writer:
    """One text in the making: what was told before is told by its place, so that circles end and what is shared is told once."""

    def __init__(self, bounds: _Bounds | None = None) -> None:
        self.told: dict[int, int] = {}
        self.bounds = bounds or _Bounds()

    def text(self, value: Any) -> str:
        if isinstance(value, PLAIN):
            return repr(value)
        if isinstance(value, types.ModuleType):
            return f"<module {value.__name__} {release_of(value.__name__)}>"
        if id(value) in self.told:
            return f"<thing {self.told[id(value)]}>"
        bounds = self.bounds
        if id(value) in bounds.open:  # the way here led through a set
            bounds.outermost = min(bounds.outermost, bounds.open[id(value)])
            return f"<{len(bounds.open) - bounds.open[id(value)]} up>"
        self.told[id(value)] = len(self.told)
        bounds.alive.append(value)
        self._spend(things=1)
        bounds.open[id(value)] = len(bounds.open)
        try:
            return self._inside(value)
        finally:
            del bounds.open[id(value)]

    def _spend(self, things: int = 0, size: int = 0) -> None:
        self.bounds.things += things
        self.bounds.bytes += size
        if self.bounds.things > MOST_THINGS or self.bounds.bytes > MOST_BYTES or len(self.bounds.open) > MOST_DEEP:
            raise _TooMuch

    def _member(self, value: Any) -> str:
        """A member of a set, by a writer of its own, since members come in no order: the same text wherever it is met, so it is made once."""
        if value is None or isinstance(value, PLAIN):
            return written(value)
        bounds, level = self.bounds, len(self.bounds.open)
        text = bounds.members.get(id(value))
        if text is None:
            before, bounds.outermost = bounds.outermost, level
            try:
                text = _Writer(bounds).text(value)
            except (_TooMuch, RecursionError):
                raise
            except Exception:
                text = _number(value)
            text = text if len(text) <= MOST_TEXT else f"<{name_of(type(value))} {digest(text)}>"
            if bounds.outermost == level:
                bounds.members[id(value)] = text
            bounds.outermost = min(before, bounds.outermost)
        self._spend(things=1, size=len(text))
        return text

    def _inside(self, value: Any) -> str:
        if isinstance(value, type):
            return f"<{self._class(value)}>"
        if isinstance(value, Tensor):
            dense = value.layout == torch.strided and not value.is_meta and not value.is_nested
            return f"<tensor {tuple(value.shape)} {self._hash(value.resolve_conj().resolve_neg())}>" if dense else _number(value)
        if isinstance(value, np.generic) and value.dtype != object:
            return f"<{name_of(type(value))} {value.dtype.str} {value.tobytes().hex()}>"
        if isinstance(value, np.dtype):
            return f"<dtype {value!r}>"
        if isinstance(value, np.ndarray):
            return f"<array {value.shape} {value.dtype} {self._hash(value)}>" if value.dtype != object else _number(value)
        if isinstance(value, nn.Module):
            state = [f"{k}={self.text(t)}" for k, t in contents(value).items()]
            return f"<{name_of(type(value))} {digest(self.network(value), *state)[:SHORT]}>"
        if isinstance(value, types.FunctionType | types.MethodType | functools.partial):
            return f"<{name_of(value)} {digest(self._function(value))[:SHORT]}>"
        if isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType | np.ufunc):
            owner = getattr(value, "__self__", None)
            held = "" if owner is None or isinstance(owner, type | types.ModuleType) else f" of {self.text(owner)}"
            return f"<{name_of(value)}{held}>"
        if isinstance(value, logging.Logger):  # what it does with a message changes no result
            return f"<logger {value.name}>"
        if isinstance(value, torch.jit.ScriptFunction):
            return f"<torch.jit.ScriptFunction {digest(self._graph(value.inlined_graph, None))[:SHORT]}>"
        state = hidden_state(value)
        return self._holder(value) if state is None else f"<{name_of(type(value))} {digest(self.text(state))[:SHORT]}>"

    def _holder(self, value: Any) -> str:
        """Collections, and objects by their class and state."""
        if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections", "types"):
            return self._items(value)
        if isinstance(value, Set) and type(value).__module__ == "builtins":
            return "{" + ", ".join(sorted(self._member(v) for v in value)) + "}"
        if isinstance(value, Sequence) and type(value).__module__ in ("builtins", "collections"):
            return f"{type(value).__name__}(" + ", ".join(self.text(v) for v in value) + ")"
        kind: Any = type(value)
        if dataclasses.is_dataclass(value):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            plain = all(isinstance(v, PLAIN) or (isinstance(v, tuple) and all(isinstance(x, PLAIN) for x in v)) for v in fields.values())
            if plain and kind.__module__.partition(".")[0] == "pellucid":  # another's may hold folders, names, secrets
                return repr(value)
            return f"<{name_of(kind)} {digest(self.text(kind), self._items(fields))[:SHORT]}>"
        if not all(c in CONTENT or made_by_python(c) for c in kind.__mro__):  # written in C: it may keep more than it shows
            return _number(value)
        slots = [n for c in kind.__mro__ for n in listed(vars(c).get("__slots__", ())) if n not in ("__weakref__", "__dict__")]
        state = {**getattr(value, "__dict__", {}), **{n: getattr(value, n) for n in slots if hasattr(value, n)}}
        state = {k: v for k, v in state.items() if k != CHANCE.get(name_of(kind))}
        return f"<{name_of(kind)} {digest(self.text(kind), self._items(state), *self._content(value))[:SHORT]}>"

    def _content(self, value: Any) -> list[str]:
        if isinstance(value, dict):
            return [self._items(dict(value.items()))]
        if isinstance(value, set | frozenset):
            return sorted(self._member(v) for v in value)
        return [self.text(v) for v in value] if isinstance(value, tuple | list) else []

    def network(self, module: nn.Module) -> str:
        """Every module by name; those below it are told by their names, wherever they are met again."""
        parts = []
        tree = list(module.named_modules())
        for _, part in tree:
            self.told.setdefault(id(part), len(self.told))
            self.bounds.alive.append(part)
        self._spend(things=len(tree))
        for name, part in tree:
            script, graph = isinstance(part, torch.jit.ScriptModule), isinstance(part, torch.fx.GraphModule)
            books = _BOOKS | (_SCRIPT if script else _GRAPH if graph else _RECURRENT if isinstance(part, nn.RNNBase) else set())
            own = {k: v for k, v in vars(part).items() if k not in books and not (isinstance(v, nn.Module) and id(v) in self.told)}
            tensors = [f"{k}{tuple(t.shape)}" for k, t in (*part._parameters.items(), *part._buffers.items()) if t is not None]
            hooks = [
                h for h in (*part._forward_hooks.values(), *part._forward_pre_hooks.values()) if not name_of(h).startswith("pellucid.")
            ]
            parts.append(f"{name}:{self.text(type(part))}{tensors}{self._items(own)}{[self.text(h) for h in hooks]}")
            parts += self._script(part) if script else [self.text(type(part).forward)] if graph else []
        return "\n".join(parts)

    def _script(self, module: Any) -> list[str]:
        """What a TorchScript module runs: the graphs of its methods, with all that they call."""
        return [f"{n} {self._graph(module._c._get_method(n).inlined_graph, module)}" for n in sorted(module._c._method_names())]

    def _graph(self, graph: Any, module: Any) -> str:
        """A graph without the places of its source and the counts of its process, with the constants and attributes that it reads."""
        held = []
        for node in graph.findAllNodes("prim::Constant", True):
            if node.hasAttribute("value") and node.kindOf("value") in ("t", "ts", "ival"):
                held.append(self.text(node.output().toIValue()))
        for node in graph.findAllNodes("prim::GetAttr", True):
            path = path_in_graph(node)
            *above, name = path
            owner = functools.reduce(getattr, above, module)
            value = getattr(owner, name)
            if not isinstance(value, nn.Module) and name not in (*owner._parameters.keys(), *owner._buffers.keys()):
                held.append(f"{'.'.join(path)}={self.text(value)}")
        return "\n".join([_MANGLED.sub("", graph.str(False)), *held])

    def _class(self, kind: type) -> str:
        """A class with the code of its own methods and the functions and settings that they name; of a library's, its name and version."""
        own = []
        for c in kind.__mro__:
            if c.__module__ == "builtins" or release_of(c.__module__):
                own.append(f"{name_of(c)} {release_of(c.__module__)}")
                continue
            for n, held in vars(c).items():
                if isinstance(held, staticmethod | classmethod | property):
                    held = held.fget if isinstance(held, property) else held.__func__
                if isinstance(held, types.FunctionType):
                    own.append(f"{n}{self.text(held)}")
                elif not (n.startswith("__") or n == "_abc_impl" or isinstance(held, _PLACES)):
                    own.append(f"{n}={self.text(held)}")
        return f"{name_of(kind)} {digest(*own)[:SHORT]}"

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
        if release := release_of(value.__module__):
            return "\n".join([release, name_of(value), *told])
        named = {n: value.__globals__[n] for n in sorted(globals_of(value.__code__)) if n in value.__globals__}
        return "\n".join([_bytecode(value.__code__), *told, self._items(named)])

    def _hash(self, values: Tensor | Any) -> str:
        self._spend(size=values.nbytes)
        return (digest(values) if isinstance(values, Tensor) else digest(np.ascontiguousarray(values).tobytes()))[:SHORT]


_Pair = namedtuple("_Pair", "first")
_PLACES = (types.MemberDescriptorType, types.GetSetDescriptorType, type(vars(_Pair)["first"]))
_MANGLED = re.compile(r"___torch_mangle_\d+\.")


def _bytecode(code: types.CodeType) -> str:
    constants = [_bytecode(c) if isinstance(c, types.CodeType) else written(c) for c in code.co_consts]
    return f"{code.co_code.hex()}{constants}{code.co_names}{code.co_varnames}"


def _number(value: Any) -> str:
    """A name that only this object has, in this process."""
    try:
        number = _nameless.setdefault(value, next(_numbers))
    except Exception:  # it can neither be hashed nor followed: equal to nothing, not even to itself, since its address is soon another's
        number = next(_numbers)
    found = _numbered.get()
    if found is not None:
        found[name_of(type(value))] = None
    return f"<{name_of(type(value))} number {number} of {_process()}>"


@functools.cache
def _process() -> str:
    import uuid

    return uuid.uuid4().hex[:SHORT]
