"""Explains what a model makes of a table: how much each column matters, in which way, and why each row is as it is."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tabstep.analysis.attributions import Attributions, attribute, mean_of
from tabstep.analysis.dependence import Dependence, partial_dependence
from tabstep.analysis.explained_rows import REFERENCE_ROWS, read_rows, rows_of_ids, usual_rows
from tabstep.analysis.explanation import Explanation
from tabstep.analysis.permutation import Importance, permutation_importance
from tabstep.analysis.sampled_rows import sample_places
from tabstep.analysis.weighted_scores import SCORES, score
from tabstep.artifact.load import load
from tabstep.artifact.predictor import Predictor
from tabstep.errors import UserError, nearest

ROWS: Final = 5_000
DEPENDENCE_ROWS: Final = 500
_OF_TWO_CLASSES: Final = ("auroc", "average_precision", "f1")
_IMPORTANCE_SHARE: Final = 0.7
"""Of the time, after which the columns that were looked at are drawn."""


class Budget:
    """Says whether time is left; ``seconds=None`` is all there is.

    >>> Budget(None)(), Budget(0.0)()
    (True, False)
    """

    def __init__(self, seconds: float | None) -> None:
        self._begun, self._seconds = time.monotonic(), seconds

    def __call__(self, share: float = 1.0) -> bool:
        """Tell whether less than a share of the time has gone by."""
        return self._seconds is None or time.monotonic() - self._begun < share * self._seconds


def explain(  # noqa: PLR0913 - what a person can ask for
    model: str | os.PathLike[str] | Predictor,
    table: Any,
    *,
    metric: str = "auroc",
    rows: int = ROWS,
    repeats: int = 5,
    dependences: int = 6,
    class_name: str | None = None,
    reference: Any = None,
    ids: Sequence[str | int] = (),
) -> Explanation:
    """Explain what a model makes of a table; ``tabstep explain`` in Python.

    Args:
        model: a model directory, or what ``tabstep.load`` returns.
        table: raw rows, in any form that a prediction takes. Without the label column there is no importance.
        metric: one of auroc, average_precision, log_loss, accuracy and f1.
        rows: of a longer table so many rows are looked at, evenly spread.
        repeats: permutations of each column.
        dependences: how many columns get a partial dependence, the most important ones.
        class_name: the class whose log-odds are attributed; None is the predicted one of each row, and of a binary task
            the positive one.
        reference: rows that are usual, where attributions begin; None takes the table's own, of 20 rows or more.
        ids: explain the rows of these ids alone, and neither importance nor dependence.

    Raises:
        UserError: the model, the table or a name is wrong, or a table of fewer rows has no ``reference``.
    """
    predictor = model if isinstance(model, Predictor) else load(model)
    if metric not in SCORES:
        raise UserError(f"metric: no score is called {metric!r}: {nearest(metric, SCORES)}")
    # what is usual does not hang on how few rows are looked at
    found, total = read_rows(predictor, table, max(rows, REFERENCE_ROWS))
    usual = usual_rows(predictor, found, total, reference)
    batch = rows_of_ids(predictor, table, ids) if ids else found.take(pa.array(sample_places(found.num_rows, rows)))
    attributions = attributions_of(predictor, batch, usual, _classes(predictor, batch, class_name))
    if ids:
        summary = _of_rows(predictor, attributions)
    else:
        summary = summarize(
            predictor,
            batch,
            _labels(predictor, batch),
            total=total,
            metric=metric,
            repeats=repeats,
            dependences=dependences,
            order=attributions,
        )
    name = predictor.encoder.schema.id
    return replace(
        summary,
        attributions=attribution_table(predictor, batch, attributions),
        values=pa.Table.from_batches([batch.select(list(predictor.encoder.schema.features))]),
        id=name if name in batch.schema.names else None,
    )


def summarize(  # noqa: PLR0913 - what a person can ask for
    predictor: Predictor,
    batch: pa.RecordBatch,
    y: NDArray[Any] | None,
    *,
    total: int,
    metric: str,
    repeats: int,
    dependences: int,
    order: Attributions | None,
    more: Budget = Budget(None),  # noqa: B008 - it has no end, so that all calls may share it
) -> Explanation:
    """Return importance and dependence of some rows; columns with large attributions come first, should time end."""
    schema, task = predictor.encoder.schema, predictor.encoder.task
    sizes = _sizes(order) if order is not None else {}
    columns = sorted(schema.features, key=lambda name: -sizes.get(name, 0.0))
    importances: list[Importance] = []
    no_importance = _no_importance(predictor, batch, y, metric)
    if y is not None and not no_importance:
        importances = permutation_importance(
            predictor.probabilities_of,
            batch,
            lambda probs: score(metric, probs, y, task),
            columns,
            repeats=repeats,
            more=lambda: more(_IMPORTANCE_SHARE),
        )
    # each point of each curve predicts all of them
    few = batch.take(pa.array(sample_places(batch.num_rows, DEPENDENCE_ROWS)))
    named = [importance.column for importance in importances] or columns
    curves: list[Dependence] = []
    for name in named[:dependences]:
        if more():
            numeric = name in schema.numeric
            curves.append(partial_dependence(predictor.probabilities_of, few, name, numeric=numeric))
    return Explanation(
        rows=batch.num_rows,
        total=total,
        metric=metric if y is not None else "",
        importances=tuple(importances),
        dependences=tuple(curves),
        classes=predictor.class_names,
        sizes=sizes,
        left_out=() if no_importance else tuple(columns[len(importances) :]),
        no_importance=no_importance,
    )


def _no_importance(predictor: Predictor, batch: pa.RecordBatch, y: NDArray[Any] | None, metric: str) -> str:
    """Return why no permutation says what a column is worth, or nothing where one does."""
    if y is None:
        missing = [name for name in predictor.encoder.schema.label if name not in batch.schema.names]
        return f"the table lacks the label {missing[0]!r}"
    if len(y) == 1:
        return "a single row has none to change values with"
    if metric in _OF_TWO_CLASSES and (y == y[:1]).all():
        return f"{metric} needs rows with different labels"
    return ""


def _of_rows(predictor: Predictor, attributions: Attributions) -> Explanation:
    """Return what is said of single rows: neither importance nor dependence, which are a table's."""
    rows = len(attributions.explained)
    return Explanation(
        rows=rows,
        total=rows,
        metric="",
        importances=(),
        dependences=(),
        classes=predictor.class_names,
        sizes=_sizes(attributions),
    )


