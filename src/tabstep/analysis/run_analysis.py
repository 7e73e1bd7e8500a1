"""What a finished run's page says beyond its scores: of the data, the checks, the columns, the worst rows. JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from tabstep.analysis.attributions import Attributions
from tabstep.analysis.dependence import decoded
from tabstep.analysis.explain import Budget, attributions_of, explained_classes, summarize
from tabstep.analysis.explained_rows import reference_rows
from tabstep.analysis.explanation import Explanation
from tabstep.analysis.sampled_rows import Labelled, labelled_rows, row_count, sample_places
from tabstep.analysis.slices import worst_slices
from tabstep.analysis.weighted_scores import SCORES, indicators, intervals, row_hits, row_losses
from tabstep.artifact.predictor import Predictor
from tabstep.checks.findings import Finding
from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError
from tabstep.tables.column_types import to_text
from tabstep.tables.source import ParquetSource

FORMAT: Final = 1
SCORED_ROWS: Final = 20_000
"""Rows that are predicted once, while ``Limits.rows`` are predicted for each column and repetition."""
_ATTRIBUTED: Final = 200
_LEAST_ATTRIBUTED: Final = 20
_LEAST_EXPLAINED: Final = 200
_EXPLAINED_CELLS: Final = 2**19
_WORST_ROWS: Final = 5
_REASONS: Final = 5
REPEATS: Final = 5
DEPENDENCES: Final = 6


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an analysis may cost: rows that are looked at, and seconds after which what is left is left out."""

    rows: int
    seconds: float


def analyse(
    predictor: Predictor,
    sources: Mapping[str, ParquetSource],
    findings: Sequence[Finding],
    limits: Limits,
    *,
    metric: str,
) -> dict[str, Any]:
    """Return what ``analysis.json`` holds; a part that fails is a line under ``problems``, and the others go on.

    Args:
        sources: the splits; of train, scores are computed, and val is what explanations are made of.
        metric: the score that importances are falls of, one of ``SCORES``.
    """
    started, more = time.monotonic(), Budget(limits.seconds)
    found: dict[str, Any] = {"format": FORMAT, "checks": [asdict(finding) for finding in findings]}
    problems: list[str] = []

    def part(name: str, compute: Callable[[], Any]) -> Any:
        if not more():
            problems.append(f"{name}: left out: report.seconds={limits.seconds:g} were over")
            return None
        try:
            found[name] = compute()
        except Exception as error:  # noqa: BLE001 - a page with a part less is better than a run that fails at its end
            problems.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}")
        return found.get(name)

    part("data", lambda: {split: data_facts(source) for split, source in sources.items()})
    if "train" in sources:
        part("train_scores", lambda: train_scores(predictor, sources["train"]))
    if "val" in sources:
        val = cache(partial(labelled_rows, sources["val"], predictor.encoder, SCORED_ROWS))  # read in the first part
        part("slices", lambda: slices(predictor, val()))
        part("worst_rows", lambda: worst_rows(predictor, val()))
        part(
            "explanation",
            lambda: explained(predictor, val().some(explained_rows(predictor, limits)), metric, more).to_dict(),
        )
    return found | {"problems": problems, "seconds": round(time.monotonic() - started, 3)}


def data_facts(source: ParquetSource) -> dict[str, Any]:
    """Return how large a split is, and a digest of what it holds."""
    return {
        "rows": source.num_rows,
        "files": len(source.files),
        "columns": len(source.arrow_schema),
        "digest": source.fingerprint(),
    }


def train_scores(predictor: Predictor, source: ParquetSource) -> dict[str, Any]:
    """Return the scores of the exported model on train, with intervals, of a sample where train is long."""
    some = labelled_rows(source, predictor.encoder, SCORED_ROWS)
    found = intervals(predictor.probabilities_of(some.rows), some.y, predictor.encoder.task)
    return {"looked_at": row_count(some.rows.num_rows, some.total)} | {name: vars(found[name]) for name in SCORES}


