"""The page of a run: what is in its directory, as sections, tables and pictures. Only curves are computed here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tabstep.analysis import run_pictures
from tabstep.analysis.curves import Curve, confusion, curve, decisions, reliability
from tabstep.analysis.explain import Explanation
from tabstep.analysis.run_pictures import MOST_CLASSES
from tabstep.analysis.sampled_rows import Predicted, row_count
from tabstep.analysis.slices import Slice
from tabstep.analysis.stored_runs import StoredRun, flat
from tabstep.analysis.weighted_scores import SCORES, Interval, indicators, intervals
from tabstep.encoding.encoder import Encoder
from tabstep.log_lines import duration, number
from tabstep.page.document import (
    Section,
    command,
    data_attribute,
    document,
    figure,
    folded,
    grid,
    paragraph,
    text,
)
from tabstep.page.pictures import can_draw, styled, to_svg
from tabstep.page.table import Cell, Ranged, heat_table, table
from tabstep.schema import Task

THRESHOLDS: Final = tuple(place / 100 for place in range(101))
_TABLE_THRESHOLDS: Final = tuple(range(5, 100, 5))
_MOST_CONFUSED: Final = 20
_MOST_COLUMNS: Final = 200
_DRAW_HINT: Final = "Pictures need the package matplotlib: pip install 'tabstep[report]', then tabstep report RUN."


@dataclass(frozen=True, kw_only=True, eq=False)
class RunFacts:
    """What a page is made of. ``analysis`` is empty and ``encoder`` None where the run has none.

    ``command`` made the run, ``predictions`` are those of val and test, ``notes`` what could not be read.
    """

    run: StoredRun
    command: str
    analysis: Mapping[str, Any]
    encoder: Encoder | None
    predictions: Mapping[str, Predicted]
    notes: Sequence[str]


def run_page(facts: RunFacts) -> str:
    """Return the page as HTML; a section that fails is a line in the last one."""
    makers: dict[str, Callable[[RunFacts], Iterator[str]]] = {
        "Scores": _scores,
        "Folds": _folds,
        "Epochs": _epochs,
        "Curves": _curves,
        "Confusion": _confusion,
        "Thresholds": _thresholds,
        "Columns": _columns,
        "Worst slices": _slices,
        "Worst rows": _worst_rows,
        "What was trained": _trained,
        "Data checks": _checks,
    }
    problems: list[str] = [*facts.notes, *facts.analysis.get("problems", [])]
    sections = []
    for title, make in makers.items():
        try:
            sections.append(Section(title=title, parts=list(make(facts))))
        except Exception as error:  # noqa: BLE001 - the other sections of the page are worth having
            problems.append(f"{title}: {type(error).__name__}: {' '.join(str(error).split())}")
    if not can_draw():
        problems.append(_DRAW_HINT)
    sections.append(Section(title="What failed", parts=list(_failures(facts, problems))))
    return document(f"Run {facts.run.path.resolve().name}", _lead(facts), sections)


def _lead(facts: RunFacts) -> list[str]:
    report = facts.run.report
    objective = str(report.get("objective", "val_auroc"))
    shown = {objective: report.get(objective), "test_auroc": report.get("test_auroc")}
    shown |= {"test_log_loss": report.get("test_log_loss"), "epochs": report.get("epochs")}
    shown |= {"exported epoch": report.get("best_epoch")}
    boxes = [
        f"<div>{text(name.replace('_', ' '))}<b>{text(_number(value))}</b></div>"
        for name, value in shown.items()
        if value is not None
    ]
    took = f", {duration(report['seconds'])} in all" if "seconds" in report else ""
    reason = f"Ended: {report['stop_reason']}{took}." if "stop_reason" in report else "This run is not finished."
    return [f'<div class="facts">{"".join(boxes)}</div>', paragraph(reason, kind="muted")]


def _number(value: Any) -> str:
    return number(value) if isinstance(value, float) and not value.is_integer() else f"{value:g}"


def _scores(facts: RunFacts) -> Iterator[str]:
    rows: list[list[Cell]] = []
    notes = []
    train = facts.analysis.get("train_scores")
    if train is not None:
        rows.append(["train", *(_interval(Interval(**train[name])) for name in SCORES)])
        notes.append(f"train: {train['looked_at']}")
    for split, found in facts.predictions.items():
        computed = intervals(found.probs, found.y, _task(facts))
        joined = split == "val" and "out_of_fold" in facts.run.report
        shown = "out of fold" if joined else split
        rows.append([shown, *(_interval(_exact(computed[name], facts, f"{split}_{name}")) for name in SCORES)])
        notes.append(f"{split}: {row_count(len(found.probs), found.total)}")
    rows += _baselines(facts.run.report)
    yield table(["split", *(name.replace("_", " ") for name in SCORES)], rows)
    if rows:
        yield paragraph(f"With intervals of 95 % by bootstrap. {'; '.join(notes)}.", kind="muted")
    if "best_reachable_test_auroc" in facts.run.report:
        best = facts.run.report["best_reachable_test_auroc"]
        yield paragraph(f"Best reachable test AUROC of the built-in table: {best:.4f}.")


def _exact(found: Interval, facts: RunFacts, key: str) -> Interval:
    """Return an interval around the score that the run has of all rows."""
    report, (split, _, metric) = facts.run.report, key.partition("_")
    value = report["out_of_fold"].get(metric) if split == "val" and "out_of_fold" in report else report.get(key)
    if value is None:
        return found
    shift = float(value) - found.value
    return Interval(value=float(value), low=found.low + shift, high=found.high + shift)


def _interval(found: Interval) -> Ranged:
    return Ranged(found.value, found.low, found.high)


def _baselines(report: Mapping[str, Any]) -> list[list[Cell]]:
    """Return the scores of simple models on the same splits, where a run has them: by name, then by split's metric."""
    found = report.get("baselines")
    if not isinstance(found, Mapping):
        return []
    rows: list[list[Cell]] = []
    for name, scores in found.items():
        for split in ("val", "test"):
            values: list[Cell] = [_cell(scores.get(f"{split}_{metric}")) for metric in SCORES]
            if any(value is not None for value in values):
                rows.append([f"{name} on {split}", *values])
    return rows


