"""The four functions that SageMaker's PyTorch containers look for; a copy is ``code/inference.py`` of every artifact.

A request holds raw rows as CSV, JSON, JSON lines or parquet; the answer has a label, the probability of each class and
the version of the model for each of them, in any of these forms. What cannot be read is answered with 4xx and the
reason. ``request_rows`` and ``responses`` of this package say which forms there are.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import pyarrow.parquet as pq
import torch

from tabstep.artifact.load import load
from tabstep.artifact.predictor import Predictor
from tabstep.errors import UserError
from tabstep.run_files import GOLDEN, MANIFEST
from tabstep.serving.feature_table import id_values, to_table, with_names
from tabstep.serving.fields import Field, model_fields
from tabstep.serving.limits import Limits
from tabstep.serving.request_error import MALFORMED, RequestError
from tabstep.serving.request_rows import Request, read_request
from tabstep.serving.responses import Answer, chosen_type, write_answer

try:  # the container's toolkit turns its own exception into the status; elsewhere ours carries the same facts
    from sagemaker_inference.errors import BaseInferenceToolkitError
except ImportError:

    class BaseInferenceToolkitError(Exception):  # type: ignore[no-redef]
        """Stands in for the toolkit's exception where there is no toolkit."""

        def __init__(self, status_code: int, message: str, phrase: str) -> None:
            self.status_code, self.message, self.phrase = status_code, message, phrase
            super().__init__(status_code, message, phrase)


class RefusedError(BaseInferenceToolkitError, ValueError):  # type: ignore[misc]
    """What is wrong with a request. A container without the toolkit answers a ``ValueError`` with 400 and its text."""

    def __str__(self) -> str:
        return str(self.message)


T = TypeVar("T")


CSV_COLUMNS: Final = "TABSTEP_CSV_COLUMNS"
"""Variable of the container with the names of a CSV that batch transform splits by line."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A loaded artifact with what a request is read by."""

    predictor: Predictor
    fields: tuple[Field, ...]
    version: str
    csv_columns: tuple[str, ...] = ()
    """Names of a CSV whose later pieces have lost the header that the first one has."""


def model_fn(model_dir: str) -> ServedModel:
    """Load the artifact, on the GPU where there is one, after its digests and golden rows have been checked."""
    directory = Path(model_dir)
    limits = Limits.from_environment(os.environ)
    predictor = load(directory, device="cuda" if torch.cuda.is_available() else "cpu")
    columns = len(predictor.encoder.schema.columns)
    if columns > limits.max_request_columns:
        raise UserError(f"{directory}: the model has {columns:,} columns: set TABSTEP_MAX_REQUEST_COLUMNS to {columns}")
    return ServedModel(
        predictor=predictor,
        fields=model_fields(predictor.encoder, pq.read_schema(directory / GOLDEN)),
        version=model_version(directory),
        csv_columns=_csv_columns(os.environ.get(CSV_COLUMNS, "")),
    )


def model_version(model_dir: str | os.PathLike[str]) -> str:
    """Return 12 hex digits that stand for every byte of the artifact: those of its manifest's SHA-256."""
    return hashlib.sha256((Path(model_dir) / MANIFEST).read_bytes()).hexdigest()[:12]


def input_fn(body: bytes | bytearray | str, content_type: str | None) -> Request:
    """Parse a request; 415 for an unknown type, 400 for a body that is not of its type, 413 for one beyond a limit."""
    return _answerable(lambda: read_request(body, content_type, Limits.from_environment(os.environ)))


def predict_fn(request: Request, model: ServedModel) -> Answer:
    """Predict the rows of a request; 400 where a column is missing or a value is not of its column's kind."""
    return _answerable(lambda: _predict(request, model))


def output_fn(answer: Answer, accept: str | None) -> tuple[bytes, str]:
    """Return the body and its media type; 406 where none that is accepted can be written."""
    media = _answerable(lambda: chosen_type(accept))
    return write_answer(answer, media), media


def _predict(request: Request, model: ServedModel) -> Answer:
    predictor = model.predictor
    encoder = predictor.encoder
    id_name = encoder.schema.id
    given = with_names(request, model.csv_columns)
    table, named = to_table(given, model.fields, id_name)
    batches = table.to_batches(max_chunksize=65_536)
    probabilities = np.concatenate([predictor.probabilities_of(batch) for batch in batches])
    ids = table.select([id_name] if id_name in table.column_names else [])
    return Answer(
        predictor=predictor,
        probabilities=probabilities,
        sent=ids,
        ids=id_values(ids.column(0), str(id_name)) if ids.num_columns else None,
        version=model.version,
        named=named and given is request,
    )


def _csv_columns(text: str) -> tuple[str, ...]:
    return tuple(next(csv.reader([text]), ()))


def _answerable(step: Callable[[], T]) -> T:
    """Turn what is wrong with a request into the toolkit's exception, which carries the status."""
    try:
        return step()
    except UserError as error:
        status = error.status if isinstance(error, RequestError) else MALFORMED
        message = str(error).encode("utf-8", "backslashreplace").decode()
        reason = message.encode("ascii", "backslashreplace").decode()  # a status line holds nothing else
        raise RefusedError(status, message, reason) from error
