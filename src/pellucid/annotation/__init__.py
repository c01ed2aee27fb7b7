"""Annotation: maps propose boxes and masks, a reader corrects them, a small detector learns from either; effort is measured."""

from pellucid.annotation.cases import halves as halves
from pellucid.annotation.cases import phantom_cases as phantom_cases
from pellucid.annotation.cases import session_cases as session_cases
from pellucid.annotation.detector import Detector as Detector
from pellucid.annotation.detector import train_detector as train_detector
from pellucid.annotation.exercise import Case as Case
from pellucid.annotation.exercise import Exercise as Exercise
from pellucid.annotation.exercise import exercise as exercise
from pellucid.annotation.export import coco as coco
from pellucid.annotation.export import labels as labels
from pellucid.annotation.export import write_labels as write_labels
from pellucid.annotation.export import write_segmentation as write_segmentation
from pellucid.annotation.finding import Finding as Finding
from pellucid.annotation.session import Annotation as Annotation
from pellucid.annotation.session import Effort as Effort
from pellucid.annotation.session import begin as begin
from pellucid.annotation.simulated import Hand as Hand
from pellucid.annotation.simulated import correct as correct
