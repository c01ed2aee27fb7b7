"""Reports for people: self-contained HTML files for a scan, a comparison, a cohort, a study, a model as a whole; explanations are read, never made, here."""

from pellucid.report.cohort_page import Patient as Patient
from pellucid.report.cohort_page import write_cohort as write_cohort
from pellucid.report.comparison_page import write_comparison as write_comparison
from pellucid.report.findings_page import write_findings as write_findings
from pellucid.report.html import write_report as write_report
from pellucid.report.related import Concept as Concept
from pellucid.report.related import Decided as Decided
from pellucid.report.related import Influential as Influential
from pellucid.report.related import Similar as Similar
from pellucid.report.related import Step as Step
from pellucid.report.related import concepts_of as concepts_of
from pellucid.report.related import influence_of as influence_of
from pellucid.report.related import similar_of as similar_of
from pellucid.report.study_page import write_study as write_study
