"""Reports for people: one self-contained HTML file per scan; explanations are read, never made, here."""

from pellucid.report.html import write_report as write_report
from pellucid.report.study_page import write_study as write_study
