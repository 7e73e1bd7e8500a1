"""The report of a cross-validation: means over its folds, their spread, and the scores of the joined predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from tabstep.config.settings import PathSettings, Settings
from tabstep.log_lines import SCORES, best_line, extra_line
from tabstep.run.chance import standard_errors
from tabstep.run.decision import decision_report
from tabstep.run.export import Report, cells, remarks, score_columns
from tabstep.run.fold_results import Joined
from tabstep.run.prepared import Show
from tabstep.run_files import FOLDS, PAGE, PREDICTIONS, REPORT

OUT_OF_FOLD: Final = "out_of_fold"


def joined_report(settings: Settings, joined: Joined, output: Path) -> Report:
    """Return the report: ``train_`` and ``val_`` are means over the folds, ``test_`` are those of the averaged model.

    ``spread`` has the standard deviations over the folds, ``out_of_fold`` the scores of all out-of-fold predictions
    together, ``single_test`` the mean test scores of the folds' own models, and ``folds`` the scores of each.
    """
    reports = [fold.report for fold in joined.folds]
    keys = [key for key in reports[0] if key.startswith(("train_", "val_")) and "_raw_" not in key]
    test = [key for key in reports[0] if key.startswith("test_") and "_raw_" not in key]
    report: Report = {key: _mean(reports, key) for key in keys}
    report |= {f"test_{key}": value for key, value in joined.scores.get("test", {}).items()}
    report |= {
        "best_epoch": round(float(np.mean([each["best_epoch"] for each in reports]))),
        "epochs": sum(each["epochs"] for each in reports),
        "objective": settings.objective,
        "monitor": reports[0]["monitor"],
        "extra_metrics": reports[0].get("extra_metrics", []),
        OUT_OF_FOLD: {"rows": len(joined.labels["val"]), **joined.scores["val"]},
        "spread": {key: _spread(reports, key) for key in [*keys, *test]},
    }
    if test:
        report["single_test"] = {key.removeprefix("test_"): _mean(reports, key) for key in test}
    report["folds"] = [
        {
            "fold": fold.number,
            "train_rows": fold.train_rows,
            "val_rows": fold.rows("val"),
            "weight": fold.weight / sum(each.weight for each in joined.folds),
            "best_epoch": fold.report["best_epoch"],
            "epochs": fold.report["epochs"],
            **{key: fold.report[key] for key in [*keys, *test]},
        }
        for fold in joined.folds
    ]
    if joined.thresholds is not None:
        assert settings.decision is not None
        report["decision"] = decision_report(
            settings.decision, joined.thresholds, joined.encoder, joined.labels, output
        )
    if settings.baselines is not None:
        report["baselines"] = _baselines([each["baselines"] for each in reports])
        report["standard_errors"] = standard_errors(report, joined.encoder, output)
    return report


def _values(reports: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [np.nan if (value := each.get(key)) is None else float(value) for each in reports]


def _mean(reports: Sequence[Mapping[str, Any]], key: str) -> float:
    """Return the mean over the folds; nan where one has no value: a mean of fewer would not say so."""
    return float(np.mean(_values(reports, key)))


def _spread(reports: Sequence[Mapping[str, Any]], key: str) -> float:
    # ddof=1: the deviation is estimated from a few folds
    return float(np.std(_values(reports, key), ddof=1))


def _baselines(found: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """Return the mean scores of each baseline over the folds."""
    return {
        name: {key: _mean([each[name] for each in found], key) for key in scores} for name, scores in found[0].items()
    }


def show_folds(report: Mapping[str, Any], paths: PathSettings, show: Show) -> None:
    """Show the scores and where everything is; last the line for a service, whose scores are means over the folds."""
    show(_table(report))
    for line in remarks(report):
        show(line)
    output = Path(paths.output_dir)
    places = {"model": paths.model, PREDICTIONS: output / PREDICTIONS, FOLDS: output / FOLDS, "report": output / REPORT}
    if (output / PAGE).exists():
        places["page"] = output / PAGE
    for name, place in places.items():
        show(f"{name + ':':<13}{place}")
    if line := extra_line({f"val_{key}": report.get(f"val_{key}") for key in report["extra_metrics"]}):
        show(line)
    show(best_line(report))


def _table(report: Mapping[str, Any]) -> Table:
    folds = report["folds"]
    table = Table(title=f"{len(folds)} folds", title_justify="left")
    table.add_column("split")
    names = [*SCORES, *report["extra_metrics"]]
    score_columns(table, names)
    for fold in folds:
        table.add_row(f"val, fold {fold['fold']}", *cells(fold, "val", names))
    table.add_row("val, mean", *cells(report, "val", names))
    table.add_row("val, deviation", *cells(report["spread"], "val", names))
    for name, scores in report.get("baselines", {}).items():
        table.add_row(f"val, {name.replace('_', ' ')}, mean", *cells(scores, "val", names))
    joined = {f"val_{key}": value for key, value in report[OUT_OF_FOLD].items()}
    table.add_row("out of fold", *cells(joined, "val", names))
    if "single_test" in report:
        single = {f"test_{key}": value for key, value in report["single_test"].items()}
        table.add_row("test, one model, mean", *cells(single, "test", names))
        table.add_row("test, averaged model", *cells(report, "test", names))
    return table