def _cell(value: Any) -> Cell:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _folds(facts: RunFacts) -> Iterator[str]:
    """Yield the scores of each fold of a cross-validation; any other run has none."""
    report = facts.run.report
    folds = report.get("folds")
    if not folds:
        return
    keys = [f"{split}_{name}" for split in ("val", "test") for name in SCORES if f"{split}_{name}" in folds[0]]
    counts = ("train_rows", "val_rows", "weight", "best_epoch")
    rows: list[list[Cell]] = [
        [*(fold[name] for name in ("fold", *counts)), *map(_cell, map(fold.get, keys))] for fold in folds
    ]
    yield table([name.replace("_", " ") for name in ("fold", *counts, *keys)], rows)
    means = [np.mean([np.nan if fold[key] is None else fold[key] for fold in folds]) for key in keys]
    rows = [["mean", *map(_cell, means)], ["standard deviation", *(_cell(report["spread"].get(key)) for key in keys)]]
    yield table(["over the folds", *(key.replace("_", " ") for key in keys)], rows)
    yield paragraph(
        "Of val, each row of train is predicted by the model that has not seen it; of test, by the averaged model. "
        "What columns do is on the pages of the folds: tabstep report writes them.",
        kind="muted",
    )


def _epochs(facts: RunFacts) -> Iterator[str]:
    history = facts.run.history
    if not history:
        return
    objective = str(facts.run.report.get("objective", "val_auroc")).partition("_")[2]
    best = float(facts.run.report.get("best_epoch", math.nan))
    metrics = [name for name in dict.fromkeys(("loss", objective)) if any(f"val_{name}" in row for row in history)]
    yield grid(_drawn([(name, partial(run_pictures.history, history, name, best)) for name in metrics]))
    head = list(dict.fromkeys(key for row in history for key in row))
    rows = [[int(row[key]) if key in ("epoch", "step") else row.get(key) for key in head] for row in history]
    yield folded(f"All {len(rows)} epochs", [table(head, rows)])


def _drawn(pictures: Sequence[tuple[str, Callable[[], Any]]]) -> list[str]:
    """Draw pictures by their captions; none where matplotlib is missing."""
    if not can_draw():
        return []
    with styled():
        return [figure(to_svg(draw(), caption), caption) for caption, draw in pictures]


def _task(facts: RunFacts) -> Task:
    assert facts.encoder is not None
    return facts.encoder.task


