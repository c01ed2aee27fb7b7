"""Does a map stay the same where it should? One metric a file."""

from pellucid.evidence.robustness.continuity import continuity as continuity
from pellucid.evidence.robustness.fragility import fragility as fragility
from pellucid.evidence.robustness.local_lipschitz import local_lipschitz as local_lipschitz
from pellucid.evidence.robustness.max_sensitivity import max_sensitivity as max_sensitivity
from pellucid.evidence.robustness.prediction_saliency_correlation import prediction_saliency_correlation as prediction_saliency_correlation
from pellucid.evidence.robustness.repeatability import repeatability as repeatability
from pellucid.evidence.robustness.reproducibility import replicates as replicates
from pellucid.evidence.robustness.reproducibility import reproducibility as reproducibility
