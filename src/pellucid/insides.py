"""Insides: what can be seen of a Python object from outside: its name, its library's release, its hidden state, the names that its code looks up."""

from __future__ import annotations

import functools
import operator
import random
import sys
import types
import weakref
from typing import Any

import torch

LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "skimage", "sklearn", "monai", "pellucid")  # their code is told by their version
HEAP = 1 << 9  # the flag of classes that Python code made


def path_in_graph(node: Any) -> list[str]:
    """By which names a graph's attribute is reached from the module."""
    found: list[str] = []
    while node.kind() == "prim::GetAttr":
        found.insert(0, node.s("name"))
        node = node.input().node()
    return found


def hidden_state(value: Any) -> Any:
    """All that counts of an object of the standard library, numpy or torch that keeps it out of sight; None of any other."""
    if isinstance(value, functools.cached_property):
        return value.func
    if isinstance(value, types.UnionType | types.GenericAlias):
        return getattr(value, "__origin__", None), value.__args__
    if isinstance(value, operator.itemgetter | operator.attrgetter | operator.methodcaller):
        return value.__reduce__()
    if isinstance(value, weakref.ReferenceType):
        return [value()]
    if isinstance(value, torch.Generator):
        return value.device, value.get_state()
    if type(value) is random.Random:
        return value.getstate()
    if type(value).__module__.startswith("numpy.random."):
        told = getattr(value, "bit_generator", value)  # of a Generator
        return told.get_state(legacy=False) if hasattr(told, "get_state") else told.state
    return None


def made_by_python(kind: type) -> bool:
    """Whether Python code made the class, so that its attributes and slots are all that its objects keep."""
    if kind is object:
        return True
    made = any(n in vars(c) for c in kind.__mro__ for n in ("__dict__", "__slots__"))
    return made and bool(kind.__flags__ & HEAP)


def listed(slots: Any) -> tuple[str, ...]:
    """Names of slots, of which a class may write one alone."""
    return (slots,) if isinstance(slots, str) else tuple(slots)


def name_of(value: Any) -> str:
    """Module and qualified name of an object, or of its class."""
    if isinstance(value, functools.partial):
        return f"partial of {name_of(value.func)}"
    home = getattr(value, "__module__", None) or getattr(getattr(value, "__objclass__", None), "__module__", None)
    name = str(getattr(value, "__qualname__", None) or type(value).__name__)
    return (name if home in (None, "builtins") else f"{home}.{name}").replace("_VariableFunctionsClass.", "")


@functools.cache
def release_of(home: str | None) -> str:
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


def globals_of(code: types.CodeType) -> set[str]:
    """The names that code looks up outside of itself; those of attributes are not among them."""
    import dis

    own = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*(globals_of(c) for c in code.co_consts if isinstance(c, types.CodeType)))