def _last(facts: RunFacts) -> tuple[str, Predicted] | None:
    """Return the predictions of the split that is furthest from training: test where there is one."""
    return next(((split, facts.predictions[split]) for split in ("test", "val") if split in facts.predictions), None)


def _curves(facts: RunFacts) -> Iterator[str]:
    last = _last(facts)
    if last is None:
        return
    split, found = last
    curves = _class_curves(facts)
    probs, what = _confidence(facts, found.probs, found.y)
    before = uncalibrated(found.probs, facts.run.report.get("temperature", [1.0]), _task(facts))
    bins = {"predicted": reliability(*probs)}
    if before is not None:
        raw, _ = _confidence(facts, before, found.y)
        bins = {"before calibration": reliability(*raw), "after calibration": reliability(*probs)}
    groups, label = _score_groups(facts, found)
    yield grid(
        _drawn(
            [
                (f"ROC of {_splits(facts)}", lambda: run_pictures.roc(curves)),
                (f"Precision and recall of {_splits(facts)}", lambda: run_pictures.precision_recall(curves)),
                (f"Reliability of {what} on {split}", lambda: run_pictures.calibration(bins)),
                (f"{label.capitalize()} on {split}", lambda: run_pictures.score_histogram(groups, label)),
            ]
        )
    )
    looked_at = [f"{name}: {row_count(len(some.probs), some.total)}" for name, some in facts.predictions.items()]
    yield paragraph(f"{'; '.join(looked_at)}.", kind="muted")


def _splits(facts: RunFacts) -> str:
    last = _last(facts)
    return " and ".join(facts.predictions) if _task(facts) == "binary" else str(last and last[0])


def _class_curves(facts: RunFacts) -> dict[str, Curve]:
    """Return the curve of each split of a binary task, or of the most frequent classes of the last split."""
    if _task(facts) == "binary":
        return {split: curve(found.probs[:, 1], found.y > 0) for split, found in facts.predictions.items()}
    last = _last(facts)
    assert last is not None
    assert facts.encoder is not None
    found = last[1]
    truth = indicators(found.y, _task(facts), found.probs.shape[1])
    frequent = np.argsort(-truth.sum(axis=0), kind="stable")[:MOST_CLASSES]
    names = [str(name) for name in facts.encoder.classes]
    return {names[place]: curve(found.probs[:, place], truth[:, place]) for place in sorted(frequent.tolist())}


def _confidence(
    facts: RunFacts, probs: NDArray[np.float32], y: NDArray[Any]
) -> tuple[tuple[NDArray[np.float32], NDArray[np.bool_]], str]:
    """Return probabilities and whether they came true, and what they are of."""
    if _task(facts) == "binary":
        return (probs[:, 1], y > 0), "the positive class"
    if _task(facts) == "multilabel":
        return (probs.ravel(), (y > 0).ravel()), "all labels"
    return (probs.max(axis=1), probs.argmax(axis=1) == y), "the predicted class"


