"""Runs side by side: the keys of their configurations that differ, and what each of them reached."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from rich.table import Table
from rich.text import Text

from tabstep.analysis.differences import Differences, difference_rows, difference_table, run_differences
from tabstep.analysis.stored_runs import StoredRun, find_runs, flat, read_run, short_names
from tabstep.errors import UserError
from tabstep.log_lines import number
from tabstep.system.atomic_write import write_durably
from tabstep.system.exits import writing
from tabstep.system.sanitize import csv_cell, printable
from tabstep.training.stopping import is_better, selected_row

_PLACES: Final = ("paths.output_dir", "paths.checkpoint_dir", "paths.model_dir")
"""Differ in every run and say nothing: the columns are named after the runs."""
_SPLITS: Final = ("train_", "val_", "test_")
_CELL, _KEY = 28, 36
_PAIRED: Final = 8


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Values by key, one a run in the order of ``names``.

    ``config`` has the keys that differ, as they are written in an override, empty where a run has no such key.
    ``metrics`` has all, None where a run has it not; of a run that is not finished, those of its best epoch so far.
    ``differences`` are those of scores from the first run's, where it has predictions, of a handful of runs.
    """

    names: tuple[str, ...]
    config: Mapping[str, tuple[str, ...]]
    metrics: Mapping[str, tuple[Any, ...]]
    differences: Differences | None = None


def compare(locations: Sequence[str | os.PathLike[str]]) -> Comparison:
    """Read runs and set them side by side; a directory that holds finished runs, as a sweep's, stands for these.

    Raises:
        UserError: fewer than two, one given twice, or one that is no run.
    """
    runs = [run for location in locations for run in _runs(location)]
    if len(runs) < 2:
        raise UserError(f"compare: at least two runs are needed, got {len(runs)}")
    resolved = [run.path.resolve() for run in runs]
    for index, path in enumerate(resolved):
        if path in resolved[:index]:
            raise UserError(f"compare: {runs[index].path} is given twice")
    names = tuple(short_names(resolved))
    # each takes seconds, and of a sweep of a hundred nobody asks how far they are from the first
    paired = run_differences(runs, names) if len(runs) <= _PAIRED else None
    return Comparison(names=names, config=_differences(runs), metrics=_metrics(runs), differences=paired)


def _runs(location: str | os.PathLike[str]) -> list[StoredRun]:
    below = find_runs(location) if Path(location).is_dir() else []
    return [read_run(path) for path in below] or [read_run(location)]


def _differences(runs: Sequence[StoredRun]) -> dict[str, tuple[str, ...]]:
    configs = [{key: written(value) for key, value in flat(run.config).items()} for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config if key not in _PLACES)
    table = {key: tuple(config.get(key, "") for config in configs) for key in keys}
    # An ensemble has none of the keys of its members: that it lacks one is no difference.
    single = ["ensemble" not in run.config for run in runs]
    return {
        key: row
        for key, row in table.items()
        if len({text for text, counts in zip(row, single, strict=True) if counts or text}) > 1
    }


def written(value: Any) -> str:
    """Return a value as it is written in an override: the text "1" is quoted, 1 and 1.0 are one.

    >>> [written(value) for value in ("mlp", "1", "", True, None, 2.0, [0.9, "a"])]
    ['mlp', '"1"', '""', 'true', 'null', '2', '[0.9, "a"]']
    """
    if isinstance(value, str) and value and _is_text(value):
        return value
    return json.dumps(_whole(value), ensure_ascii=False, default=str)


def _is_text(value: str) -> bool:
    try:
        return isinstance(yaml.safe_load(value), str)
    except yaml.YAMLError:
        return True


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _metrics(runs: Sequence[StoredRun]) -> dict[str, tuple[Any, ...]]:
    columns = [_scores(run) for run in runs]
    keys = dict.fromkeys(key for column in columns for key in column)
    return {key: tuple(column.get(key) for column in columns) for key in keys}


