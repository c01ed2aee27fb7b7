"""How concentrated is a map? One metric a file."""

from pellucid.evidence.complexity.gini import gini as gini
