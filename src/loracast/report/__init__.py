"""A study's report: one page that needs no network, and its figures, from what the study's folder holds."""

from loracast.report.build import write_report

__all__ = ["write_report"]