def uncalibrated(probs: NDArray[np.float32], temperature: Sequence[float], task: Task) -> NDArray[np.float32] | None:
    """Return the probabilities before logits were divided by a temperature; None where it changes nothing.

    >>> uncalibrated(np.float32([[0.2, 0.8]]), [2.0], "binary").astype(float).round(4).tolist()
    [[0.0588, 0.9412]]
    """
    if all(value == 1.0 for value in temperature):
        return None
    tiny = np.finfo(np.float32).tiny
    logs = np.log(np.maximum(probs.astype(np.float64), tiny))
    if task == "multilabel":
        logits = (logs - np.log1p(-probs.astype(np.float64).clip(0, 1 - 1e-7))) * np.asarray(temperature)
        return np.asarray(1.0 / (1.0 + np.exp(-logits)), dtype=np.float32)
    powers = logs * temperature[0]
    powers = np.exp(powers - powers.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def _score_groups(facts: RunFacts, found: Predicted) -> tuple[dict[str, NDArray[np.float32]], str]:
    assert facts.encoder is not None
    names = [str(name) for name in facts.encoder.classes]
    if _task(facts) == "binary":
        positive = found.probs[:, 1]
        return {names[place]: positive[found.y == place] for place in (0, 1)}, f"probability of {names[1]}"
    (probs, right), what = _confidence(facts, found.probs, found.y)
    return {"right": probs[right], "wrong": probs[~right]} if _task(facts) == "multiclass" else {
        "has the label": probs[right],
        "has it not": probs[~right],
    }, f"probability of {what}"


def _confusion(facts: RunFacts) -> Iterator[str]:
    last = _last(facts)
    if last is None or facts.encoder is None:
        return
    split, found = last
    names = [str(name) for name in facts.encoder.classes]
    if _task(facts) == "multilabel":
        yield _label_table(found, names, _cuts(facts))
        return
    counts = confusion(found.y, _predicted(facts, found), len(names))
    if len(names) <= _MOST_CONFUSED:
        yield heat_table(names, counts.tolist(), "is / taken for")
    else:
        wrong = counts - np.diag(np.diag(counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSED]
        pairs = [(int(place) // len(names), int(place) % len(names)) for place in order]
        rows: list[list[Cell]] = [[names[a], names[b], int(wrong[a, b])] for a, b in pairs if wrong[a, b]]
        yield table(["is", "taken for", "rows"], rows)
    yield _class_table(counts, names)
    how = f"at threshold {_cuts(facts)[0]:.4g}" if _task(facts) == "binary" else "by the likeliest class"
    yield paragraph(f"Rows of {split} {how}; shares are of a row.", kind="muted")


def _cuts(facts: RunFacts) -> list[float]:
    """Return the thresholds that the run predicts with: one, or one a label."""
    decision = facts.run.report.get("decision")
    return list(decision["thresholds"]) if isinstance(decision, Mapping) else [0.5]


def _predicted(facts: RunFacts, found: Predicted) -> NDArray[np.int64]:
    if _task(facts) == "binary":
        return (found.probs[:, 1].astype(np.float64) > _cuts(facts)[0]).astype(np.int64)
    return np.asarray(found.probs.argmax(axis=1), dtype=np.int64)


def _class_table(counts: NDArray[np.int64], names: Sequence[str]) -> str:
    right, actual, taken = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    rows: list[list[Cell]] = [
        [
            name,
            int(actual[place]),
            _share(right[place], taken[place]),
            _share(right[place], actual[place]),
            _share(2 * right[place], taken[place] + actual[place]),
        ]
        for place, name in enumerate(names)
    ]
    return table(["class", "rows", "precision", "recall", "F1"], rows[:_MOST_COLUMNS])


def _share(part: Any, whole: Any) -> float | None:
    return float(part) / float(whole) if whole else None


def _label_table(found: Predicted, names: Sequence[str], thresholds: Sequence[float]) -> str:
    rows: list[list[Cell]] = []
    for place, name in enumerate(names):
        cut = decisions(found.probs[:, place], found.y[:, place] > 0, [thresholds[min(place, len(thresholds) - 1)]])
        tp, fp, fn, tn = (int(part[0]) for part in (cut.tp, cut.fp, cut.fn, cut.tn))
        rows.append([name, tp, fp, fn, tn, _share(tp, tp + fp), _share(tp, tp + fn), _share(2 * tp, 2 * tp + fp + fn)])
    head = ["label", "found", "false alarms", "missed", "rightly not", "precision", "recall", "F1"]
    return table(head, rows[:_MOST_COLUMNS])


def _thresholds(facts: RunFacts) -> Iterator[str]:
    """Offer every threshold with what it costs, on val: test would be chosen by otherwise."""
    found = facts.predictions.get("val")
    if found is None or facts.encoder is None or _task(facts) == "multiclass":
        return
    names = [str(name) for name in facts.encoder.classes]
    truth = indicators(found.y, _task(facts), len(names))
    probs, names = (found.probs[:, 1:], names[1:]) if _task(facts) == "binary" else (found.probs, names)
    outputs = []
    for place in range(min(len(names), _MOST_COLUMNS)):
        cuts = decisions(probs[:, place], truth[:, place], THRESHOLDS)
        outputs.append({part: getattr(cuts, part).tolist() for part in ("thresholds", "tp", "fp", "fn", "tn")})
    yield _decision_table(facts.run.report.get("decision"))
    yield _slider(outputs, names, _cuts(facts)[0])
    yield folded("As a table", [_threshold_table(outputs[0])] if len(outputs) == 1 else [])
    yield paragraph(
        f"A row is taken for positive above the threshold. Of val, {row_count(len(probs), found.total)}: a threshold "
        "that is chosen here is to be checked on other rows.",
        kind="muted",
    )


def _decision_table(decision: Any) -> str:
    """Return what the run's own threshold reaches, beside 0.5; nothing where it has none, or one a label."""
    if not isinstance(decision, Mapping):
        return ""
    head = ["accuracy", "precision", "recall", "f1", "cost"]
    rows: list[list[Cell]] = []
    for where, figures in decision.items():
        if isinstance(figures, Mapping):
            bounds = figures["intervals"]
            some = [Ranged(figures[name], *bounds[name]) if name in figures else None for name in head]
            rows.append([where.replace("_", " "), *some])
    goal = paragraph(f"The run predicts with the threshold of val that serves {decision['goal']} best.")
    return goal + table(["threshold on", *head], rows)


def _slider(outputs: Sequence[Mapping[str, Any]], names: Sequence[str], threshold: float) -> str:
    options = "".join(f'<option value="{place}">{text(name)}</option>' for place, name in enumerate(names))
    choice = f"<label>label <select data-part=output>{options}</select></label>" if len(outputs) > 1 else ""
    shown = "".join(
        f"<div>{words}<b data-part={part}></b></div>"
        for part, words in (
            ("tp", "found"),
            ("fp", "false alarms"),
            ("fn", "missed"),
            ("tn", "rightly not"),
            ("precision", "precision"),
            ("recall", "recall"),
            ("f1", "F1"),
            ("accuracy", "accuracy"),
            ("flagged", "share taken for positive"),
            ("cost", "cost of mistakes"),
        )
    )
    return (
        f"<div hidden data-decisions={data_attribute(outputs)}><div class=slider>{choice}"
        "<label>threshold <b data-part=value></b></label>"
        "<input type=range data-part=threshold min=0 max=100 "
        f'value={round(100 * threshold)} aria-label="threshold">'
        "<label>cost of a false alarm <input type=number data-part=cost-fp value=1 min=0 step=any></label>"
        "<label>cost of a miss <input type=number data-part=cost-fn value=1 min=0 step=any></label>"
        f"<button type=button data-part=cheapest>cheapest</button></div><div class=facts>{shown}</div></div>"
    )


def _threshold_table(output: Mapping[str, Any]) -> str:
    rows: list[list[Cell]] = []
    for place in _TABLE_THRESHOLDS:
        tp, fp, fn, tn = (int(output[part][place]) for part in ("tp", "fp", "fn", "tn"))
        shares = (_share(tp, tp + fp), _share(tp, tp + fn), _share(2 * tp, 2 * tp + fp + fn))
        rows.append([float(THRESHOLDS[place]), tp, fp, fn, tn, *shares, fp + fn])
    head = ["threshold", "found", "false alarms", "missed", "rightly not", "precision", "recall", "F1", "mistakes"]
    return table(head, rows)


def _columns(facts: RunFacts) -> Iterator[str]:
    if "explanation" not in facts.analysis:
        return
    found = Explanation.from_dict(facts.analysis["explanation"])
    shown = list(range(len(found.classes)))[-MOST_CLASSES:]
    shown = [1] if facts.encoder is not None and _task(facts) == "binary" else shown
    pictures: list[tuple[str, Callable[[], Any]]] = []
    if found.importances:
        spread = "Permutation importance with the spread of the permutations"
        pictures.append((spread, lambda: run_pictures.importance(found.importances, found.metric)))
    pictures += [
        (
            f"Partial dependence on {each.column}",
            partial(run_pictures.dependence, each, found.classes, shown),
        )
        for each in found.dependences
        if each.values
    ]
    yield grid(_drawn(pictures))
    rows: list[list[Cell]] = [
        [each.column, each.mean, each.std, found.sizes.get(each.column)] for each in found.importances[:_MOST_COLUMNS]
    ]
    head = ["column", f"fall of {found.metric.replace('_', ' ')}", "spread", "mean absolute attribution"]
    yield folded(f"Importance of {len(found.importances)} columns", [table(head, rows)])
    yield paragraph(
        f"Of val, {found.looked_at}. A column that another one stands in for looks less important than it is. "
        "Attributions are integrated gradients of the log-odds.",
        kind="muted",
    )
    if found.left_out:
        yield paragraph(f"{len(found.left_out):,} columns were left out: the time was over.", kind="warn")


def _slices(facts: RunFacts) -> Iterator[str]:
    found = facts.analysis.get("slices")
    if not found or not found["worst"]:
        return
    rows: list[list[Cell]] = [
        [part.column, part.value, part.rows, _interval(part.loss), _interval(part.accuracy)]
        for part in map(Slice.from_dict, found["worst"])
    ]
    yield table(["column", "value", "rows", "log-loss", "accuracy"], rows)
    yield paragraph(
        f"Of val, {found['looked_at']}, whose log-loss is {number(found['loss'])} and accuracy "
        f"{number(found['accuracy'])}: the parts by category and by fifths of numbers whose loss is most surely above "
        f"it. Intervals of 95 %; among many parts some are bad by chance.{_unweighted(facts)}",
        kind="muted",
    )


def _unweighted(facts: RunFacts) -> str:
    """Return what is to be said where rows have weights: slices and worst rows tell of rows as they are."""
    weight = None if facts.encoder is None else facts.encoder.schema.weight
    return "" if weight is None else f" Each row counts once here, whatever its {weight!r}."


def _worst_rows(facts: RunFacts) -> Iterator[str]:
    rows: list[list[Cell]] = [
        [
            row["row"],
            ", ".join(row["labels"]),
            row["explained"],
            row["probability"],
            row["loss"],
            "; ".join(_reason(reason) for reason in row["reasons"]),
        ]
        for row in facts.analysis.get("worst_rows") or []
    ]
    yield table(["row", "label", "explained", "probability", "log-loss", "why: shares of the log-odds"], rows)


def _reason(reason: Mapping[str, Any]) -> str:
    value = "missing" if reason["value"] is None else str(reason["value"])
    return f"{reason['column']} = {value}: {reason['attribution']:+.2f}"


def _trained(facts: RunFacts) -> Iterator[str]:
    if facts.command:
        yield command(facts.command)
    data = facts.analysis.get("data") or {}
    rows: list[list[Cell]] = [
        [split, each["rows"], each["files"], each["columns"], each["digest"]] for split, each in data.items()
    ]
    yield table(["split", "rows", "files", "columns", "digest of the content"], rows)
    if facts.encoder is not None:
        yield paragraph(_schema_line(facts.encoder))
        yield folded("Columns", [_schema_table(facts.encoder)])
    keys = flat(facts.run.config)
    config: list[list[Cell]] = [[key, json.dumps(value, ensure_ascii=False)] for key, value in keys.items()]
    yield folded("Configuration", [table(["key", "value"], config)])
    yield folded("Versions", [table(["package", "version"], list(map(list, _versions(facts).items())))])


def _versions(facts: RunFacts) -> dict[str, str]:
    file = facts.run.model / "versions.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _schema_line(encoder: Encoder) -> str:
    schema, classes = encoder.schema, [str(name) for name in encoder.classes]
    few = ", ".join(classes[:12]) + (f", … ({len(classes)} in all)" if len(classes) > 12 else "")
    return (
        f"Label {', '.join(schema.label[:12])} ({encoder.task}: {few}); {len(schema.numeric):,} numeric and "
        f"{len(schema.categorical):,} categorical columns."
    )


def _schema_table(encoder: Encoder) -> str:
    schema = encoder.schema
    roles = {"id": [schema.id] if schema.id else [], "label": schema.label}
    roles |= {"numeric": schema.numeric, "categorical": schema.categorical}
    rows: list[list[Cell]] = [[name, role] for role, names in roles.items() for name in names]
    return table(["column", "role"], rows[:_MOST_COLUMNS])


def _checks(facts: RunFacts) -> Iterator[str]:
    findings = facts.analysis.get("checks") or []
    rows: list[list[Cell]] = [[each["check"], each["split"], each["severity"], each["message"]] for each in findings]
    yield table(["check", "split", "result", "finding"], rows, classes=[str(each["severity"]) for each in findings])


def _failures(facts: RunFacts, problems: Sequence[str]) -> Iterator[str]:
    report = facts.run.report
    lines = [*problems]
    if report.get("skipped_steps"):
        lines.append(f"{report['skipped_steps']} steps were skipped: their gradients were not finite.")
    lines += [f"{key} is not known" for key, value in report.items() if value is None]
    bad = [each for each in facts.analysis.get("checks") or [] if each["severity"] != "ok"]
    lines += [f"{each['severity']} of the data checks: {each['message']}" for each in bad]
    if not facts.analysis:
        lines.append("The run has no analysis of its columns: its tables are not where they were.")
    yield from (paragraph(line, kind="warn") for line in lines)
    if not lines:
        yield paragraph("Nothing.", kind="good")
