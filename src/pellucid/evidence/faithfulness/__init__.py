"""Does the score move where the map says? One metric a file."""

from pellucid.evidence.faithfulness.aic import aic as aic
from pellucid.evidence.faithfulness.average_drop import average_drop as average_drop
from pellucid.evidence.faithfulness.deletion import deletion as deletion
from pellucid.evidence.faithfulness.faithfulness_correlation import faithfulness_correlation as faithfulness_correlation
from pellucid.evidence.faithfulness.infidelity import infidelity as infidelity
from pellucid.evidence.faithfulness.insertion import insertion as insertion
from pellucid.evidence.faithfulness.irof import irof as irof
from pellucid.evidence.faithfulness.log_odds_switch import log_odds_switch as log_odds_switch
from pellucid.evidence.faithfulness.monotonicity import monotonicity as monotonicity
from pellucid.evidence.faithfulness.pixel_flipping import pixel_flipping as pixel_flipping
from pellucid.evidence.faithfulness.region_perturbation import region_perturbation as region_perturbation
from pellucid.evidence.faithfulness.remove_top import remove_top as remove_top
from pellucid.evidence.faithfulness.road import road as road
from pellucid.evidence.faithfulness.sensitivity_n import sensitivity_n as sensitivity_n
from pellucid.evidence.faithfulness.sic import sic as sic
