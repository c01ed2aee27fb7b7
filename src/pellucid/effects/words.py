"""Numbers and lists in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def amount(value: float, unit: str = "") -> str:
    """A number with its unit, in at most four figures."""
    text = f"{value:.4g}"
    return f"{text} {unit}" if unit else text


def counted(n: int, what: str = "case") -> str:
    """``1 case``, ``3 cases``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def joined(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def ranges(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> list[str]:
    """Neighboring chosen values as ranges: ``up to 3``, ``from 5 to 7``, ``from 9 on``."""
    found, at, last = [], 0, len(values) - 1
    while at <= last:
        if not chosen[at]:
            at += 1
            continue
        end = at
        while end < last and chosen[end + 1]:
            end += 1
        low, high = amount(float(values[at])), amount(float(values[end]))
        if at == 0 and end == last:
            found.append("all values")
        elif at == 0:
            found.append(f"values up to {high}")
        elif end == last:
            found.append(f"values from {low} on")
        else:
            found.append(low if at == end else f"values from {low} to {high}")
        at = end + 1
    return found
