"""Which cues does the network use, and where does it break? Pictures without color, shape or texture; stress; errors."""

from pellucid.evidence.cues.attacked import Attacked as Attacked
from pellucid.evidence.cues.attacked import attacked as attacked
from pellucid.evidence.cues.baseline_spread import baseline_spread as baseline_spread
from pellucid.evidence.cues.color_bias import ColorBias as ColorBias
from pellucid.evidence.cues.color_bias import baseline_color_bias as baseline_color_bias
from pellucid.evidence.cues.error_groups import ErrorGroups as ErrorGroups
from pellucid.evidence.cues.error_groups import error_groups as error_groups
from pellucid.evidence.cues.pictures import blurred as blurred
from pellucid.evidence.cues.pictures import channels_permuted as channels_permuted
from pellucid.evidence.cues.pictures import edges as edges
from pellucid.evidence.cues.pictures import foreground as foreground
from pellucid.evidence.cues.pictures import gamma as gamma
from pellucid.evidence.cues.pictures import grayscale as grayscale
from pellucid.evidence.cues.pictures import high_pass as high_pass
from pellucid.evidence.cues.pictures import recolored as recolored
from pellucid.evidence.cues.pictures import silhouette as silhouette
from pellucid.evidence.cues.pictures import texture as texture
from pellucid.evidence.cues.stress import STRESSORS as STRESSORS
from pellucid.evidence.cues.stress import Stress as Stress
from pellucid.evidence.cues.stress import stress as stress
from pellucid.evidence.cues.surprise import Surprise as Surprise
from pellucid.evidence.cues.surprise import caution as caution
from pellucid.evidence.cues.surprise import surprise as surprise
from pellucid.evidence.cues.using import VERSIONS as VERSIONS
from pellucid.evidence.cues.using import Cues as Cues
from pellucid.evidence.cues.using import cues as cues
