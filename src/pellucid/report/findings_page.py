"""The page of a model as a whole: effects, trees, pictures made for it, what its units answer to. One file that asks the network for nothing."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pellucid.effects import Effect
from pellucid.errors import BadParameter
from pellucid.files import put
from pellucid.prototypes import Dissection, Filters, Prototype, Traces
from pellucid.report.html import guard, page
from pellucid.report.whole import SVG, Whole, drawn, told

MADE = "What excites a unit is a hypothesis about what it has learned; maps of single scans and tests of concepts say what it uses."
OVER = "What it answers over many cases says how it works on them, not what causes anything in a patient."


def write_findings(path: str | Path, found: Whole | Sequence[Whole], *, title: str = "The model as a whole", note: str = "") -> Path:
    """Write what was found of a model as a whole as one HTML page that opens from disk and asks the network for nothing.

    Each finding is told in sentences, drawn (curves and trees light and dark, as the reader has it), with what was checked and why it is trusted or
    not, what it cannot tell, its numbers and its record folded away. The page holds no identifiers. Same findings, same bytes.

    Args:
        path: where to write; the file appears whole or not at all, and replaces only a page of Pellucid.
        found: from ``pellucid.effects`` and ``pellucid.prototypes``: one or several of one network (or of no network: a fitted tree).
        title, note: printed as given: keep names of patients out of them.

    Returns:
        The path written.

    Raises:
        BadParameter: nothing, something else, or findings of several networks.
        BadFile: no such folder, or a file there that is not Pellucid's.
    """
    path, several = Path(path), list(found) if isinstance(found, Sequence) else [found]
    if not several or not all(isinstance(f, Whole) for f in several):
        got = ", ".join(sorted({type(f).__name__ for f in several if not isinstance(f, Whole)})) or "none"
        fix = "Give what partial_dependence, dose_response, tree, maco, filters ... return."
        raise BadParameter("findings of pellucid.effects or pellucid.prototypes, one at least", got, fix)
    networks = {f.network for f in several if f.network}
    if len(networks) > 1:
        raise BadParameter("findings of one network", f"{len(networks)} networks", "Write a page for each.")
    guard(path)
    return put(path, render(several, title, note))


def render(found: Sequence[Whole], title: str, note: str) -> str:
    """The page as text."""
    first = next((f for f in found if f.network), found[0]).provenance
    kinds = [isinstance(f, (Prototype, Filters, Dissection, Traces)) for f in found]
    return page(
        "findings",
        (),
        scene=False,
        styles=("findings",),
        title=title,
        note=note,
        says=" ".join(s for s, there in ((OVER, not all(kinds)), (MADE, any(kinds))) if there),
        model=first.model,
        version=first.versions.get("pellucid", ""),
        weights=first.weights[:12],
        found=[told(f) | _pictures(f) for f in found],
    )


def _pictures(found: Whole) -> dict[str, Any]:
    """A tree as it is, other pictures as data, the dark one only where there is one."""
    light, kind = drawn(found)
    if not isinstance(found, Effect):
        return {"tree": "", "wide": "", "light": _data(kind, light), "dark": ""}
    if kind == SVG:
        tree = str(found.figure(theme="auto"))
        wide = re.search(r'width="([0-9]+)"', tree)
        return {
            "tree": Markup(tree),
            "wide": wide.group(1) if wide else "",
            "light": "",
            "dark": "",
        }  # its words are escaped where it is drawn
    return {"tree": "", "wide": "", "light": _data(kind, light), "dark": _data(kind, drawn(found, dark=True)[0])}


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
