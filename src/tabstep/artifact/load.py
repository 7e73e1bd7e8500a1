"""Loads a model directory, whose files ``save`` lists: digests are checked first, then what the golden rows give."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from tabstep.artifact.member import Member
from tabstep.artifact.predictor import Predictor
from tabstep.artifact.serving_code import CODE, PACKAGE
from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError
from tabstep.models import build_model
from tabstep.run_files import (
    ARCHITECTURE,
    CALIBRATION,
    CONFIG,
    ENCODER,
    ENSEMBLE,
    GOLDEN,
    MANIFEST,
    MEMBERS,
    METRICS,
    SCHEMA,
    VERSIONS,
    WEIGHTS,
    model_hint,
)
from tabstep.system.atomic_write import file_digest
from tabstep.system.exits import of_the_storage, reading
from tabstep.tables.locations import first_line

FORMAT = 1
ENSEMBLE_FORMAT = 2
GOLDEN_TOLERANCE = 1e-4
"""Largest difference of a probability between machines that is still rounding."""
MEMBER_FILES = (WEIGHTS, ARCHITECTURE, ENCODER, CONFIG, METRICS, VERSIONS)
_SHARED_FILES = (SCHEMA, CONFIG, METRICS, VERSIONS, GOLDEN)
_MALFORMED = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    OSError,
    pa.ArrowException,
)
"""What a file that does not hold what it should leads to."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What rebuilds a model: its registered name, the fitted widths and its options.

    ``flags`` is absent from artifacts of versions whose models knew of none, and is empty there.
    """

    name: str
    num_numeric: int
    cardinalities: tuple[int, ...]
    num_outputs: int
    options: Mapping[str, Any]
    flags: tuple[int, ...] = ()

    def build(self) -> nn.Module:
        """Build the model with fresh weights."""
        return build_model(
            self.name,
            num_numeric=self.num_numeric,
            cardinalities=self.cardinalities,
            num_outputs=self.num_outputs,
            flags=self.flags,
            **self.options,
        )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What follows the logits, fitted on val: ``temperature`` and ``thresholds`` as in ``Member``."""

    temperature: tuple[float, ...] = (1.0,)
    thresholds: tuple[float, ...] = (0.5,)


NO_CALIBRATION = Calibration()


def load(model_dir: str | os.PathLike[str], *, device: str = "cpu") -> Predictor:
    """Load an artifact after checking its files against their digests and its golden rows against the model.

    Raises:
        UserError: not an artifact, damaged, of another format, or its golden rows come out different.
        RetryError: the storage failed.
    """
    directory = Path(model_dir)
    with reading(str(directory)):
        _check_files(directory)
        predictor = build(directory)
    # before the model moves: what must come out was computed on a CPU
    _check_golden(predictor, directory)
    return predictor.to(device)


def build(directory: Path) -> Predictor:
    return Predictor([_member(path, weight) for path, weight in member_weights(directory).items()])


def member_weights(directory: Path) -> dict[Path, float]:
    """Return the directory of each model in an artifact with its weight: of a single one, the artifact itself."""
    if not (directory / ENSEMBLE).exists():
        return {directory: 1.0}
    with _reading(directory, ENSEMBLE):
        weights = [float(weight) for weight in json.loads((directory / ENSEMBLE).read_text("utf-8"))["weights"]]
        if not weights or not all(0 <= weight < math.inf for weight in weights) or not sum(weights):
            raise ValueError(f"weights {weights}")
    return {directory / MEMBERS / str(index): weight for index, weight in enumerate(weights)}


def read_architecture(directory: Path) -> Architecture:
    with _reading(directory, ARCHITECTURE):
        data = json.loads((directory / ARCHITECTURE).read_text(encoding="utf-8"))
        return Architecture(
            **{**data, "cardinalities": tuple(data["cardinalities"]), "flags": tuple(data.get("flags", ()))}
        )


def _calibration(directory: Path) -> Calibration:
    file = directory / CALIBRATION
    with _reading(directory, CALIBRATION):
        data = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return Calibration(**{name: tuple(map(float, values)) for name, values in data.items()})