def slices(predictor: Predictor, some: Labelled) -> dict[str, Any]:
    """Return the slices where the loss is highest."""
    losses, hits = _by_row(predictor, some)
    worst = worst_slices(some.rows, predictor.encoder.schema, losses, hits)
    return {
        "looked_at": row_count(some.rows.num_rows, some.total),
        "loss": float(losses.mean()),
        "accuracy": float(hits.mean()),
        "worst": [part.to_dict() for part in worst],
    }


def _by_row(predictor: Predictor, some: Labelled) -> tuple[Any, Any]:
    task, probs = predictor.encoder.task, predictor.probabilities_of(some.rows)
    truth = indicators(some.y, task, probs.shape[1])
    return row_losses(probs, truth, task), row_hits(probs, truth, task)


def worst_rows(predictor: Predictor, some: Labelled) -> list[dict[str, Any]]:
    """Return the rows with the highest loss, and which columns make the model think so."""
    losses, _ = _by_row(predictor, some)
    places = np.argsort(-losses, kind="stable")[:_WORST_ROWS]
    rows = some.rows.take(pa.array(places))
    probs = predictor.probabilities_of(rows)
    classes = np.ones(len(rows), dtype=np.int64) if predictor.encoder.task == "binary" else probs.argmax(axis=1)
    reasons = _attributions(predictor, rows, some.rows, classes)
    return [
        {
            "row": _row_name(predictor.encoder, rows, place),
            "labels": [str(rows.column(name)[place].as_py()) for name in predictor.encoder.schema.label],
            "explained": predictor.class_names[classes[place]],
            "probability": float(probs[place, classes[place]]),
            "loss": float(losses[places[place]]),
            "reasons": [] if reasons is None else _reasons(rows, reasons, place),
        }
        for place in range(len(rows))
    ]


def _row_name(encoder: Encoder, rows: pa.RecordBatch, place: int) -> str:
    name = encoder.schema.id
    return "" if name is None or name not in rows.schema.names else str(rows.column(name)[place].as_py())


def _reasons(rows: pa.RecordBatch, found: Attributions, place: int) -> list[dict[str, Any]]:
    order = np.argsort(-np.abs(found.values[place]), kind="stable")[:_REASONS]
    return [
        {
            "column": found.columns[index],
            "value": _value(rows.column(found.columns[index])[place : place + 1]),
            "attribution": float(found.values[place, index]),
        }
        for index in order
    ]


def _value(cell: pa.Array) -> str | None:
    plain = decoded(cell)
    if pa.types.is_floating(plain.type) and plain.is_valid()[0].as_py():
        return f"{plain[0].as_py():.6g}"
    text: str | None = to_text(plain)[0].as_py()
    return text


def _attributions(predictor: Predictor, rows: pa.RecordBatch, usual: pa.RecordBatch, classes: Any) -> Any:
    """Return attributions, or None for a model that has none to give."""
    try:
        return attributions_of(predictor, rows, reference_rows(usual), classes)
    except UserError:
        return None


def explained_rows(predictor: Predictor, limits: Limits) -> int:
    """Return how many rows explanations are made of: fewer of a very wide table, whose every column costs as many."""
    return min(limits.rows, max(_LEAST_EXPLAINED, _EXPLAINED_CELLS // len(predictor.encoder.schema.features)))


def explained(predictor: Predictor, some: Labelled, metric: str, more: Budget) -> Explanation:
    """Return importance and dependence of the columns."""
    # columns cost as many rows each: a wide table has fewer
    wide = max(1, len(predictor.encoder.schema.features) // 100)
    few = some.rows.take(pa.array(sample_places(some.rows.num_rows, max(_LEAST_ATTRIBUTED, _ATTRIBUTED // wide))))
    return summarize(
        predictor,
        some.rows,
        some.y,
        total=some.total,
        metric=metric,
        repeats=REPEATS,
        dependences=DEPENDENCES,
        order=_attributions(predictor, few, some.rows, explained_classes(predictor, few)),
        more=more,
    )
