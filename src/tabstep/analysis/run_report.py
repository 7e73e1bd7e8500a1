"""``report.html`` of a run: made at its end, or later from what it has left; at the end, a failure is a line."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from tabstep.analysis.run_analysis import Limits, analyse
from tabstep.analysis.run_page import run_page
from tabstep.analysis.sampled_rows import Predicted, read_predictions
from tabstep.analysis.sections.facts import RunFacts
from tabstep.analysis.stored_runs import StoredRun, read_run, stored_encoder
from tabstep.analysis.weighted_scores import SCORES
from tabstep.artifact.load import load
from tabstep.checks.findings import Finding
from tabstep.config.secrets import hidden, redacted
from tabstep.errors import StoppedError, UserError
from tabstep.run_files import (
    ANALYSIS,
    HYDRA,
    MANIFEST,
    MODEL,
    PAGE,
    REPORT,
    predictions_file,
)
from tabstep.system.atomic_write import write_durably
from tabstep.system.exits import writing
from tabstep.tables.folds import assign_folds, train_and_val
from tabstep.tables.source import ParquetSource, open_source
from tabstep.tables.splits import Cut, hold_out, labeled, locate_splits

PREDICTED_ROWS: Final = 200_000
Show = Callable[[str], None]


def report_run(
    directory: Path,
    model: Path,
    sources: Mapping[Any, ParquetSource],
    findings: Sequence[Finding],
    limits: Limits,
    show: Show,
) -> None:
    """Analyse a run that has just ended and write its page; whatever goes wrong is a line and no more."""
    with unharmed(show), np.errstate(over="ignore", invalid="ignore"):  # a column may hold the largest floats there are
        _write_analysis(directory, _analysed(read_run(directory), model, sources, findings, limits))
        write_page(directory, model)


@contextmanager
def unharmed(show: Show) -> Iterator[None]:
    """Turn whatever goes wrong with a page into a line: the run that it is of is complete."""
    try:
        yield
    except (StoppedError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - the run is complete: its page is an extra
        show(f"{PAGE}: could not be made: {type(error).__name__}: {' '.join(str(error).split())}")


def report_again(directory: Path, limits: Limits, show: Show) -> Path:
    """Write the page of an older run and return it; what it lacks is computed where its tables are still there.

    Raises:
        UserError: it is no finished run, or the page cannot be written.
    """
    run = read_run(directory)
    if not (directory / REPORT).is_file():
        raise UserError(f"{directory}: is not finished: the same command that began it goes on")
    model = _model(run)
    averaged = bool(run.report.get("folds"))  # its models have seen every row that could be explained
    if not averaged and not (directory / ANALYSIS).is_file() and (model / MANIFEST).is_file():
        try:
            sources = stored_sources(run)
        except (UserError, KeyError, TypeError) as error:
            show(f"the tables of the run are not where they were: {' '.join(str(error).split())}")
        else:
            with writing(f"{directory}: cannot be written"):
                _write_analysis(directory, _analysed(run, model, sources, [], limits))
    return write_page(directory, model)


def _model(run: StoredRun) -> Path:
    named = run.config.get("paths", {}).get("model_dir")
    return Path(named) if named and not run.model.exists() else run.model


def stored_sources(run: StoredRun) -> dict[str, ParquetSource]:
    """Open the tables that a run was made with, where they still are.

    Raises:
        UserError: they cannot be found or read.
    """
    data, seed = run.config["data"], run.config["seed"]
    locations = locate_splits(data["path"], data["train"], data["val"], data["test"])
    if not locations:
        raise UserError("it was made with the built-in table")
    schema = stored_encoder(_model(run)).schema
    # what the run has found to be times in text is in the model's schema alone
    parse = dict(schema.parse)
    sources: dict[str, ParquetSource] = {
        split: open_source(place, split=split, partitioning=data["partitioning"]).reading(parse, exact=False)
        for split, place in locations.items()
    }
    # from here on as the run itself has cut them, in the same order
    folds, fold = data.get("folds"), data.get("fold")
    if folds is not None and "val" in sources:
        sources["train"] = sources["train"].joined(sources.pop("val"))
    by = data.get("split", {})
    cut = Cut(label=schema.label, group=by.get("group"), time=by.get("time"), seed=seed)
    if data.get("drop_unlabeled"):
        sources = {split: labeled(source, schema.label) for split, source in sources.items()}
    if folds is not None and fold is not None:
        numbers = assign_folds(sources["train"], cut, folds)
        sources["train"], sources["val"] = train_and_val(sources["train"], numbers, fold, cut)
    elif "val" not in sources:
        sources["train"], sources["val"] = hold_out(sources["train"], cut, data["val_share"])
    return sources


def _analysed(
    run: StoredRun, model: Path, sources: Mapping[Any, ParquetSource], findings: Sequence[Finding], limits: Limits
) -> dict[str, Any]:
    metric = str(run.report.get("objective", "")).removeprefix("val_")
    metric = metric if metric in SCORES else "log_loss"
    return analyse(load(model), sources, findings, limits, metric=metric)


def _write_analysis(directory: Path, found: Mapping[str, Any]) -> None:
    write_durably(directory / ANALYSIS, json.dumps(_finite(found), indent=1, allow_nan=False).encode())


def _finite(value: Any) -> Any:
    """Replace what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def write_page(directory: Path, model: Path) -> Path:
    """Write the page from what is in a run's directory and return it.

    Raises:
        UserError: the page cannot be written.
    """
    run = read_run(directory)
    notes: list[str] = []
    encoder = _readable(MODEL, lambda: stored_encoder(model), notes)
    predictions: dict[str, Predicted] = {}
    for split in ("val", "test"):
        file = predictions_file(directory, split)
        if encoder is not None and file.is_file():
            found = _readable(file.name, partial(read_predictions, file, encoder, PREDICTED_ROWS), notes)
            predictions |= {} if found is None else {split: found}
    analysis = directory / ANALYSIS
    facts = RunFacts(
        run=StoredRun(**{**vars(run), "model": model, "config": hidden(run.config), "path": directory}),
        command=command_of(directory),
        analysis=json.loads(analysis.read_text(encoding="utf-8")) if analysis.is_file() else {},
        encoder=encoder,
        predictions=predictions,
        notes=notes,
    )
    page = directory / PAGE
    with writing(f"{page}: cannot be written"):
        write_durably(page, run_page(facts).encode())
    return page


def _readable(name: str, read: Callable[[], Any], notes: list[str]) -> Any:
    try:
        return read()
    except (UserError, OSError, ValueError) as error:
        notes.append(f"{name}: cannot be read: {' '.join(str(error).split())}")
        return None


def command_of(directory: Path) -> str:
    """Return the command that made a run, as far as its overrides say it; without what looks like a secret."""
    file = directory / HYDRA / "overrides.yaml"
    try:
        overrides = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return ""
    if not isinstance(overrides, list):
        return ""
    return shlex.join(["python", "train.py", *map(str, hidden(redacted(overrides, os.environ)))])