def _member(directory: Path, weight: float) -> Member:
    try:
        encoder = Encoder.from_json((directory / ENCODER).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{directory}: encoder.json: {first_line(error)}") from error
    with _reading(directory, ARCHITECTURE):
        model = read_architecture(directory).build()
    try:
        model.load_state_dict(load_file(directory / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{directory}: the weights do not fit model.json: {str(error).splitlines()[0]}") from error
    return Member(encoder=encoder, model=model, weight=weight, **vars(_calibration(directory)))


def _check_files(directory: Path) -> None:
    files = _manifest(directory)
    if (ENSEMBLE in files) != (directory / ENSEMBLE).exists():
        raise UserError(f"{directory}: {ENSEMBLE} does not fit manifest.json: copy it again, into an empty directory")
    if not (directory / CODE / PACKAGE).is_dir():  # a service has packed it again with another handler
        files = {name: digest for name, digest in files.items() if not name.startswith(f"{CODE}/")}
    for name, digest in files.items():
        path = directory / name
        if not path.is_file():
            raise UserError(f"{directory}: {name} is missing: copy the directory again")
        if file_digest(path) != digest:
            raise UserError(f"{directory}: {name} is damaged or was changed: copy the directory again")
    unnamed = [name for name in _due_files(directory) if name not in files]
    if unnamed:
        raise UserError(f"{directory}: manifest.json does not name {unnamed[0]}: copy the directory again")


def _manifest(directory: Path) -> dict[str, str]:
    """Return the digest of each file that an artifact says it has."""
    manifest_file = directory / MANIFEST
    if not manifest_file.is_file():
        hint = f": {found}" if (found := model_hint(directory)) else ""
        raise UserError(f"{directory}: is not a model directory: it has no manifest.json{hint}")
    with _reading(directory, MANIFEST):
        manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
        number, files = manifest["format"], {str(name): digest for name, digest in manifest["files"].items()}
    if number not in (FORMAT, ENSEMBLE_FORMAT):
        raise UserError(
            f"{directory}: has format {number}, this version reads {FORMAT} and {ENSEMBLE_FORMAT}: "
            "use its versions.json"
        )
    outside = [name for name in files if Path(name).is_absolute() or ".." in Path(name).parts]
    if outside:
        raise UserError(f"{directory}: manifest.json names {outside[0]!r}, which is not inside: copy it again")
    return files


@contextmanager
def _reading(directory: Path, name: str) -> Iterator[None]:
    """Turn what a file with another content than ours leads to into one line that names it."""
    try:
        yield
    except _MALFORMED as error:
        if isinstance(error, UserError) or of_the_storage(error):
            raise
        cause = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{directory}: {name} is damaged: {cause}: copy the directory again") from error


def _due_files(directory: Path) -> list[str]:
    """Return the files that an artifact cannot be read without."""
    members = [path.relative_to(directory) for path in member_weights(directory)]
    return [*_SHARED_FILES, *((path / name).as_posix() for path in members for name in MEMBER_FILES)]


def _golden(directory: Path) -> pa.RecordBatch:
    """Return raw rows, with the probabilities that are due as the last column."""
    with _reading(directory, GOLDEN):
        # no partitioning: a directory named key=value above the model is no column of its rows
        table = pq.read_table(directory / GOLDEN, page_checksum_verification=True, partitioning=None)
        return table.combine_chunks().to_batches()[0]


def golden_rows(directory: Path) -> pa.RecordBatch:
    """Return the raw rows that an artifact is checked with, without what must come out."""
    rows = _golden(directory)
    return rows.select(rows.schema.names[:-1])


def _check_golden(predictor: Predictor, directory: Path) -> None:
    rows = _golden(directory)
    with _reading(directory, ENCODER):
        found = predictor.probabilities_of(rows)
    with _reading(directory, GOLDEN):
        expected = np.array(rows.column(rows.num_columns - 1).to_pylist(), dtype=np.float64).reshape(found.shape)
    off = float(np.abs(found - expected).max(initial=0.0))
    # in this form NaN is refused too
    if not off <= GOLDEN_TOLERANCE:
        raise UserError(
            f"{directory}: golden rows come out different by {off:.2g}: the model does not compute here what it "
            "computed where it was trained; compare versions.json with what is installed"
        )
