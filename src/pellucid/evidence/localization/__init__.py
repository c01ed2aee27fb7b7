"""Does the map mark what a person marked? One metric a file; boxes, points and readers as truth; proposals for annotation."""

from pellucid.evidence.localization.auprc import auprc as auprc
from pellucid.evidence.localization.emd import emd as emd
from pellucid.evidence.localization.f1 import f1 as f1
from pellucid.evidence.localization.iou_otsu import iou_otsu as iou_otsu
from pellucid.evidence.localization.mae import mae as mae
from pellucid.evidence.localization.max_box_accuracy import max_box_accuracy as max_box_accuracy
from pellucid.evidence.localization.max_box_accuracy import max_box_accuracy_over as max_box_accuracy_over
from pellucid.evidence.localization.max_f1 import max_f1 as max_f1
from pellucid.evidence.localization.peak_distance import peak_distance as peak_distance
from pellucid.evidence.localization.pointing_game import pointing_game as pointing_game
from pellucid.evidence.localization.propose import Proposal as Proposal
from pellucid.evidence.localization.propose import Proposals as Proposals
from pellucid.evidence.localization.propose import proposal_iou as proposal_iou
from pellucid.evidence.localization.propose import propose as propose
from pellucid.evidence.localization.relevance_mass import relevance_mass as relevance_mass
from pellucid.evidence.localization.relevance_rank import relevance_rank as relevance_rank
from pellucid.evidence.localization.roc_auc import roc_auc as roc_auc
from pellucid.evidence.localization.top_k_intersection import top_k_intersection as top_k_intersection
from pellucid.evidence.localization.truth import Boxes as Boxes
from pellucid.evidence.localization.truth import Points as Points
from pellucid.evidence.localization.truth import Readers as Readers
from pellucid.evidence.localization.truth import boxes as boxes
from pellucid.evidence.localization.truth import mean_mask as mean_mask
from pellucid.evidence.localization.truth import points as points
from pellucid.evidence.localization.truth import readers as readers
