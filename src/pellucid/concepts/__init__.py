"""Concepts: what people have words for, and whether the network uses it."""

from pellucid.concepts.bank import ConceptBank as ConceptBank
from pellucid.concepts.bank import Examples as Examples
from pellucid.concepts.directions import cav as cav
from pellucid.concepts.directions import held_out as held_out
from pellucid.concepts.discover import Discovered as Discovered
from pellucid.concepts.discover import discover_concepts as discover_concepts
from pellucid.concepts.figure import agreement as agreement
from pellucid.concepts.figure import matrix_figure as matrix_figure
from pellucid.concepts.figure import read_expected as read_expected
from pellucid.concepts.region import RegionRow as RegionRow
from pellucid.concepts.region import Regions as Regions
from pellucid.concepts.region import concept_region as concept_region
from pellucid.concepts.regression import Regression as Regression
from pellucid.concepts.regression import RegressionRow as RegressionRow
from pellucid.concepts.regression import regression_concept as regression_concept
from pellucid.concepts.result import ConceptRow as ConceptRow
from pellucid.concepts.result import Concepts as Concepts
from pellucid.concepts.result import Sensitivity as Sensitivity
from pellucid.concepts.tcav import tcav as tcav
