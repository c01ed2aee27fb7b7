"""Concepts: what people have words for, and whether the network uses it."""

from pellucid.concepts.bank import ConceptBank as ConceptBank
from pellucid.concepts.bank import Examples as Examples
from pellucid.concepts.directions import cav as cav
from pellucid.concepts.directions import held_out as held_out
from pellucid.concepts.result import ConceptRow as ConceptRow
from pellucid.concepts.result import Concepts as Concepts
from pellucid.concepts.result import Sensitivity as Sensitivity
from pellucid.concepts.tcav import tcav as tcav
