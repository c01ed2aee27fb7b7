"""What is told and drawn of a model as a whole: the parts of a finding of effects or prototypes, as the report and the viewer show them."""

from __future__ import annotations

import io
import math
from typing import Any, cast

from pellucid.effects import (
    Additive,
    Curve,
    DoseResponse,
    Effect,
    ForestImportance,
    Importance,
    SequenceImportance,
    SequenceUnits,
    Surface,
    Surrogate,
    Tree,
)
from pellucid.explanation import Evidence, Measurement
from pellucid.prototypes import Dissection, Filters, Inversion, Prototype, Traces
from pellucid.report.words import number
from pellucid.table import Table

Whole = Effect | Prototype | Filters | Dissection | Traces
KINDS = frozenset(
    c.kind
    for c in (
        Curve,
        DoseResponse,
        Surface,
        Importance,
        ForestImportance,
        Tree,
        Surrogate,
        Additive,
        SequenceImportance,
        SequenceUnits,
        Prototype,
        Inversion,
        Filters,
        Dissection,
        Traces,
    )
)
ROWS, COLUMNS = 60, 10  # of a table, on a page
SHARP = 150  # dots per inch
SVG = "image/svg+xml"
NOTHING = Evidence()
MOODS = {"supported": "pass", "questionable": "inconclusive", "not supported": "fail"}
CURVES = {
    "partial dependence": "Partial dependence on", "individual": "Case by case along", "centered": "Centered curves along",
    "derivative": "Slopes along", "accumulated": "Accumulated effects of",
}  # fmt: skip


def told(found: Whole) -> dict[str, Any]:
    """All that is said of a finding as plain values: ``title``, ``sentences``, ``limit``, ``remarks``, ``rules``, evidence, table and record."""
    said, evidence = found.sentences(), getattr(found, "evidence", NOTHING)
    limit = said[-1] if len(said) > 1 else ""
    whole = found.table()
    table = _short(whole)
    return {
        "title": title(found),
        "sentences": list(said[: len(said) - bool(limit)]),
        "limit": limit,
        "remarks": [n for n in dict.fromkeys((*found.provenance.caveats, *getattr(found, "notes", ()))) if n not in said],
        "rules": list(found.rules()) if isinstance(found, (Tree, Surrogate)) else [],
        "verdict": evidence.verdict or "not examined",
        "mood": mood(found),
        "reasons": [r for r in dict.fromkeys(evidence.reasons) if r != limit],
        "checks": [_check(m) for m in evidence],
        "columns": list(table.columns),
        "rows": [[_cell(v) for v in row] for row in table.rows],
        "more": _more(len(whole) - len(table), len(whole.columns) - len(table.columns)),
        "record": _record(found),
    }


def mood(found: Whole) -> str:
    """The sign that goes with the verdict."""
    return MOODS.get(getattr(found, "evidence", NOTHING).verdict or "", "open")


def title(found: Whole) -> str:
    """What a finding is about, in a few words."""
    if isinstance(found, DoseResponse):
        return f"Images with {found.axis.name} changed"
    if isinstance(found, Curve):
        return f"{CURVES.get(found.how, 'Along')} {found.axis.name}"
    if isinstance(found, Surface):
        return " and ".join(a.name for a in found.axes)
    if isinstance(found, Importance):
        return "Which columns matter" if found.what == "permutation" else "Which columns work together"
    if isinstance(found, Surrogate):
        return f"{'A tree' if found.form == 'tree' else 'A few weights'} in the model’s place"
    if isinstance(found, Filters):
        return f"Filters of {found.site}"
    if isinstance(found, Dissection):
        return f"What the units of {found.site} answer to"
    if isinstance(found, Traces):
        return f"Units of {found.site} along a sequence"
    if isinstance(found, Prototype):
        return f"What {found.asked} keeps of an image" if isinstance(found, Inversion) else f"What excites {found.asked}: {found.method}"
    known = {
        ForestImportance: "What a forest splits by, and what it needs", Tree: "A decision tree", Additive: "An additive model",
        SequenceImportance: "Which sequence counts",
    }  # fmt: skip
    return known.get(cast("Any", type(found)), "Hidden units by sequence")


def drawn(found: Whole, *, dark: bool = False) -> tuple[bytes, str]:
    """The picture on a light ground or a dark one, and its kind: of a tree SVG, else PNG.

    Pictures made for a network stand on white in both: gray values are read against one ground.
    """
    figure = found.figure(theme="dark" if dark else "light") if isinstance(found, Effect) else found.figure()
    if isinstance(figure, str):
        return figure.encode(), SVG
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=SHARP, facecolor=figure.get_facecolor())
    return buffer.getvalue(), "image/png"


def _short(table: Table) -> Table:
    """The first rows, and as many columns as a page is wide: those that differ from row to row go first."""
    rows = table.rows[:ROWS]
    kept = [k for k in range(len(table.columns)) if k == 0 or len({repr(r[k]) for r in table.rows}) > 1 or len(table) == 1][:COLUMNS]
    return Table(tuple(table.columns[k] for k in kept), tuple(tuple(r[k] for k in kept) for r in rows))


def _more(rows: int, columns: int) -> str:
    """What is left out of a table."""
    left = [f"{n} more {what}{'s' if n > 1 else ''}" for n, what in ((rows, "row"), (columns, "column")) if n]
    return f"{' and '.join(left)} in the table that is saved." if left else ""


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "–" if math.isnan(value) else number(value)
    return "" if value is None else str(value)


def _check(m: Measurement) -> dict[str, str]:
    ends = f" [{number(m.low)}, {number(m.high)}]" if m.low is not None and m.high is not None else ""
    against = "" if m.reference is None else f"held against {number(m.reference)}" + (f", {m.against}" if m.against else "")
    return {
        "name": m.name.replace("_", " "),
        "value": f"{number(m.value)}{ends} {m.unit}",
        "against": against,
        "status": m.status,
        "text": m.text,
    }


def _record(found: Whole) -> list[list[str]]:
    """How it came about: enough to make it again, nothing that names a patient or a place on a disk."""
    p = found.provenance
    several = "rows" if isinstance(found, Effect) and not p.model else "images"
    versions = ", ".join(f"{k} {v}" for k, v in p.versions.items())
    passes = f"{p.forward} forward" if p.forward else ""
    rows = [
        ("asked", p.method), ("target", p.target), ("model", p.model), ("weights", p.weights[:12]), ("network", found.network[:12]),
        ("preparation", p.prepare), ("normalization", p.normalize), ("site", p.site), (several, p.image[:12]), ("seed", str(p.seed)),
        ("passes", passes), ("seconds", number(p.seconds) if p.seconds else ""), ("time", p.time), ("versions", versions), ("after", p.cite),
    ]  # fmt: skip
    return [[k, v] for k, v in rows if v]