def _labels(predictor: Predictor, batch: pa.RecordBatch) -> NDArray[Any] | None:
    if any(name not in batch.schema.names for name in predictor.encoder.schema.label):
        return None
    return predictor.encoder.encode_labels(batch)


def _classes(predictor: Predictor, batch: pa.RecordBatch, name: str | None) -> NDArray[np.int64]:
    """Return the class of each row whose log-odds are attributed."""
    names = predictor.class_names
    if name is None:
        return explained_classes(predictor, batch)
    if name not in names:
        raise UserError(f"class: no class is called {name!r}: {nearest(name, names)}")
    return np.full(batch.num_rows, names.index(name), dtype=np.int64)


def explained_classes(predictor: Predictor, batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Return the positive class of a binary task, else the likeliest class or label of each row."""
    if predictor.encoder.task == "binary":
        return np.ones(batch.num_rows, dtype=np.int64)
    return np.asarray(predictor.probabilities_of(batch).argmax(axis=1), dtype=np.int64)


def attributions_of(
    predictor: Predictor, batch: pa.RecordBatch, usual: pa.RecordBatch, classes: NDArray[np.int64]
) -> Attributions:
    """Attribute the log-odds of one class a row, over all members."""
    members = predictor.members
    return mean_of([attribute(member, batch, usual, classes) for member in members], [m.weight for m in members])


def attribution_table(predictor: Predictor, batch: pa.RecordBatch, attributions: Attributions) -> pa.Table:
    """Return one row each: id and label where they are, what is explained, and a figure a column."""
    schema, names = predictor.encoder.schema, predictor.class_names
    kept = [name for name in (schema.id, *schema.label) if name is not None and name in batch.schema.names]
    columns = {name: batch.column(name) for name in kept}
    columns |= {
        "explained": pa.array([names[index] for index in attributions.explained.tolist()]),
        "probability": pa.array(_probabilities(predictor, batch, attributions.explained)),
        "log_odds": pa.array(attributions.log_odds),
        "baseline": pa.array(attributions.baseline),
    }
    columns |= {
        f"attribution_{name}": pa.array(attributions.values[:, i]) for i, name in enumerate(attributions.columns)
    }
    return pa.table(columns)


def _probabilities(predictor: Predictor, batch: pa.RecordBatch, classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what is predicted of one class a row: of an ensemble, the mean of its members' probabilities."""
    probs = predictor.probabilities_of(batch)
    return np.asarray(probs[np.arange(len(classes)), classes], dtype=np.float64)


def _sizes(attributions: Attributions) -> dict[str, float]:
    sizes = np.abs(attributions.values).mean(axis=0).tolist()
    return dict(zip(attributions.columns, sizes, strict=True))
