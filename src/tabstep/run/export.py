"""Exports a run: the best epoch's checkpoint becomes the model directory, predictions and report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from tabstep.artifact.load import Calibration
from tabstep.artifact.member import Member
from tabstep.artifact.save import GOLDEN_ROWS, save
from tabstep.baselines.scores import baseline_scores, below_linear
from tabstep.baselines.trees import TreeName
from tabstep.config.settings import PathSettings, Settings
from tabstep.encoding.encoded_table import EncodedTable
from tabstep.log_lines import SCORES, best_line, extra_line, is_extra, number
from tabstep.registry import PluginSettings
from tabstep.run.build import Assembly
from tabstep.run.build_scores import build_scores
from tabstep.run.chance import standard_errors
from tabstep.run.decision import choose_thresholds, decision_line, decision_report, low_f1, low_f1_line
from tabstep.run.evaluation import evaluate, score, spaced_logits
from tabstep.run.members import Selection, choose_members, selection_line, selection_report
from tabstep.run.prepared import Attention, Prepared, Show
from tabstep.run_files import PAGE, PREDICTIONS, REPORT, predictions_file
from tabstep.system.cache import cached_json
from tabstep.training.calibration import MOST_ROWS, fit_temperature
from tabstep.training.fit import best_state
from tabstep.training.losses import build_loss

# to be raised where a baseline changes: the cache holds scores of earlier versions
_BASELINES_VERSION = 1
Report = dict[str, Any]


def export(settings: Settings, config: Mapping[str, Any], prepared: Prepared, built: Assembly) -> Report:
    """Write the artifact and the predictions of the best epoch; return the report's scores. On rank 0 alone.

    The scores of val and test are those of the exported weights in full precision, not of the training loop.
    """
    output = Path(settings.paths.output_dir)
    progress, encoder = built.classifier.progress, prepared.encoder
    row, state = best_state(built.classifier, built.checkpointer.store, built.checkpointer.monitor)
    member, selection = trained_member(prepared, built, eval_weights(state["state_dict"]))
    member = calibrated(member, prepared.tables["val"], settings.decision)
    report = _evaluate(prepared, built, member, output, settings.metrics.extra)
    # those of train are of the training loop: to score train again would cost a pass over it
    report |= {key: value for key, value in row.items() if key.startswith("train_")}
    report |= {"best_epoch": row["epoch"], "epochs": len(progress.history)}
    report |= {"objective": settings.objective, "monitor": built.checkpointer.monitor}
    report |= {"monitor_value": row[built.checkpointer.monitor]}
    report |= {"skipped_steps": progress.skipped, "temperature": list(member.temperature)}
    report |= selection_report(selection)
    if added := [key for key in row if is_extra(key)]:
        report["extra_metrics"] = [key.removeprefix("val_") for key in added]
    if settings.decision is not None:
        report["decision"] = decision_report(
            settings.decision,
            member.thresholds,
            encoder,
            {split: table.y for split, table in prepared.tables.items()},
            output,
        )
    elif low := low_f1(encoder, output):
        report["low_f1"] = low
    if settings.baselines is not None and prepared.sharded is None:
        report["baselines"] = _baselines(settings.baselines, prepared, Path(settings.paths.cache_dir))
        report["standard_errors"] = standard_errors(report, encoder, output)
    if prepared.best_auroc is not None:
        report["best_reachable_test_auroc"] = prepared.best_auroc
    save(
        settings.paths.model,
        weights={name: tensor.cpu() for name, tensor in member.model.state_dict().items()},
        architecture=built.architecture,
        encoder=encoder,
        calibration=Calibration(temperature=member.temperature, thresholds=member.thresholds),
        # raw rows, of which a model must predict the same wherever it is loaded
        golden=next(prepared.sources["val"].batches(encoder.schema.features, GOLDEN_ROWS)),
        config=config,
        metrics=report,
        onnx=settings.export == "onnx",
    )
    return report


def trained_member(
    prepared: Prepared, built: Assembly, weights: Mapping[str, Tensor]
) -> tuple[Member, Selection | None]:
    """Build the model on the device that trained; choose on val which of its members count, if it asks for that."""
    model = built.architecture.build()
    model.load_state_dict(weights)
    member = Member(encoder=prepared.encoder, model=model.to(built.trainer.strategy.root_device).eval())
    return member, choose_members(member, prepared.tables["val"])


def calibrated(member: Member, val: EncodedTable, decision: str | None) -> Member:
    """Fit the temperature of a model, and its thresholds where asked for, on val."""
    # one number is fitted: a part of a large val, evenly spread, says as much
    logits, y, weight = spaced_logits(member.logits, val, MOST_ROWS)
    temperature = fit_temperature(logits, y, member.encoder.task, weight)
    member = replace(member, temperature=temperature)
    if decision is None:
        return member
    # every row alike: weights of rows count in the temperature, and not in thresholds
    return replace(member, thresholds=choose_thresholds(decision, member, logits, y.numpy()))


def _evaluate(
    prepared: Prepared, built: Assembly, member: Member, output: Path, extra: Sequence[PluginSettings]
) -> Report:
    """Score val and test on the device that trained, and write their predictions."""
    report: Report = {}
    for split in ("val", "test"):
        if split in prepared.tables:
            table = prepared.tables[split]
            # new ones for each split: they hold what they have seen
            scores = build_scores(prepared.encoder, table.num_rows, extra)
            scored = evaluate(member, table, built.classifier.loss, scores, predictions_file(output, split))
            report |= {f"{split}_{key}": value for key, value in scored.items()}
    return report


def _baselines(trees: Sequence[TreeName], prepared: Prepared, cache_dir: Path) -> dict[str, dict[str, float]]:
    """Score the baselines; the runs of a sweep, whose tables are the same, do it once."""
    encoder = prepared.encoder

    def score_one(forward: Callable[[Tensor, Tensor], Tensor], table: EncodedTable) -> dict[str, float]:
        loss, scores = build_loss("auto", task=encoder.task), build_scores(encoder, table.num_rows)
        return score(forward, table, loss, scores)

    # the rows too: a table that limits cut short keeps its fingerprint
    tables = {split: [table.fingerprint, table.num_rows] for split, table in prepared.tables.items()}
    # another version of a library may fit other trees
    facts = [_BASELINES_VERSION, tables, [[name, version(name)] for name in trees]]
    return cached_json(  # type: ignore[no-any-return]
        cache_dir,
        "baselines-" + sha256(json.dumps(facts).encode()).hexdigest()[:16],
        lambda: baseline_scores(
            prepared.tables,
            encoder.task,
            cardinalities=encoder.cardinalities,
            num_outputs=encoder.num_outputs,
            trees=trees,
            score=score_one,
        ),
    )


def eval_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that a checkpoint's epoch was validated with: the moving average where there is one."""
    prefix = "ema.module." if any(name.startswith("ema.") for name in state_dict) else "model."
    return {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}


