"""From the best epoch's checkpoint to what a run leaves behind: the artifact, predictions and scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from tabstep.artifact import save as artifact
from tabstep.artifact.predictor import Member
from tabstep.config.settings import PathSettings, Settings
from tabstep.log_lines import best_line, number
from tabstep.run.build import Assembly, build_scores
from tabstep.run.evaluation import evaluate
from tabstep.run.prepare import Prepared, Show
from tabstep.training.fit import best_state

REPORT, PREDICTIONS = "report.json", "predictions"
_SHOWN = ("loss", "accuracy", "f1", "auroc", "average_precision", "log_loss")
Report = dict[str, Any]


def export(settings: Settings, config: Mapping[str, Any], prepared: Prepared, built: Assembly) -> Report:
    """Write the artifact and the predictions of the best epoch; return the report's scores. On rank 0 alone.

    The scores of val and test are those of the exported weights in full precision, not of the training loop.
    """
    output = Path(settings.paths.output_dir)
    progress, encoder = built.classifier.progress, prepared.encoder
    row, state = best_state(built.classifier, built.checkpointer.store, settings.objective)
    weights = eval_weights(state["state_dict"])
    report = _evaluate(prepared, built, weights, output / PREDICTIONS)
    report |= {key: value for key, value in row.items() if key.startswith("train_")}
    report |= {"best_epoch": row["epoch"], "epochs": len(progress.history), "objective": settings.objective}
    report |= {"skipped_steps": progress.skipped}
    if prepared.best_auroc is not None:
        report["best_reachable_test_auroc"] = prepared.best_auroc
    artifact.save(
        settings.paths.model,
        weights=weights,
        architecture=built.architecture,
        encoder=encoder,
        golden=next(prepared.sources["val"].batches(encoder.schema.features, artifact.GOLDEN_ROWS)),
        config=config,
        metrics=report,
    )
    return report


def _evaluate(prepared: Prepared, built: Assembly, weights: Mapping[str, Tensor], directory: Path) -> Report:
    """Score val and test on the device that trained, and write their predictions."""
    model = built.architecture.build()
    model.load_state_dict(weights)
    member = Member(encoder=prepared.encoder, model=model.to(built.trainer.strategy.root_device))
    report: Report = {}
    for split in ("val", "test"):
        if split in prepared.tables:
            table = prepared.tables[split]
            scores = build_scores(prepared.encoder, table.num_rows)
            found = evaluate(member, table, built.classifier.loss, scores, directory / f"{split}.parquet")
            report |= {f"{split}_{key}": value for key, value in found.items()}
    return report


def eval_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that a checkpoint's epoch was validated with: the moving average where there is one."""
    prefix = "ema.module." if any(name.startswith("ema.") for name in state_dict) else "model."
    return {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}


def show_report(report: Mapping[str, Any], paths: PathSettings, show: Show) -> None:
    """Show the scores of the splits and where everything is; last, when all is written, the line for a service."""
    table = Table(title=f"best epoch {report['best_epoch']} of {report['epochs']}", title_justify="left")
    table.add_column("split")
    for name in _SHOWN:
        table.add_column(name, justify="right")
    for split in ("train", "val", "test"):
        if f"{split}_loss" in report:
            values = (report.get(f"{split}_{name}") for name in _SHOWN)
            table.add_row(split, *("nan" if value is None else number(value) for value in values))
    show(table)
    if "best_reachable_test_auroc" in report:
        show(f"best reachable test AUROC of the built-in table: {report['best_reachable_test_auroc']:.4f}")
    output = Path(paths.output_dir)
    for name, place in (("model", paths.model), (PREDICTIONS, output / PREDICTIONS), ("report", output / REPORT)):
        show(f"{name + ':':<13}{place}")
    show(best_line(report))
