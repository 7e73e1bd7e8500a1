"""The data checks before the first batch: what is wrong or odd in the splits, as one table of findings."""

from tabstep.checks.findings import Finding, findings_table, raise_errors
from tabstep.checks.run import check_splits

__all__ = ["Finding", "check_splits", "findings_table", "raise_errors"]
