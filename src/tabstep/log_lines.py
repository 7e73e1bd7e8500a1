"""The lines a run prints and the regexes that read them back: one table, stdlib only.

A log is the interface of a training service: what a person reads there is also what charts and tuners are fed from, so
a line and its regex must not drift apart. Both are made from ``FIELDS``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# Python's `%.4f` and `%.4g` with nan and inf; plain constructs only, since other engines read these regexes too.
NUMBER: Final = r"([-+]?(?:[0-9]+\.?[0-9]*(?:e[-+]?[0-9]+)?|nan|inf))"
DURATION: Final = r"([0-9]+:[0-9]{2}:[0-9]{2})"


@dataclass(frozen=True, kw_only=True)
class Field:
    """One value of the epoch line: its key in a row, its label in the line, its name as a metric of a service."""

    key: str
    label: str
    metric: str
    percent: bool = False

    @property
    def regex(self) -> str:
        """The bar keeps ``Accuracy`` from being found in the label of another field."""
        return rf"\| {self.label}: {NUMBER}"

    def text(self, value: float) -> str:
        """Label and value as they stand in the line."""
        return f"{self.label}: {_fixed(100 * value, 2) if self.percent else number(value)}"

    def value(self, text: str) -> float:
        """The value that a match of ``regex`` captured, in the unit of the row."""
        return float(text) / 100 if self.percent else float(text)


FIELDS: Final = (
    Field(key="train_loss", label="Train Loss", metric="Train Loss"),
    Field(key="train_accuracy", label="Accuracy", metric="Train Accuracy", percent=True),
    Field(key="val_loss", label="Val Loss", metric="Validation Loss"),
    Field(key="val_f1", label="F1", metric="Validation F1 Score"),
    Field(key="val_auroc", label="AUROC", metric="Validation AUC ROC"),
)
SCORES: Final = ("loss", "accuracy", "f1", "auroc", "average_precision", "log_loss")
"""What every split is scored by."""
CALIBRATED: Final = "calibrated_log_loss"
"""What an epoch is told from others by; it is scored on val alone, in every epoch."""
# the closing line has a small e: it is that of no epoch
EPOCH_REGEX: Final = r"Epoch: ([0-9]+)(?: \||\s*$)"
ROWS_REGEX: Final = r"\| ([0-9]+|inf) rows/s"
SPEED_REGEX: Final = rf"Speed {ROWS_REGEX}(?: \| ETA {DURATION})?"
BATCH_REGEX: Final = rf"Batch +[0-9]+/ *[0-9]+ \| Loss: {NUMBER}"

METRIC_NAMES: Final = {field.key: field.metric for field in FIELDS}
METRIC_REGEXES: Final = {field.metric: field.regex for field in FIELDS} | {
    "Batch Loss": BATCH_REGEX,
    "Rows per Second": ROWS_REGEX,
}


def epoch_line(values: Mapping[str, float]) -> str:
    """Return the line of one epoch, without a newline; a field that ``values`` lacks is left out.

    ``epoch`` is required and counts from 1, ``train_accuracy`` is a share (0 to 1) and is printed in percent. With
    usual scores the line has at most 100 characters.

    >>> epoch_line({"epoch": 1, "train_loss": 0.2458, "train_accuracy": 0.8952, "val_auroc": 0.9123})
    'Epoch: 1 | Train Loss: 0.2458 | Accuracy: 89.52 | AUROC: 0.9123'
    """
    fields = [field.text(values[field.key]) for field in FIELDS if field.key in values]
    return " | ".join([f"Epoch: {int(values['epoch'])}", *fields])


def is_extra(key: str) -> bool:
    """Tell whether a key of a row is a score of val that ``metrics.extra`` has added.

    >>> is_extra("val_recall"), is_extra("val_auroc"), is_extra("train_recall")
    (True, False, False)
    """
    return key.startswith("val_") and key.removeprefix("val_") not in (*SCORES, CALIBRATED)


def extra_line(values: Mapping[str, float | None]) -> str:
    """Return the line of scores that ``metrics.extra`` adds, without a newline; empty where there are none.

    >>> extra_line({"epoch": 1, "val_auroc": 0.9, "val_recall": 0.71234567})
    'Scores | val_recall: 0.7123457'
    """
    found = {key: math.nan if value is None else float(value) for key, value in values.items() if is_extra(key)}
    return " | ".join(["Scores", *(f"{key}: {value:.7g}" for key, value in found.items())]) if found else ""


def extra_regex(key: str) -> str:
    """Return what finds a score in ``extra_line``."""
    return rf"\| {re.escape(key)}: {NUMBER}"


def speed_line(rows_per_s: float, eta_s: float) -> str:
    """Return the line below an epoch's in a log, without a newline: how fast it goes, and how long it will take.

    A run without a limit ends when it has stopped learning, which nobody knows beforehand: it has no ETA.

    >>> speed_line(51234.2, 83)
    'Speed | 51234 rows/s | ETA 0:01:23'
    """
    known = math.isfinite(eta_s) and eta_s >= 0
    return f"Speed | {max(0.0, rows_per_s):.0f} rows/s" + (f" | ETA {duration(eta_s)}" if known else "")


def best_line(report: Mapping[str, float | None]) -> str:
    """Return the closing line of a run: the scores of the epoch that it exports, ``nan`` for one that is not known.

    A service keeps the last value of each metric as the job's result, and a tuner compares jobs by it: this line makes
    that the best epoch's. Seven digits are what services keep of a number.

    >>> best_line({"best_epoch": 2, "train_accuracy": 0.8952, "val_auroc": 0.912345678, "val_f1": None})
    'Best epoch: 2 | Accuracy: 89.52 | F1: nan | AUROC: 0.9123457'
    """
    found = {field: report[field.key] for field in FIELDS if field.key in report}
    values = {field: math.nan if value is None else float(value) for field, value in found.items()}
    texts = [f"{field.label}: {100 * value if field.percent else value:.7g}" for field, value in values.items()]
    return " | ".join([f"Best epoch: {int(report['best_epoch'] or 0)}", *texts])


def batch_line(batch: int, total: int, loss: float) -> str:
    """Return the line of one batch, without a newline; ``batch`` counts from 1 within the epoch.

    >>> batch_line(100, 937, 0.43121)
    'Batch   100/  937 | Loss: 0.4312'
    """
    return f"Batch {batch:5d}/{total:5d} | Loss: {number(loss)}"


def parse_line(line: str) -> dict[str, float]:
    """Read an epoch line, a speed line or a batch line back; anything else gives an empty dict.

    An epoch line gives the keys of its row, a speed line ``rows_per_s`` and, where it is known, ``eta_s``; a batch
    line gives ``batch``, ``batches`` and ``loss``. Text before the line, such as the rank that a launcher puts there,
    is allowed.

    >>> parse_line("Epoch: 1 | Train Loss: 0.2458 | Accuracy: 89.52")
    {'epoch': 1, 'train_loss': 0.2458, 'train_accuracy': 0.8952}
    >>> parse_line("Batch   100/  937 | Loss: 1.2e-05")
    {'batch': 100, 'batches': 937, 'loss': 1.2e-05}
    """
    if batch := re.search(BATCH_REGEX, line):
        done, total = (int(digits) for digits in re.findall(r"[0-9]+", batch[0])[:2])
        return {"batch": done, "batches": total, "loss": float(batch[1])}
    if speed := re.search(SPEED_REGEX, line):
        return {"rows_per_s": float(speed[1])} | ({"eta_s": _seconds(speed[2])} if speed[2] else {})
    epoch = re.search(EPOCH_REGEX, line)
    if epoch is None:
        return {}
    values: dict[str, float] = {"epoch": int(epoch[1])}
    return values | {field.key: field.value(found[1]) for field in FIELDS if (found := re.search(field.regex, line))}


def number(value: float) -> str:
    """Four decimals, or four to six significant digits where those would hide the value or fill the line.

    >>> [number(value) for value in (0.24581, -3.0, 1.2e-05, 0.0, 1e9, float("nan"), float("-inf"))]
    ['0.2458', '-3.0000', '1.2e-05', '0.0000', '1e+09', 'nan', '-inf']
    """
    short = f"{value:.4g}"
    return short if 0 < abs(float(short)) < 1e-3 else _fixed(value, 4)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds; a question mark for what is not known.

    >>> duration(83), duration(100_000), duration(float("nan"))
    ('0:01:23', '27:46:40', '?')
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"


def _fixed(value: float, decimals: int) -> str:
    rounded = round(value, decimals) + 0.0  # no negative zero
    if math.isfinite(rounded) and abs(rounded) >= 1e6:
        return f"{rounded:.6g}"
    return f"{rounded:.{decimals}f}"


def _seconds(text: str) -> float:
    hours, minutes, seconds = (int(part) for part in text.split(":"))
    return 3600 * hours + 60 * minutes + seconds
