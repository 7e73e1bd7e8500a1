"""Predictions to the body of an answer: label, probabilities and the version of the model, row by row."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from csv import writer
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tabstep.schema import Task
from tabstep.serving.request_error import NOT_ACCEPTABLE, RequestError
from tabstep.serving.requests import CSV, JSON, JSON_LINES, PARQUET, media_type

VERSION: Final = "model_version"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Predictions of one request.

    ``table`` has the form of ``Predictor.predict``; ``probabilities`` ``(n, classes)`` are those in it. ``named``: a
    CSV begins with a line of names, as the request did.
    """

    table: pa.Table
    probabilities: NDArray[np.float32]
    classes: Sequence[str]
    task: Task
    ids: Sequence[Any] | None
    version: str
    named: bool = True


def chosen_type(accept: str | None) -> str:
    """Return the first media type of an Accept header that can be written; JSON where anything goes.

    Raises:
        RequestError: 406, none of them can.

    >>> chosen_type("application/xml, text/csv;q=0.5"), chosen_type("*/*")
    ('text/csv', 'application/json')
    """
    for part in (accept or "*/*").split(","):
        if part.partition(";")[0].strip().lower() in ("*/*", "application/*"):
            return JSON
        found, _ = media_type(part.strip())
        if found is not None:
            return found
    known = ", ".join((CSV, JSON, JSON_LINES, PARQUET))
    raise RequestError(f"accept {accept!r} cannot be written: accept one of {known}", NOT_ACCEPTABLE)


def write_answer(answer: Answer, media: str) -> bytes:
    """Return the body. Text ends without a newline: batch transform puts one between two answers itself."""
    if media == JSON:
        return _dump({VERSION: answer.version, "predictions": list(_records(answer))})
    if media == JSON_LINES:
        return b"\n".join(_dump({**record, VERSION: answer.version}) for record in _records(answer))
    table = answer.table.append_column(VERSION, pa.array([answer.version] * answer.table.num_rows, pa.string()))
    if media == PARQUET:
        out = io.BytesIO()
        pq.write_table(table, out, write_page_checksum=True)
        return out.getvalue()
    return _csv(table, header=answer.named)


def _csv(table: pa.Table, *, header: bool) -> bytes:
    floats = [pa.types.is_float32(dtype) for dtype in table.schema.types]
    columns = [
        map(str, column.to_numpy()) if is_float else column.to_pylist()  # a float32 with its own digits
        for column, is_float in zip(table.columns, floats, strict=True)
    ]
    out = io.StringIO()
    lines = writer(out, lineterminator="\n")
    if header:
        lines.writerow(table.column_names)
    lines.writerows(zip(*columns, strict=True))
    return out.getvalue().removesuffix("\n").encode()


def _records(answer: Answer) -> Iterator[dict[str, Any]]:
    predictions = answer.table.select(answer.table.column_names[-_predicted(answer) :]).to_pylist()
    for row, (probabilities, prediction) in enumerate(zip(_short(answer.probabilities), predictions, strict=True)):
        record: dict[str, Any] = {} if answer.ids is None else {"id": answer.ids[row]}
        values = list(prediction.values())
        multilabel = answer.task == "multilabel"
        record["prediction"] = dict(zip(answer.classes, values, strict=True)) if multilabel else values[0]
        record["probabilities"] = dict(zip(answer.classes, probabilities, strict=True))
        yield record


def _predicted(answer: Answer) -> int:
    """Return how many of the last columns hold predictions."""
    return len(answer.classes) if answer.task == "multilabel" else 1


def _short(values: NDArray[np.float32]) -> list[list[float | None]]:
    """Return float32 ``(n, classes)`` with their own shortest digits, not those of the doubles beside them.

    JSON has no NaN: it becomes null.
    """
    rows: list[list[float | None]] = values.astype(np.str_).astype(np.float64).tolist()
    if np.isfinite(values).all():
        return rows
    return [[value if value is not None and math.isfinite(value) else None for value in row] for row in rows]


def _dump(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, default=str).encode()
