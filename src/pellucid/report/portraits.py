"""The page of a network's portraits: pictures made for it, its filters, what its units answer to. One file that asks the network for nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pellucid.errors import BadParameter
from pellucid.files import put
from pellucid.findings import Finding
from pellucid.prototypes import Dissection, Filters, Inversion, Prototype, Traces
from pellucid.report.html import MARK, guard
from pellucid.report.scripts import part, style
from pellucid.table import Table

Portrait = Prototype | Filters | Dissection | Traces
ROWS = 12  # of a table
NARROW = 10  # columns that a page is wide


def write_portraits(
    path: str | Path, found: Portrait | Sequence[Portrait], *, title: str = "What a network answers to", note: str = ""
) -> Path:
    """Write what was found of a network as a whole as one HTML page that opens from disk: sentences, pictures, numbers, and what they do not show.

    Args:
        path: where to write; the file appears whole or not at all, and replaces only a page of Pellucid.
        found: from ``pellucid.prototypes``: one or several of one network.
        title, note: printed as given: keep names of patients out of them.

    Returns:
        The path written.

    Raises:
        BadParameter: nothing, something else, or findings of several networks.
        BadFile: no such folder, or a file there that is not Pellucid's.
    """
    path, several = Path(path), [found] if isinstance(found, Finding) else list(found)
    if not several or not all(isinstance(f, Portrait) for f in several):
        got = ", ".join(sorted({type(f).__name__ for f in several if not isinstance(f, Portrait)})) or "none"
        raise BadParameter("findings of pellucid.prototypes, one at least", got, "Give what maco, filters, network_dissection ... return.")
    if len({f.network for f in several}) > 1:
        raise BadParameter("findings of one network", f"{len({f.network for f in several})} networks", "Write a page for each.")
    guard(path)
    return put(path, render(several, title, note))


def render(found: Sequence[Portrait], title: str, note: str) -> str:
    """The page as text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["cell"] = _cell
    first = found[0].provenance
    return page.from_string(part("page/portraits.html.j2")).render(
        mark=Markup(MARK),
        style=Markup(style()),
        title=title,
        note=note,
        network=first.model,
        version=first.versions.get("pellucid", ""),
        weights=first.weights[:12],
        parts=[_part(f) for f in found],
    )


def _part(found: Portrait) -> dict[str, Any]:
    said, evidence = found.sentences(), getattr(found, "evidence", None)
    verdict = None if evidence is None else evidence.verdict
    table = _short(found.table())
    return {
        "title": _title(found),
        "sentences": said[:-1],
        "limit": said[-1],
        "verdict": verdict or "",
        "mood": {"supported": "good", "questionable": "mixed", "not supported": "bad"}.get(verdict or "", ""),
        "picture": _picture(found),
        "columns": table.columns,
        "rows": table.rows,
        "more": len(found.table()) - len(table),
        "facts": _facts(found),
    }


def _title(found: Portrait) -> str:
    if isinstance(found, Filters):
        return f"Filters of {found.site}"
    if isinstance(found, Dissection):
        return f"What the units of {found.site} answer to"
    if isinstance(found, Traces):
        return f"Units of {found.site} along a sequence"
    return f"What {found.asked} keeps of an image" if isinstance(found, Inversion) else f"What excites {found.asked}: {found.method}"


def _short(table: Table) -> Table:
    """The first rows, and as many columns as a page is wide: those that differ from row to row go first."""
    rows = table.rows[:ROWS]
    told = [k for k in range(len(table.columns)) if k == 0 or len({repr(r[k]) for r in table.rows}) > 1 or len(table) == 1][:NARROW]
    return Table(tuple(table.columns[k] for k in told), tuple(tuple(r[k] for k in told) for r in rows))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.3g}".replace("-", "−")
    return "" if value is None else str(value)


def _picture(found: Portrait) -> str:
    buffer = io.BytesIO()
    found.figure().savefig(buffer, format="png", dpi=140)
    return base64.b64encode(buffer.getvalue()).decode()


def _facts(found: Portrait) -> list[tuple[str, str]]:
    said = found.provenance
    told = [
        ("asked", said.method),
        ("site", said.site),
        ("images", said.image[:12]),
        ("seed", str(said.seed)),
        ("time", said.time),
        ("after", said.cite),
    ]
    return [(k, v) for k, v in told if v]
