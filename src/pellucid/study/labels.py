"""Labels of a study: which classes of the network they say are true."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pellucid.errors import BadParameter

NOTHING = "none"  # the word for "no class is true", where no class has that name
WHOLE = re.compile(r"([0-9]{1,18})(?:\.0+)?")  # 1.0 is what tables write for 1 where other cells are empty


def true_classes(label: Any, classes: Sequence[str], count: int, where: str) -> frozenset[int]:
    """Of ``count`` outputs those that a label says are true. Text is a class's name first, and a number only where no class has a number for a name;
    of one output 1 says that it is true, 0 that it is not. ``where`` the label stands is told with what is wrong.

    Raises:
        BadParameter: a label that is no class.

    >>> true_classes("DME", ("none", "DME"), 2, ""), true_classes("1", ("1", "2", "3"), 3, ""), true_classes("a;b", ("a;b",), 1, "")
    (frozenset({1}), frozenset({0}), frozenset({0}))
    """
    if getattr(label, "ndim", None) == 0:
        label = label.item()  # a tensor or array of one number
    if isinstance(label, Collection) and not isinstance(label, str | Mapping):
        return frozenset().union(*(true_classes(one, classes, count, where) for one in label))
    named = list(classes[:count])
    told = WHOLE.fullmatch(label) if isinstance(label, str) else None
    for name in (label, told and told[1]):
        if isinstance(name, str) and name in named:
            return frozenset({named.index(name)})
    if label == NOTHING:
        return frozenset()
    numbered = any(WHOLE.fullmatch(name) for name in named)
    number = _whole(label) if not isinstance(label, str) else int(told[1]) if told and not numbered else None
    if number is None or not 0 <= number < max(count, 2):
        raise BadParameter(f"a label that is {_allowed(named, count, numbered)}", f"{label!r} ({where})", _way_out(label, named))
    return frozenset({number} if count > 1 else {0} if number else ())


def _whole(label: Any) -> int | None:
    try:
        return int(label) if label == int(label) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _allowed(named: Sequence[str], count: int, numbered: bool) -> str:
    names = f"a class ({', '.join(map(repr, named))})" if named else ""
    index = "" if numbered else "0 or 1" if count == 1 else f"an index from 0 to {count - 1}"
    return ", or ".join(filter(None, (names, index, "" if NOTHING in named else repr(NOTHING))))


def _way_out(label: Any, named: Sequence[str]) -> str:
    folded = {name.casefold(): name for name in named}
    near = difflib.get_close_matches(str(label).casefold(), folded, 1)
    return f"Did you mean {folded[near[0]]!r}?" if near else "Correct it, or leave the cell empty where nothing is known."
