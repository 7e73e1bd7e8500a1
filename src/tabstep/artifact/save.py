"""The model directory: everything that a prediction needs, checked by digests and golden rows whenever it is loaded.

=====================  =====================================================================
``model.safetensors``  weights of the best epoch
``model.json``         architecture: name, widths, options
``calibration.json``   the temperature that logits are divided by, and the thresholds of decisions
``encoder.json``       the fitted transform with schema, task and classes
``schema.json``        columns by role, task and classes, for people and other programs
``config.yaml``        the resolved configuration of the run
``metrics.json``       scores of the run
``versions.json``      what it was trained with
``MODEL_CARD.md``      all of that for a person
``golden.parquet``     a few raw rows and the probabilities that must come out
``manifest.json``      format, and the SHA-256 of each file above
``code/``              what SageMaker's containers serve it with; a service may put another handler in its place
=====================  =====================================================================

An ensemble has, instead of the first two and the encoder, ``ensemble.json`` (the weights) and these files of each
member under ``members/<number>/``. It is read, checked and used like a single model.
"""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from tabstep import __version__
from tabstep.artifact.model_card import CARD, model_card
from tabstep.artifact.predictor import Member, Predictor
from tabstep.artifact.serving_code import CODE, PACKAGE, write_code
from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError
from tabstep.models import build_model
from tabstep.run_files import CONFIG, MANIFEST, METRICS, WEIGHTS
from tabstep.system.atomic_write import file_digest, sync_directory, temporary_beside, write_durably
from tabstep.system.exits import of_the_machine
from tabstep.tables.locations import first_line

