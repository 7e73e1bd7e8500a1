"""The data checks before the first batch: what is wrong or odd in the splits, as one table of findings."""

from tabstep.checks.check_splits import check_splits
from tabstep.checks.findings import Finding, findings_table, raise_errors, warning_lines

__all__ = ["Finding", "check_splits", "findings_table", "raise_errors", "warning_lines"]
