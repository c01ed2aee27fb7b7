"""Effective complexity: how many samples carry more than a trace of relevance."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from pellucid.evidence.complexity.spread import measured
from pellucid.evidence.metric import metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Fraction


@metric(
    cite=Cite("Nguyen, Rodríguez Martínez", 2020, "On quantitative aspects of model interpretability", "arXiv", "2007.07584"),
    unit="share of the image",
    better="down",
    reference="1 - share, that of independent uniform values; the image's edges beside it",
)
def effective_complexity(panel: Panel, *, share: Fraction = 0.05) -> dict[str, Measurement]:
    """What part of the image has relevance above a small share of the map's own highest magnitude.

    ``#{i : |a_i| > share * max |a|} / n`` over the n samples (*space); the count, and mm2 or mm3 on scans, are in the detail.

    Args:
        share: below this share of the highest magnitude a sample counts as unmarked; 0.05 is about what a color scale can show.

    **Misleads when**: one outlier sample lifts the maximum, so that all others seem unmarked; smooth low background counts in full or not
        at all.
    **Source**: Nguyen and Martínez 2020, section 3.3, in the form of a count above a threshold in which it is used since (they count the
        features that keep the prediction within a tolerance). The threshold follows each map's own maximum, never that of others.
    """
    n = math.prod(panel.grid.shape)

    def part(p: Tensor) -> float:
        return int((p > share * p.max()).sum()) / n

    found = measured(
        panel, "effective_complexity", "share of the image", "down", part, 1 - share, lambda s: f"{s:.1%} of the image is marked"
    )
    extent = {"extent_unit": f"mm{panel.grid.ndim}"} if panel.grid.unit == "mm" else {}
    return {
        name: replace(
            m, detail={**m.detail, "count": m.value * n} | ({**extent, "extent": m.value * n * panel.grid.voxel} if extent else {})
        )
        for name, m in found.items()
    }
