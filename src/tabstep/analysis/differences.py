"""By how much runs differ in their scores, with paired bootstrap intervals, from the predictions that they stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from tabstep.analysis.sampled_rows import read_predictions, row_count
from tabstep.analysis.stored_runs import StoredRun, stored_encoder
from tabstep.analysis.weighted_scores import SCORES, Interval, differences
from tabstep.encoding.encoder import Encoder
from tabstep.run_files import predictions_file
from tabstep.system.sanitize import printable

_SPLITS: Final = ("test", "val")
_ROWS: Final = 200_000


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Of each run, by its name, how far its scores of a split are above those of the run ``reference``.

    ``left_out`` says of the others why nothing can be said.
    """

    split: str
    reference: str
    looked_at: str
    found: Mapping[str, Mapping[str, Interval]]
    left_out: Mapping[str, str]


def run_differences(runs: Sequence[StoredRun], names: Sequence[str]) -> Differences | None:
    """Return how the runs differ from the first one, on test, or val where that has no test; None without predictions.

    Runs that have scored other rows, or other classes, cannot be set beside it row by row.
    """
    scored = (_read(runs[0], split) for split in _SPLITS)
    first = next((one for one in scored if isinstance(one, _Scored)), None)
    if first is None:
        return None
    found: dict[str, Mapping[str, Interval]] = {}
    left_out: dict[str, str] = {}
    for name, run in zip(names[1:], runs[1:], strict=True):
        other = _read(run, first.split)
        if isinstance(other, str):
            left_out[name] = other
        elif other.truth.equals(first.truth) and other.classes == first.classes:
            found[name] = differences(first.probs, other.probs, first.y, first.encoder.task)
        else:
            left_out[name] = f"its rows of {first.split} are not those of {names[0]}"
    looked_at = row_count(len(first.y), first.total)
    return Differences(split=first.split, reference=names[0], looked_at=looked_at, found=found, left_out=left_out)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scored:
    """Predictions of one run: ``truth`` are ids and labels of all rows, ``probs`` and ``y`` perhaps of a sample."""

    split: str
    encoder: Encoder
    truth: pa.Table
    probs: NDArray[np.float32]
    y: NDArray[Any]
    total: int

    @property
    def classes(self) -> Any:
        return self.encoder.task, self.encoder.classes


def _read(run: StoredRun, split: str) -> _Scored | str:
    """Return what a run predicted of a split, or why that is not known."""
    file = predictions_file(run.path, split)
    if not file.is_file():
        return f"it has no predictions of {split}"
    try:
        encoder = stored_encoder(run.model)
        found = read_predictions(file, encoder, _ROWS)
        kept = len(encoder.schema.columns) - len(encoder.schema.features)
        with pq.ParquetFile(file) as parquet:
            truth = parquet.read(columns=parquet.schema_arrow.names[:kept])
    except (OSError, ValueError, pa.ArrowException):
        # a run that is damaged, or half written, is compared by its report alone
        return f"its predictions of {split}, or its model, cannot be read"
    return _Scored(split=split, encoder=encoder, truth=truth, probs=found.probs, y=found.y, total=found.total)


def difference_table(found: Differences) -> Table:
    """Return the differences for a terminal, one row a run; a star where the interval leaves out zero."""
    where = f"{found.split} ({found.looked_at})"
    title = f"Above {printable(found.reference)} on {where}, with 95 % intervals (* beyond chance)"
    table = Table(title=title, title_justify="left", min_width=len(title) + 1)
    table.add_column("")
    for name in SCORES:
        table.add_column(name, justify="right")
    for run, spans in found.found.items():
        table.add_row(Text(printable(run)), *(_cell(spans[name]) for name in SCORES))
    return table


def _cell(span: Interval) -> str:
    r"""Return a difference above its interval.

    >>> _cell(Interval(value=0.012, low=0.003, high=0.02))
    '+.0120 *\n+.0030 … +.0200'
    """
    star = " *" if span.low > 0 or span.high < 0 else "  "
    return f"{_signed(span.value)}{star}\n{_signed(span.low)} … {_signed(span.high)}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("0.", ".", 1)


def difference_lines(found: Differences | None) -> Iterator[str]:
    """Say which runs cannot be set beside the first one row by row."""
    for name, why in found.left_out.items() if found is not None else ():
        yield f"no differences of {printable(name)}: {why}"


def difference_rows(found: Differences, names: Sequence[str]) -> Iterator[tuple[str, str, list[float | None]]]:
    """Yield a kind, a score and a value a run, as a comparison is written to CSV."""
    for name in SCORES:
        for bound in ("value", "low", "high"):
            spans = [found.found.get(run) for run in names]
            values = [None if each is None else getattr(each[name], bound) for each in spans]
            yield f"difference_{bound}", f"{found.split}_{name}", values
