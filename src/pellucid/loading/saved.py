"""Maps read back from disk, with the question that they answer, so that it can be asked again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pellucid import explanation
from pellucid.errors import PellucidError
from pellucid.explanation import Map
from pellucid.method import Ask, read_method
from pellucid.target import read_target


def load(path: str | Path) -> Map:
    """Read a Map back from the ``.npz`` that ``Map.save`` wrote; every number is as it was (lists come back as tuples).

    Its question comes back too, as ``why.ask``, where text can hold it: not a target that was a function, nor a region that was drawn.

    Raises:
        BadFile: no map in it, or one that a newer Pellucid wrote.
    """
    why = explanation.load(path)
    return replace(why, ask=_ask(why))


def _ask(why: Map) -> Ask | None:
    """The question, if it says of itself exactly what was written."""
    said = why.provenance
    try:
        found = Ask(read_method(said.method), read_target(said.target), None if said.site == "input" else said.site)
    except (PellucidError, ValueError):
        return None
    return found if (repr(found.method), repr(found.target)) == (said.method, said.target) else None
