"""Does a map depend on what the network has learned? One metric a file."""

from pellucid.evidence.sanity.data_randomization import data_randomization as data_randomization
from pellucid.evidence.sanity.efficient_randomization import efficient_randomization as efficient_randomization
from pellucid.evidence.sanity.model_randomization import model_randomization as model_randomization
from pellucid.evidence.sanity.smooth_randomization import smooth_randomization as smooth_randomization
