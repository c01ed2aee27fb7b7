"""Study: many cases, several methods, several metrics, on disk; it goes on where it was cut off."""

from pellucid.study import tables as tables
from pellucid.study.cases import StudyCase as StudyCase
from pellucid.study.cases import phantom_cases as phantom_cases
from pellucid.study.cases import read_cases as read_cases
from pellucid.study.declared import read_study as read_study
from pellucid.study.declared import recall_study as recall_study
from pellucid.study.study import Study as Study
