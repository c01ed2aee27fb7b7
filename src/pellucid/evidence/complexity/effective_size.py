"""Effective size: over what part of the image relevance is spread, in mm2 or mm3 where the scan has them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from torch import Tensor

from pellucid.evidence.complexity.spread import LOST, entropy_of, measured
from pellucid.evidence.metric import metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite


@metric(
    cite=Cite("Hill", 1973, "Diversity and evenness: a unifying notation and its consequences", "Ecology"),
    unit="share of the image",
    better="down",
    reference="that of independent uniform values: 0.82 by entropy, 0.75 by participation; the image's edges beside it",
)
def effective_size(panel: Panel, *, order: Literal["entropy", "participation"] = "entropy") -> dict[str, Measurement]:
    """How large an evenly marked area would be that is as concentrated as the map, as a share of the image.

    ``exp(H) / n`` (entropy) or ``1 / (n sum p_i^2)`` (participation ratio) with ``p_i = |a_i| / sum |a|`` over the n samples (*space). The detail
    holds the same in samples, and in mm2 or mm3 (``extent``) where the scan has millimeters.

    Args:
        order: ``entropy`` (Hill number of order 1) counts faint relevance too; ``participation`` (order 2) listens to the peaks.

    **Misleads when**: a small map is not a faithful one; a map that alternates between high and low samples is small without being local.
    **Source**: Hill 1973, equation 2.5, orders 1 and 2; the participation ratio of physics. Chosen here since it does not grow with the image.
    """
    n = math.prod(panel.grid.shape)

    def share(p: Tensor) -> float:
        return math.exp(entropy_of(p)) / n if order == "entropy" else 1 / (n * float(p @ p))

    noise = math.exp(-LOST) if order == "entropy" else 0.75
    found = measured(panel, "effective_size", "share of the image", "down", share, noise, lambda s: f"The map covers {s:.1%} of the image")
    return {name: _placed(panel, m, n) for name, m in found.items()}


def _placed(panel: Panel, m: Measurement, n: int) -> Measurement:
    """With the size in samples and, on scans, in the patient."""
    size: dict[str, float | str] = {"samples_marked": m.value * n}
    if panel.grid.unit == "mm":
        unit = f"mm{panel.grid.ndim}"
        size |= {"extent": m.value * n * panel.grid.voxel, "extent_unit": unit}
    return replace(m, detail={**m.detail, **size})