def _scores(run: StoredRun) -> dict[str, Any]:
    if run.report:
        scores = {key: value for key, value in run.report.items() if not isinstance(value, dict | list)}
        scores |= _decision(run.report.get("decision", {}))
        return {key: math.nan if value is None else value for key, value in scores.items()}
    if not run.history:
        return {"stop_reason": "not finished, no epoch yet"}
    best = selected_row(run.history, str(run.config.get("objective", "val_loss")))
    scores = {key: value for key, value in best.items() if key.startswith(_SPLITS)}
    return scores | {
        "best_epoch": int(best["epoch"]),
        "epochs": len(run.history),
        "stop_reason": "not finished",
    }


def _decision(decision: Mapping[str, Any]) -> dict[str, Any]:
    """Return the goal and the figures at its threshold, as keys of their own; of several labels, the goal alone."""
    figures = flat({name: part for name, part in decision.items() if "_at_" not in name}, "decision")
    return {
        key: value for key, value in figures.items() if not isinstance(value, dict | list) and ".intervals." not in key
    }


def comparison_tables(comparison: Comparison, width: int) -> Iterator[Table]:
    """Yield tables of at most ``width`` columns of characters: runs that do not fit beside each other go below."""
    # sentences are folded between their words
    words = [word for row in comparison.metrics.values() for value in row for word in _score(value).split()]
    longest = max(map(len, (*words, *(text for row in comparison.config.values() for text in row))), default=0)
    widest = min(_CELL, max([10, longest, *map(len, comparison.names)]))
    keys = min(_KEY, max(map(len, (*comparison.config, *comparison.metrics)), default=0))
    few = max(1, (width - keys - 4) // (widest + 3))
    for start in range(0, len(comparison.names), few):
        part = slice(start, start + few)
        names = comparison.names[part]
        if comparison.config:
            yield _table("Configuration", names, _config_cells(comparison.config, part), widest)
        yield _table("Metrics (* best)", names, _metric_cells(comparison.metrics, part), widest)
    if comparison.differences is not None and comparison.differences.found:
        yield difference_table(comparison.differences)


def _config_cells(rows: Mapping[str, tuple[str, ...]], part: slice) -> Iterator[tuple[str, list[str]]]:
    for key, texts in rows.items():
        yield key, [text or "–" for text in texts[part]]


def _metric_cells(rows: Mapping[str, tuple[Any, ...]], part: slice) -> Iterator[tuple[str, list[str]]]:
    for key, values in rows.items():
        best = best_value(key, values)
        marks = ["" if best is None else " *" if value == best else "  " for value in values]
        yield key, [_score(value) + mark for value, mark in zip(values[part], marks[part], strict=True)]


def best_value(metric: str, values: Sequence[Any]) -> float | None:
    """Return the best of the scores of several runs; None where there is no better and worse.

    >>> best_value("val_log_loss", [0.3, None, math.nan, 0.2]), best_value("epochs", [3, 4])
    (0.2, None)
    """
    if not metric.startswith(_SPLITS):
        return None
    best = math.nan
    for value in values:
        if isinstance(value, int | float) and is_better(value, best, metric):
            best = value
    return None if math.isnan(best) else best


def _table(title: str, names: Iterable[str], rows: Iterable[tuple[str, list[str]]], width: int) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", max_width=_KEY, overflow="fold")
    for name in names:
        table.add_column(Text(printable(name)), justify="right", max_width=width, overflow="fold")
    for key, cells in rows:
        table.add_row(Text(printable(key)), *(Text(printable(cell)) for cell in cells))
    return table


def _score(value: Any) -> str:
    return number(value) if isinstance(value, float) else "–" if value is None else str(value)


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write one line a key: its kind, the key, and the value of each run in full precision.

    Kinds are ``config``, ``metric``, and ``difference_value``, ``_low`` and ``_high`` of what is above the first run's.

    Raises:
        UserError: the place cannot be written to.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["kind", "key", *map(csv_cell, comparison.names)])
    for kind, rows in (("config", comparison.config), ("metric", comparison.metrics)):
        for key, values in rows.items():
            lines.writerow([kind, csv_cell(key), *map(csv_cell, values)])
    if comparison.differences is not None:
        for kind, key, found in difference_rows(comparison.differences, comparison.names):
            lines.writerow([kind, key, *map(csv_cell, found)])
    with writing("--csv: cannot be written"):
        write_durably(path, text.getvalue().encode())
