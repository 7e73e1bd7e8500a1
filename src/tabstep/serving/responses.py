"""Predictions to the body of an answer: label, probabilities and the version of the model, row by row."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from csv import writer
from dataclasses import dataclass
from functools import cached_property
from json.encoder import encode_basestring
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tabstep.artifact.predictor import Predictor
from tabstep.serving.request_error import NOT_ACCEPTABLE, RequestError
from tabstep.serving.request_rows import CSV, JSON, JSON_LINES, PARQUET, media_type

VERSION: Final = "model_version"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Predictions of one request.

    ``probabilities`` ``(n, classes)`` are those of ``predictor``. ``sent`` has the ids as they came, ``ids`` as JSON
    carries them back, both of them only where ids were sent. ``named``: a CSV begins with a line of names, as the
    request did.
    """

    predictor: Predictor
    probabilities: NDArray[np.float32]
    sent: pa.Table
    ids: Sequence[Any] | None
    version: str
    named: bool = True

    @cached_property
    def table(self) -> pa.Table:
        """The predictions in the form of ``Predictor.predict``."""
        return pa.Table.from_batches([self.predictor.result(self.sent, self.probabilities)])


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
        return f"{{{_version(answer)}, {_dump('predictions')}: [{', '.join(_records(answer))}]}}".encode()
    if media == JSON_LINES:
        return "\n".join(_records(answer, f", {_version(answer)}")).encode()
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


def _records(answer: Answer, end: str = "") -> Iterator[str]:
    """Yield the object of each row, with ``end`` before its bracket; what all rows share is written once."""
    names = [_dump(name) for name in answer.predictor.class_names]
    decided = answer.predictor.decided(answer.probabilities)
    form: str = ""
    columns: list[Iterable[str]] = []
    if answer.ids is not None:
        texts = {*map(type, answer.ids)} == {str}
        form, columns = '"id": %s, ', [map(encode_basestring if texts else _dump, answer.ids)]
    if answer.predictor.encoder.task == "multilabel":
        form += f'"prediction": {_object(names)}, '
        columns += decided.T.tolist()
    else:
        form += '"prediction": %s, '
        columns.append(map([_dump(label) for label in answer.predictor.encoder.classes].__getitem__, decided.tolist()))
    form = f'{{{form}"probabilities": {_object(names)}{end.replace("%", "%%")}}}'
    columns += _short(answer.probabilities)
    return map(form.__mod__, zip(*columns, strict=True))


def _object(names: Sequence[str]) -> str:
    """Return the form of an object with these names, which are JSON already, for a value of each."""
    return "{" + ", ".join(name.replace("%", "%%") + ": %s" for name in names) + "}"


def _short(values: NDArray[np.float32]) -> list[list[str]]:
    """Return the columns of float32 ``(n, classes)`` with their own shortest digits, not those of the doubles beside.

    JSON has no NaN: it becomes null.
    """
    shortest = pa.array(values.T.ravel()).cast(pa.string()).cast(pa.float64()).to_numpy()
    texts = [[*map(repr, column)] for column in shortest.reshape(values.T.shape).tolist()]
    if np.isfinite(values).all():
        return texts
    return [[text if math.isfinite(float(text)) else "null" for text in column] for column in texts]


def _version(answer: Answer) -> str:
    return f"{_dump(VERSION)}: {_dump(answer.version)}"


_dump: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=str).encode
