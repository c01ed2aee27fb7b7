"""Evidence: how far an explanation can be trusted. One metric or check a file, in a folder for each question that can be asked."""

from pellucid.evidence import axioms as axioms
from pellucid.evidence import complexity as complexity
from pellucid.evidence import cues as cues
from pellucid.evidence import faithfulness as faithfulness
from pellucid.evidence import localization as localization
from pellucid.evidence import predictions as predictions
from pellucid.evidence import robustness as robustness
from pellucid.evidence import sanity as sanity
from pellucid.evidence import shortcuts as shortcuts
from pellucid.evidence.case import Level as Level
from pellucid.evidence.examine import examine as examine
from pellucid.evidence.grade import Grades as Grades
from pellucid.evidence.grade import grade as grade
from pellucid.evidence.metric import Metric as Metric
from pellucid.evidence.metric import metric as metric
from pellucid.evidence.metric import metrics as metrics
from pellucid.evidence.metric import read_metric as read_metric
