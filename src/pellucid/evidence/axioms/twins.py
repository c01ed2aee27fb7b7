"""Maps of a twin network that must answer as the network does; what they differ by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from pellucid.evidence.axioms.sums import apart, empty, judged
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.model import Model
from pellucid.ops.similarity import spearman

UNIT = "share of the map"


def compared(
    panel: Panel,
    name: str,
    model: Model,
    image: Tensor,
    back: Callable[[Tensor], Tensor],
    say: Callable[[float], str],
) -> dict[str, Measurement]:
    """Every map made anew of ``image`` by the twin and brought ``back``, against the map itself: ``|back(a') - a|_1 / |a|_1``."""
    entries = panel.entries
    known = [n for n, e in entries.items() if e.map is not None or e.draws is not None or e.after is not None]
    anew = panel.anew(known, [image], model=model)
    found = {}
    for n in panel.names:
        if n not in anew:
            text = "This control is a map of another network; it is not asked again."
            found[n] = replace(empty(name, UNIT), text=text)
            continue
        own, other = panel.relevance(n), back(anew[n][0])
        gap = apart(own, other)
        if gap != gap:
            found[n] = empty(name, UNIT)
        else:
            found[n] = judged(name, gap, UNIT, say(gap), {"rank_correlation": spearman(own, other)})
    return found
