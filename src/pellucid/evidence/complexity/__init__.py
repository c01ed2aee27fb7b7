"""How concentrated is a map? One metric a file."""

from pellucid.evidence.complexity.effective_complexity import effective_complexity as effective_complexity
from pellucid.evidence.complexity.effective_size import effective_size as effective_size
from pellucid.evidence.complexity.entropy import entropy as entropy
from pellucid.evidence.complexity.gini import gini as gini
