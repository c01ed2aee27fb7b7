"""Forms: what a page must ask for to call a method, made from the method's own signature, kinds and docstring."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pellucid import attribution as attribution  # registers the methods
from pellucid.baseline import NAMED
from pellucid.errors import BadParameter
from pellucid.method import COMPLETE, CONSERVING, SIGNED, Method, methods, read_method
from pellucid.params import Distance, kind_of
from pellucid.report.words import title

OBJECTS = frozenset({"map"})  # kinds that no text can give
NUMBERS = {"count": (1.0, None, 1.0), "fraction": (0.0, 1.0, None), "positive": (0.0, None, None), "weight": (0.0, None, None)}


@dataclass(frozen=True)
class Field:
    """One parameter. ``kind`` is its kind in ``pellucid.params``; ``choices`` are all values, ``ideas`` some; ``default`` is text (None: left open)."""

    name: str
    kind: str
    wants: str
    says: str
    optional: bool
    default: str | None
    choices: tuple[str, ...] = ()
    ideas: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None


@dataclass(frozen=True)
class Form:
    """A method as a page shows it before it is run."""

    name: str
    title: str
    says: str
    misleads: str
    source: str
    space: tuple[int, ...]
    where: str
    gives: tuple[str, ...]
    random: bool
    hears_weights: bool
    hears_target: bool
    fields: tuple[Field, ...] = field(default_factory=tuple)


def forms() -> list[Form]:
    """Every registered method."""
    return [form(m) for m in methods()]


def form(m: Method[Any]) -> Form:
    """One method's form."""
    doc = inspect.cleandoc(m.fn.__doc__ or "")
    told, facts = _arguments(doc, m.params), m.facts
    promises = (("signed", SIGNED), ("complete", COMPLETE), ("conserving", CONSERVING))
    return Form(
        m.name, title(m.name), doc.splitlines()[0], part(doc, "Misleads when"), str(facts.cite), tuple(sorted(facts.space)),
        facts.where.name.lower(), tuple(name for name, flag in promises if flag in facts.gives), facts.random, facts.hears_weights,
        facts.hears_target, tuple(_field(m, name, told.get(name, "")) for name in m.params if kind_of(m.hints[name])[0].name not in OBJECTS),
    )  # fmt: skip


def part(doc: str, name: str) -> str:
    """A fixed part of a docstring in one line, such as *Misleads when*."""
    found = re.search(rf"^{name}: *(.+?)(?=\n\s*\n|\n\S|\Z)", doc, re.M | re.S)
    return " ".join(found[1].split()) if found else ""


def bound(name: str, params: Mapping[str, Any]) -> Method[Any]:
    """A method with parameters as a form gives them: text, numbers, true or false; what is left out keeps its default.

    Raises:
        BadParameter: no such method, or a value that its kind refuses.
    """
    if not name.isidentifier():
        raise BadParameter("the name of a method", repr(name[:80]), "Choose one of the list.")
    m = read_method(name)
    unknown = [k for k in params if k not in m.params]
    if unknown:
        raise BadParameter(f"a parameter of {m.name}", ", ".join(map(repr, unknown))[:200], f"It takes {', '.join(m.params) or 'none'}.")
    return m(**{k: _meant(kind_of(m.hints[k])[0].name, v) for k, v in params.items()})


def _meant(kind: str, value: Any) -> Any:
    """Text as the value that it spells: a number, a list, True; or itself where it is a name, a length or a call."""
    if not isinstance(value, str) or kind in ("choice", "method"):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value.strip()


def _field(m: Method[Any], name: str, says: str) -> Field:
    hint, value = m.hints[name], m.params[name]
    kind, optional = kind_of(hint)
    low, high, step = NUMBERS.get(kind.name, (None, None, None))
    choices = tuple(str(a) for a in _options(hint)) if kind.name == "choice" else ()
    return Field(name, kind.name, kind.wants, says, optional, _text(value), choices, _ideas(kind.name), low, high, step)


def _options(hint: Any) -> tuple[Any, ...]:
    """The values of a Literal, also of one that may be None."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    return next((typing.get_args(a) for a in typing.get_args(hint) if typing.get_origin(a) is typing.Literal), ())


def _ideas(kind: str) -> tuple[str, ...]:
    if kind == "baseline":
        return (*NAMED, "0", "random(8)", "blurred(4)")
    if kind == "method":
        return tuple(m.name for m in methods())
    return ("slic(50)", "slic(100)", "felzenszwalb(100)", "quickshift(3)") if kind == "segments" else ()


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return f"{value.value:g}{value.unit or ''}" if isinstance(value, Distance) else repr(value).strip("'")


def _arguments(doc: str, names: Iterable[str]) -> dict[str, str]:
    """What the docstring says of each parameter; several may stand in one line."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.M)
    text = " ".join(section[1].split()) if section else ""
    parts = re.split(rf"(?<!\w)({'|'.join(map(re.escape, names)) or '$.'}): ", text)
    return {name: said.strip() for name, said in zip(parts[1::2], parts[2::2], strict=True)}
