"""A metric as another package brings it: a process that has not imported this file knows nothing of it."""

from pellucid.evidence.metric import metric
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Count


@metric(cite=Cite("Nobody", 2026, "From outside", "none"), unit="1", better="up", reference="none")
def from_outside(panel, *, k: Count = 1):
    """Count the maps. **Misleads when**: always. **Source**: none."""
    return {n: Measurement("x", k * len(panel.names), "1", "up", "inconclusive", "It is so.") for n in panel.names}
