"""Entropy: over how much of the image relevance is spread."""

from __future__ import annotations

import math

from pellucid.evidence.complexity.spread import LOST, entropy_of, measured
from pellucid.evidence.metric import metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite


@metric(
    cite=Cite("Bhatt, Weller, Moura", 2020, "Evaluating and aggregating feature-based model explanations", "IJCAI", "2005.00631"),
    unit="nats",
    better="down",
    reference="that of independent uniform values, ln(samples) - 0.193; the image's edges beside it",
)
def entropy(panel: Panel) -> dict[str, Measurement]:
    """How evenly relevance is spread: 0 if one sample holds everything, ln(samples) if all hold the same.

    ``H = -sum_i p_i ln p_i`` with ``p_i = |a_i| / sum |a|`` over the samples (*space) of the map on the image's grid.

    **Misleads when**: a concentrated map is not a faithful one; maps of images of different sizes are compared (see ``effective_size``);
        the finding itself is large and diffuse.
    **Source**: Bhatt et al. 2020, definition 3 (complexity).
    """
    noise = math.log(math.prod(panel.grid.shape)) - LOST
    return measured(panel, "entropy", "nats", "down", entropy_of, noise, lambda h: f"The entropy is {h:.2f} nats")