FORMAT = 1
ENSEMBLE_FORMAT = 2
CALIBRATION = "calibration.json"
"""Absent from artifacts of versions that fitted no temperature."""
ENSEMBLE, MEMBERS = "ensemble.json", "members"
GOLDEN_ROWS = 8
GOLDEN_TOLERANCE = 1e-4
"""Largest difference of a probability between machines that is still rounding."""
_MEMBER_FILES = (WEIGHTS, "model.json", "encoder.json", CONFIG, METRICS, "versions.json")
_SHARED_FILES = ("schema.json", CONFIG, METRICS, "versions.json", "golden.parquet")
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
_PACKAGES = ("torch", "lightning", "torchmetrics", "pyarrow", "numpy", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What rebuilds a model: its registered name, the fitted widths and its options."""

    name: str
    num_numeric: int
    cardinalities: tuple[int, ...]
    num_outputs: int
    options: Mapping[str, Any]

    def build(self) -> nn.Module:
        """Build the model with fresh weights."""
        return build_model(
            self.name,
            num_numeric=self.num_numeric,
            cardinalities=self.cardinalities,
            num_outputs=self.num_outputs,
            **self.options,
        )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What follows the logits, fitted on val: ``temperature`` and ``thresholds`` as in ``Member``."""

    temperature: tuple[float, ...] = (1.0,)
    thresholds: tuple[float, ...] = (0.5,)


NO_CALIBRATION = Calibration()


def save(
    directory: Path,
    *,
    weights: Mapping[str, Tensor],
    architecture: Architecture,
    encoder: Encoder,
    calibration: Calibration = NO_CALIBRATION,
    golden: pa.RecordBatch,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> None:
    """Write the artifact beside ``directory`` and give it its name at the end, so that a half one is never seen.

    ``golden`` holds raw rows with the feature columns; their expected probabilities are computed here.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(directory, directory=True) as (temporary, _):
        # safetensors' own writer reports a full disk as an error of its format
        content = safetensors_bytes({name: tensor.contiguous() for name, tensor in weights.items()})
        (temporary / WEIGHTS).write_bytes(content)
        write_json(temporary / "model.json", vars(architecture))
        write_json(temporary / CALIBRATION, vars(calibration))
        (temporary / "encoder.json").write_text(encoder.to_json(), encoding="utf-8")
        _finish(temporary, directory, golden=golden, config=config, metrics=metrics)


def save_ensemble(
    directory: Path,
    *,
    members: Mapping[Path, float],
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> None:
    """Write the artifact whose probabilities are the weighted mean of other artifacts' (of one schema, task, classes).

    The members' files are copied; golden rows are those of the first.

    Raises:
        UserError: a member is damaged, or an ensemble itself.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(directory, directory=True) as (temporary, _):
        for index, source in enumerate(members):
            if len(load(source).members) > 1:  # loading checks it: a damaged model must not be sealed anew
                raise UserError(f"{source}: is an ensemble, which cannot be a member of another")
            target = temporary / MEMBERS / str(index)
            target.mkdir(parents=True)
            for name in _MEMBER_FILES:
                shutil.copyfile(source / name, target / name)
            if (source / CALIBRATION).exists():
                shutil.copyfile(source / CALIBRATION, target / CALIBRATION)
        write_json(temporary / ENSEMBLE, {"weights": list(members.values())})
        golden = golden_rows(next(iter(members)))
        _finish(temporary, directory, golden=golden, config=config, metrics=metrics)


def _finish(
    temporary: Path,
    directory: Path,
    *,
    golden: pa.RecordBatch,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> None:
    """Complete what has its models, and give it its name."""
    predictor = _build(temporary)
    encoder = predictor.encoder
    schema = {**encoder.schema.to_dict(), "task": encoder.task, "classes": list(encoder.classes)}
    write_json(temporary / "schema.json", schema)
    (temporary / CONFIG).write_text(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True), "utf-8")
    write_json(temporary / METRICS, metrics)
    write_json(temporary / "versions.json", versions())
    expected = pa.array(predictor.probabilities_of(golden).tolist(), pa.list_(pa.float32()))
    pq.write_table(
        pa.Table.from_batches([golden.append_column(_expected_name(golden), expected)]), temporary / "golden.parquet"
    )
    architectures = [_architecture(path).name for path in _member_weights(temporary)]
    card = model_card(encoder, architectures=architectures, config=config, metrics=metrics, versions=versions())
    (temporary / CARD).write_text(card, encoding="utf-8")
    write_code(temporary / CODE, sorted({*architectures}))
    paths = sorted(path for path in temporary.rglob("*") if path.is_file())
    files = {path.relative_to(temporary).as_posix(): file_digest(path) for path in paths}
    number = ENSEMBLE_FORMAT if (temporary / ENSEMBLE).exists() else FORMAT
    write_json(temporary / MANIFEST, {"format": number, "files": files})
    _swap(temporary, directory)


def check_place(directory: Path, what: str) -> None:
    """Refuse a place whose content is no artifact: ``save`` would replace it. Messages begin with ``what``."""
    if directory.is_file():
        raise UserError(f"{what}: {directory} is a file, a directory is due: name another one")
    if directory.is_dir() and not (directory / MANIFEST).exists() and any(directory.iterdir()):
        name = min(path.name for path in directory.iterdir())
        raise UserError(f"{what}: {directory} holds {name!r} and is no model: name a new or an empty directory")


def load(model_dir: str | os.PathLike[str], *, device: str = "cpu") -> Predictor:
    """Load an artifact after checking its files against their digests and its golden rows against the model.

    Raises:
        UserError: not an artifact, damaged, of another format, or its golden rows come out different.
    """
    directory = Path(model_dir)
    _check_files(directory)
    predictor = _build(directory)
    _check_golden(predictor, directory)
    return predictor.to(device)


def versions() -> dict[str, str]:
    """Return the versions that a run depends on."""
    ours = {"tabstep": __version__, "python": platform.python_version()}
    return ours | {name: version(name) for name in _PACKAGES}


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON durably; NaN becomes null, which every JSON reader takes."""
    text = json.dumps(_finite(dict(data)), indent=2, ensure_ascii=False, allow_nan=False)
    write_durably(path, (text + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _build(directory: Path) -> Predictor:
    return Predictor([_member(path, weight) for path, weight in _member_weights(directory).items()])


def _member_weights(directory: Path) -> dict[Path, float]:
    """Return the directory of each model in an artifact with its weight: of a single one, the artifact itself."""
    if not (directory / ENSEMBLE).exists():
        return {directory: 1.0}
    with _reading(directory, ENSEMBLE):
        weights = [float(weight) for weight in json.loads((directory / ENSEMBLE).read_text("utf-8"))["weights"]]
        if not weights or not all(0 <= weight < math.inf for weight in weights) or not sum(weights):
            raise ValueError(f"weights {weights}")
    return {directory / MEMBERS / str(index): weight for index, weight in enumerate(weights)}


def _architecture(directory: Path) -> Architecture:
    with _reading(directory, "model.json"):
        data = json.loads((directory / "model.json").read_text(encoding="utf-8"))
        return Architecture(**{**data, "cardinalities": tuple(data["cardinalities"])})


def _calibration(directory: Path) -> Calibration:
    file = directory / CALIBRATION
    with _reading(directory, CALIBRATION):
        data = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return Calibration(**{name: tuple(map(float, values)) for name, values in data.items()})


def _member(directory: Path, weight: float) -> Member:
    try:
        encoder = Encoder.from_json((directory / "encoder.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{directory}: encoder.json: {first_line(error)}") from error
    with _reading(directory, "model.json"):
        model = _architecture(directory).build()
    try:
        model.load_state_dict(load_file(directory / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{directory}: the weights do not fit model.json: {str(error).splitlines()[0]}") from error
    return Member(encoder=encoder, model=model, weight=weight, **vars(_calibration(directory)))


def _expected_name(batch: pa.RecordBatch) -> str:
    """Name the column of expected probabilities, with no clash whatever the table's columns are called."""
    name = "expected"
    while name in batch.schema.names:
        name += "_"
    return name


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
        below = directory / "model"
        hint = f": did you mean {str(below)!r}?" if (below / MANIFEST).is_file() else ""
        raise UserError(f"{directory}: is not a model directory: it has no manifest.json{hint}")
    with _reading(directory, "manifest.json"):
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
        if isinstance(error, UserError) or of_the_machine(error):
            raise
        cause = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{directory}: {name} is damaged: {cause}: copy the directory again") from error


def _due_files(directory: Path) -> list[str]:
    """Return the files that an artifact cannot be read without."""
    members = [path.relative_to(directory) for path in _member_weights(directory)]
    return [*_SHARED_FILES, *((path / name).as_posix() for path in members for name in _MEMBER_FILES)]


def _golden(directory: Path) -> pa.RecordBatch:
    """Return raw rows, with the probabilities that are due as the last column."""
    with _reading(directory, "golden.parquet"):
        table = pq.read_table(directory / "golden.parquet", page_checksum_verification=True, partitioning=None)
        return table.combine_chunks().to_batches()[0]


def golden_rows(directory: Path) -> pa.RecordBatch:
    """Return the raw rows that an artifact is checked with, without what must come out."""
    rows = _golden(directory)
    return rows.select(rows.schema.names[:-1])


def _check_golden(predictor: Predictor, directory: Path) -> None:
    rows = _golden(directory)
    with _reading(directory, "encoder.json"):
        found = predictor.probabilities_of(rows)
    with _reading(directory, "golden.parquet"):
        expected = np.array(rows.column(rows.num_columns - 1).to_pylist(), dtype=np.float64).reshape(found.shape)
    off = float(np.abs(found - expected).max(initial=0.0))
    if not off <= GOLDEN_TOLERANCE:
        raise UserError(
            f"{directory}: golden rows come out different by {off:.2g}: the model does not compute here what it "
            "computed where it was trained; compare versions.json with what is installed"
        )


def _swap(temporary: Path, directory: Path) -> None:
    """Put the new directory in the place of the old one; an old one is set aside first, never half replaced."""
    for path in (path for path in temporary.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    aside = directory.with_name(f".{directory.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        if directory.exists():
            os.replace(directory, aside)
        os.replace(temporary, directory)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV) or not directory.is_dir():
            raise
        _fill(directory, temporary)
    sync_directory(directory.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _fill(directory: Path, temporary: Path) -> None:
    """Move the files into a directory that cannot be renamed, as a container's mounted one.

    The manifest goes first: until all files are those that it names, ``load`` refuses the directory.
    """
    names = sorted((path.name for path in temporary.iterdir()), key=lambda name: name != MANIFEST)
    for name in [*names, *{path.name for path in directory.iterdir()}.difference(names)]:
        target = directory / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        if name in names:
            shutil.move(temporary / name, target)
    sync_directory(directory)
