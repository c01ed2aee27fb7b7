"""Evidence: how far an explanation can be trusted. One check a file; ``examine`` puts them together."""

from pellucid.evidence.case import Level as Level
from pellucid.evidence.examine import examine as examine