def cells(scores: Mapping[str, Any], split: str, names: Sequence[str]) -> list[str]:
    """Return the scores of a row of the closing table; one that was not computed is left empty."""
    return [shown_score(scores[key]) if (key := f"{split}_{name}") in scores else "" for name in names]


def score_columns(table: Table, names: Sequence[str]) -> None:
    """Add a column for each score: long names are broken, numbers never."""
    for name in names:
        table.add_column(name.replace("_", " "), justify="right", min_width=7)


def calibration_line(report: Mapping[str, Any]) -> str:
    """Say what the temperature did to the probabilities of the last split that was scored.

    >>> before, after = {"test_raw_log_loss": 0.449, "test_raw_ece": 0.061}, {"test_log_loss": 0.375, "test_ece": 0.01}
    >>> calibration_line({"temperature": [1.5], **before, **after})
    'calibration: temperature 1.50, fitted on val; test log-loss 0.4490 -> 0.3750, calibration error 0.0610 -> 0.0100'
    """
    split = "test" if "test_ece" in report else "val"
    temperature = report["temperature"]
    found = f"{min(temperature):.2f}" + (f" to {max(temperature):.2f}" if len(temperature) > 1 else "")
    changes = [
        f"{name} {shown_score(report[f'{split}_raw_{key}'])} -> {shown_score(report[f'{split}_{key}'])}"
        for name, key in (("log-loss", "log_loss"), ("calibration error", "ece"))
    ]
    return f"calibration: temperature {found}, fitted on val; {split} {', '.join(changes)}"


def shown_score(value: float | None) -> str:
    return "nan" if value is None else number(value)


def show_report(report: Mapping[str, Any], paths: PathSettings, show: Show) -> None:
    """Show the scores of the splits and where everything is; last, when all is written, the line for a service."""
    show(_scores_table(report))
    for line in _remarks(report):
        show(line)
    output = Path(paths.output_dir)
    places = {"model": paths.model, PREDICTIONS: output / PREDICTIONS, "report": output / REPORT}
    if (output / PAGE).exists():
        places["page"] = output / PAGE
    for name, place in places.items():
        show(f"{name + ':':<13}{place}")
    added = report.get("extra_metrics", [])
    if line := extra_line({f"val_{key}": report.get(f"val_{key}") for key in added}):
        show(line)
    show(best_line(report))


def chosen_epoch(report: Mapping[str, Any]) -> str:
    """Say which epoch is exported, and by which score.

    >>> chosen_epoch({"best_epoch": 4, "epochs": 14, "monitor": "val_f1", "monitor_value": 0.5397})
    'best epoch 4 of 14, by val_f1 0.5397'
    """
    # a report of an earlier version has no value
    value = f" {shown_score(report['monitor_value'])}" if "monitor_value" in report else ""
    return f"best epoch {report['best_epoch']} of {report['epochs']}, by {report['monitor']}{value}"


def _scores_table(report: Mapping[str, Any]) -> Table:
    table = Table(title=chosen_epoch(report), title_justify="left")
    table.add_column("split")
    names = [*SCORES, *report.get("extra_metrics", [])]
    score_columns(table, names)
    splits = [split for split in ("train", "val", "test") if f"{split}_loss" in report]
    for split in splits:
        table.add_row(split, *cells(report, split, names))
    for name, scores in report.get("baselines", {}).items():
        table.add_row(f"{splits[-1]}, {name.replace('_', ' ')}", *cells(scores, splits[-1], names))
    return table


def _remarks(report: Mapping[str, Any]) -> Iterator[str | Attention]:
    if "selection" in report:
        yield selection_line(report["selection"])
    yield calibration_line(report)
    yield from remarks(report)


def remarks(report: Mapping[str, Any]) -> Iterator[str | Attention]:
    """Yield what is said of the scores of a run or of a cross-validation."""
    if "decision" in report:
        yield decision_line(report["decision"])
    if "low_f1" in report:
        yield low_f1_line(report["low_f1"])
    warning = below_linear(report, report.get("baselines", {}), report["objective"], report.get("standard_errors", {}))
    if warning is not None:
        cause = warning.partition("\n")[0].removeprefix("warning: ")
        yield Attention(shown=warning, warnings=[cause])
    if "best_reachable_test_auroc" in report:
        yield f"best reachable test AUROC of the built-in table: {report['best_reachable_test_auroc']:.4f}"
