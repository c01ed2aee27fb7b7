"""Described: how a network is described in texts, on a command line or in a file of a study, as ``load_model`` takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from pellucid.channels import Normalize
from pellucid.errors import BadParameter
from pellucid.model import Windows
from pellucid.params import named
from pellucid.prepare import Prepare

KINDS: dict[str, type] = {"prepare": Prepare, "normalize": Normalize, "windows": Windows}


def described(given: Mapping[str, Any], called: Callable[[str], str]) -> dict[str, Any]:
    """The arguments of ``load_model`` that describe a network; what is None is left out.

    Args:
        given: ``classes``: names, or one text with commas between them. ``prepare``, ``normalize``, ``windows``, ``options``: a table, or a text
            ``name=value, name=value``. ``select``: an index or a key, also as text. ``output``, ``ends_in``: as they are.
        called: how a name is written where it was given, for messages.

    Raises:
        BadParameter: what cannot be read.
    """
    found = {k: v for k, v in given.items() if v is not None}
    for key in ("prepare", "normalize", "windows", "options"):
        if key in found:
            values = named(called(key), found[key])
            found[key] = _made(KINDS[key], called(key), values) if key in KINDS else values
    if "classes" in found:
        found["classes"] = _names(called("classes"), found["classes"])
    if isinstance(select := found.get("select"), str) and select.isdecimal():
        found["select"] = int(select)
    if isinstance(select, list):
        found["select"] = tuple(select)
    return found


def _made(kind: type, what: str, values: Mapping[str, Any]) -> Any:
    takes = [f.name for f in fields(kind)]
    unknown = ", ".join(k for k in values if k not in takes)
    if unknown:
        raise BadParameter(f"{what} takes {', '.join(takes)}", unknown, f"See help(pellucid.{kind.__name__}).")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except (TypeError, ValueError) as error:
        if isinstance(error, BadParameter):
            raise
        given = ", ".join(f"{k}={v!r}" for k, v in values.items())
        raise BadParameter(
            f"{what} takes the values of {kind.__name__}", given or "none", f"See help(pellucid.{kind.__name__})."
        ) from error


def _names(what: str, given: Any) -> tuple[str, ...]:
    names = [c.strip() for c in given.split(",")] if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) and n for n in names):
        raise BadParameter(f"{what} takes names, with commas between them or as a list", repr(given), "For example 'healthy, disease'.")
    return tuple(names)
