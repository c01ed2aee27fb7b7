"""How far can the network's answers be trusted, before any explanation of them?"""

from pellucid.evidence.predictions.calibration import Calibration as Calibration
from pellucid.evidence.predictions.calibration import calibration as calibration
from pellucid.evidence.predictions.quality import check_image as check_image
from pellucid.evidence.predictions.quality import find_duplicates as find_duplicates
from pellucid.evidence.predictions.temperature import Temperature as Temperature
from pellucid.evidence.predictions.temperature import temperature as temperature
from pellucid.evidence.predictions.trust_score import Trust as Trust
from pellucid.evidence.predictions.trust_score import trust_score as trust_score
from pellucid.evidence.predictions.uncertainty import MapSpread as MapSpread
from pellucid.evidence.predictions.uncertainty import Uncertainty as Uncertainty
from pellucid.evidence.predictions.uncertainty import uncertainty as uncertainty
from pellucid.features.quality import Quality as Quality
from pellucid.features.quality import QualityLimits as QualityLimits
