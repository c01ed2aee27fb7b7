"""Does a map keep what its method promises? One metric a file."""

from pellucid.evidence.axioms.completeness_gap import completeness_gap as completeness_gap
from pellucid.evidence.axioms.conservation import conservation as conservation
from pellucid.evidence.axioms.input_invariance import input_invariance as input_invariance
from pellucid.evidence.axioms.sensitivity_zero import sensitivity_zero as sensitivity_zero
from pellucid.evidence.axioms.symmetry import symmetry as symmetry
