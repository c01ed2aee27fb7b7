"""The page of a comparison: a report whose maps stand side by side, with how alike they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pellucid.comparison import Comparison
from pellucid.files import put
from pellucid.report.html import Beside, check, guard, render
from pellucid.report.words import number

ALIKE, UNLIKE = 0.5, 0.2  # rank correlations from which maps are called alike, and below which they are not


def write_comparison(
    path: str | Path, found: Comparison, *, title: str = "Comparison of maps of one scan", note: str | None = None
) -> Path:
    """Write what ``pl.compare`` found as one HTML page: all maps side by side with linked zoom and slices, and how alike they are.

    Args:
        path: where to write; the file appears whole or not at all, and replaces only a page of Pellucid.
        found: what ``compare`` or ``crop_and_zoom`` returned; parts are shown in the full frame.
        title, note: printed as given: keep names of patients out of them.

    Raises:
        PellucidError: as ``write_report``.
    """
    path = Path(path)
    maps = [replace(m.on(found.frame.grid), scan=found.frame) for m in found.maps] if found.parts else list(found.maps)
    check(maps)
    guard(path)
    return put(path, render(maps, title, note, Beside(alike=alike(found), names=_plain(found.labels))))


def alike(found: Comparison) -> dict[str, Any]:
    """The matrix of rank correlations, as cells with their color, and what it says in a sentence."""
    matrix, labels = found.correlations.tolist(), _plain(found.labels)
    rows = [
        {
            "label": label,
            "cells": [{"text": "–" if math.isnan(r) else f"{r:.2f}".replace("-", "−"), "share": 0 if math.isnan(r) else r} for r in row],
        }
        for label, row in zip(labels, matrix, strict=True)
    ]
    table = found.table()
    columns = ("map", "score", "sum", "forward", "backward", "seconds", "verdict")
    facts = [[_cell(row[c]) for c in columns] for row in table]
    for row, label in zip(facts, labels, strict=True):
        row[0] = label
    return {"labels": labels, "rows": rows, "sentence": _sentence(labels, matrix), "columns": columns, "facts": facts}


def _plain(labels: Sequence[str]) -> list[str]:
    return [label.replace("_", " ") for label in labels]


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, float) else "not examined" if value is None else str(value)


def _sentence(labels: Sequence[str], matrix: list[list[float]]) -> str:
    pairs = [(matrix[i][k], labels[i], labels[k]) for i in range(len(labels)) for k in range(i) if not math.isnan(matrix[i][k])]
    if not pairs:
        return "One map alone, or maps that are constant: nothing to compare."
    most, least = max(pairs), min(pairs)
    mean = sum(r for r, *_ in pairs) / len(pairs)
    whole = "The maps agree well" if mean >= ALIKE else "The maps agree in part" if mean >= UNLIKE else "The maps hardly agree"
    if len(pairs) == 1:
        return f"{whole} (rank correlation {number(most[0])}; 1 is the same order of all places, 0 is none)."
    said = f"{whole}: most alike are {most[2]} and {most[1]} ({number(most[0])}), least {least[2]} and {least[1]} ({number(least[0])})."
    return f"{said} 1 is the same order of all places, 0 is none."
