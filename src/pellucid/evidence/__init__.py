"""Evidence: how far an explanation can be trusted. One metric or check a file, in a folder for each question that can be asked.

The folders are imported when a metric or a check is first asked for.
"""

from pellucid.evidence.case import Level as Level
from pellucid.evidence.examine import examine as examine
from pellucid.evidence.grade import Grades as Grades
from pellucid.evidence.grade import grade as grade
from pellucid.evidence.metric import Metric as Metric
from pellucid.evidence.metric import metric as metric
from pellucid.evidence.metric import metrics as metrics
from pellucid.evidence.metric import read_metric as read_metric
