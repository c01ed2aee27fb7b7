"""Places: where marked samples lie, in words that hold for every part of them. Never a side of the patient, of whom a picture may show a part."""

from __future__ import annotations

import numpy as np

CELLS = 32  # along each axis: marked cells that touch are one part
COUNTS = 0.1  # of all that is marked: a part that is told
HOLDS = 0.5  # of all that is marked: what the told parts hold at least
MOST = 0.9  # below this share the words say "mostly"
NEARLY = 0.75  # below this share they say in how many more places the rest lies
SEVERAL = 4  # more places than this are counted, not told
Third = tuple[int, ...]  # for each axis -1, 0 or 1: its beginning, its middle, its end


def in_words(mass: np.ndarray, sided: bool) -> str:
    """Where ``mass``, in viewing order, lies: one place, several, or their number; "" where nothing short is true of it. ``sided``: a volume has letters."""
    count, parts = _parts(mass)
    told: dict[Third, float] = {}
    others = count
    for part, share in parts:
        if (third := _third(part)) is not None:
            told[third] = told.get(third, 0.0) + share
            others -= 1
    held = sum(told.values())
    if len(told) > SEVERAL or held < HOLDS:
        return f"in {count} separate places" if count > 1 else ""
    if mass.ndim == 3 and not sided:
        return f"in {len(told)} separate places" if len(told) > 1 else ""
    mostly = "mostly " if held < MOST else ""
    rest = f", less of it in {f'{others} more places' if others > 1 else 'one more place'}" if held < NEARLY else ""
    names = [_edges(third) if mass.ndim == 3 else _corner(third) for third in sorted(told, key=lambda t: -told[t])]
    if len(names) > 1:
        return f"{mostly}in {len(names)} separate places: {'; '.join(names)}{rest}"
    if mass.ndim == 3:
        return mostly + names[0] + rest
    return f"{mostly}{'near the middle' if not any(*told) else f'in the {names[0]} part'} of the picture{rest}"


def _parts(mass: np.ndarray) -> tuple[int, list[tuple[np.ndarray, float]]]:
    """How many parts there are, that touch nowhere, not even across corners; of those that count (samples, axes and mass) and the share of all."""
    from scipy import ndimage

    at = np.stack(np.nonzero(mass))
    weights = mass[tuple(at)]
    cells = tuple(min(n, CELLS) for n in mass.shape)
    cell = tuple(row * c // n for row, c, n in zip(at, cells, mass.shape, strict=True))
    marked = np.zeros(cells, dtype=bool)
    marked[cell] = True
    numbers, count = ndimage.label(marked, np.ones((3,) * mass.ndim))
    of = numbers[cell]
    shares = np.bincount(of, weights, count + 1) / weights.sum()
    where = np.vstack([(at + 0.5) / np.array(mass.shape)[:, None], weights])  # each axis from 0 to 1
    return int(count), [(where[:, of == n], float(shares[n])) for n in np.flatnonzero(shares >= COUNTS)]


def _third(part: np.ndarray) -> Third | None:
    """Where a part's center lies along each axis; None where the part itself does not lie there, as a ring's does not."""
    at, weights = part[:-1], part[-1] / part[-1].sum()
    center = (at * weights).sum(1)
    third = tuple(-1 if c < 0.4 else 1 if c > 0.6 else 0 for c in center)
    within = [(row < 0.4) if t < 0 else (row > 0.6) if t > 0 else (row >= 0.4) & (row <= 0.6) for row, t in zip(at, third, strict=True)]
    around = [(row < 0.5) if t < 0 else (row > 0.5) if t > 0 else (row > 0.25) & (row < 0.75) for row, t in zip(at, third, strict=True)]
    return third if np.all(within, 0).any() and float(weights[np.all(around, 0)].sum()) >= 0.5 else None


def _edges(third: Third) -> str:
    """Toward which edges of a volume, by their letters."""
    letters = [ends[t + 1] for t, ends in zip(third, (("R", "", "L"), ("A", "", "P"), ("I", "", "S")), strict=True) if t]
    if not letters:
        return "near its middle"
    several = f"{', '.join(letters[:-1])} and {letters[-1]}" if len(letters) > 1 else letters[0]
    return f"toward the edge{'s' if len(letters) > 1 else ''} marked {several}"


def _corner(third: Third) -> str:
    """Which part of a flat picture."""
    words = (("upper", "", "lower")[third[0] + 1], ("left", "", "right")[third[1] + 1])
    return " ".join(w for w in words if w) or "near its middle"
