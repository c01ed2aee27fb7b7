"""Does the network use what it should not? Finding, weighing and confirming suspected shortcuts."""

from pellucid.evidence.shortcuts.confounder_sensitivity import Confounding as Confounding
from pellucid.evidence.shortcuts.confounder_sensitivity import confounder_sensitivity as confounder_sensitivity
from pellucid.evidence.shortcuts.intervene import Intervention as Intervention
from pellucid.evidence.shortcuts.intervene import intervene as intervene
from pellucid.evidence.shortcuts.site_probe import site_probe as site_probe
from pellucid.evidence.shortcuts.spray import Cluster as Cluster
from pellucid.evidence.shortcuts.spray import Spray as Spray
from pellucid.evidence.shortcuts.spray import spray as spray
