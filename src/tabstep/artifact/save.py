"""Saves a model directory: everything that a prediction needs.

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
``model.onnx``         the same model for an ONNX runtime, where the run was to export it
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
import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from tabstep import __version__
from tabstep.artifact.load import (
    ENSEMBLE_FORMAT,
    FORMAT,
    MEMBER_FILES,
    NO_CALIBRATION,
    Architecture,
    Calibration,
    build,
    golden_rows,
    load,
    member_weights,
    read_architecture,
)
from tabstep.artifact.model_card import model_card
from tabstep.artifact.onnx_file import write_onnx
from tabstep.artifact.serving_code import CODE, write_code
from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError
from tabstep.run_files import (
    ARCHITECTURE,
    CALIBRATION,
    CARD,
    CONFIG,
    ENCODER,
    ENSEMBLE,
    GOLDEN,
    MANIFEST,
    MEMBERS,
    METRICS,
    ONNX,
    SCHEMA,
    VERSIONS,
    WEIGHTS,
)
from tabstep.system.atomic_write import file_digest, sync_directory, temporary_beside, write_durably

GOLDEN_ROWS = 8
_PACKAGES = ("torch", "lightning", "torchmetrics", "pyarrow", "numpy", "safetensors")


def save(  # noqa: PLR0913 - an argument for each file
    directory: Path,
    *,
    weights: Mapping[str, Tensor],
    architecture: Architecture,
    encoder: Encoder,
    calibration: Calibration = NO_CALIBRATION,
    golden: pa.RecordBatch,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    onnx: bool = False,
) -> None:
    """Write the artifact beside ``directory`` and give it its name at the end, so that a half one is never seen.

    ``golden`` holds raw rows with the feature columns; their expected probabilities are computed here.

    Raises:
        UserError: ``onnx`` is asked for, and the model has no such form or computes something else in it.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(directory, directory=True) as (temporary, _):
        # safetensors' own writer reports a full disk as an error of its format
        content = safetensors_bytes({name: tensor.contiguous() for name, tensor in weights.items()})
        (temporary / WEIGHTS).write_bytes(content)
        write_json(temporary / ARCHITECTURE, vars(architecture))
        write_json(temporary / CALIBRATION, vars(calibration))
        (temporary / ENCODER).write_text(encoder.to_json(), encoding="utf-8")
        if onnx:
            write_onnx(temporary / ONNX, build(temporary), golden, what="export=onnx")
        _finish(temporary, directory, golden=golden, config=config, metrics=metrics)


def save_ensemble(
    directory: Path,
    *,
    members: Mapping[Path, float],
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    thresholds: tuple[float, ...] | None = None,
) -> None:
    """Write the artifact whose probabilities are the weighted mean of other artifacts' (of one schema, task, classes).

    The members' files are copied; golden rows are those of the first. ``thresholds`` replace those of the members.

    Raises:
        UserError: a member is damaged, or an ensemble itself.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(directory, directory=True) as (temporary, _):
        for index, source in enumerate(members):
            loaded = load(source).members  # which checks it: a damaged model must not be sealed anew
            if len(loaded) > 1:
                raise UserError(f"{source}: is an ensemble, which cannot be a member of another")
            target = temporary / MEMBERS / str(index)
            target.mkdir(parents=True)
            for name in MEMBER_FILES:
                shutil.copyfile(source / name, target / name)
            if thresholds is not None:
                kept = Calibration(temperature=loaded[0].temperature, thresholds=thresholds)
                write_json(target / CALIBRATION, vars(kept))
            elif (source / CALIBRATION).exists():
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
    # from its files, as it will be loaded: golden rows tell of what was written
    predictor = build(temporary)
    encoder = predictor.encoder
    schema = {**encoder.schema.to_dict(), "task": encoder.task, "classes": list(encoder.classes)}
    write_json(temporary / SCHEMA, schema)
    (temporary / CONFIG).write_text(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True), "utf-8")
    write_json(temporary / METRICS, metrics)
    found = versions()
    write_json(temporary / VERSIONS, found)
    expected = pa.array(predictor.probabilities_of(golden).tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.Table.from_batches([golden.append_column(_expected_name(golden), expected)]), temporary / GOLDEN)
    architectures = [read_architecture(path).name for path in member_weights(temporary)]
    card = model_card(encoder, architectures=architectures, config=config, metrics=metrics, versions=found)
    (temporary / CARD).write_text(card, encoding="utf-8")
    own = {column.name for member in predictor.members for column in member.encoder.own}
    write_code(temporary / CODE, sorted({*architectures}), sorted(own))
    paths = sorted(path for path in temporary.rglob("*") if path.is_file())
    files = {path.relative_to(temporary).as_posix(): file_digest(path) for path in paths}
    number = ENSEMBLE_FORMAT if (temporary / ENSEMBLE).exists() else FORMAT
    # last: it names all the others
    write_json(temporary / MANIFEST, {"format": number, "files": files})
    _swap(temporary, directory)


def check_place(directory: Path, what: str) -> None:
    """Refuse a place whose content is no artifact: ``save`` would replace it. Messages begin with ``what``."""
    if directory.is_file():
        raise UserError(f"{what}: {directory} is a file, a directory is due: name another one")
    if directory.is_dir() and not (directory / MANIFEST).exists() and any(directory.iterdir()):
        name = min(path.name for path in directory.iterdir())
        raise UserError(f"{what}: {directory} holds {name!r} and is no model: name a new or an empty directory")


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


def _expected_name(batch: pa.RecordBatch) -> str:
    """Name the column of expected probabilities, with no clash whatever the table's columns are called."""
    name = "expected"
    while name in batch.schema.names:
        name += "_"
    return name


def _swap(temporary: Path, directory: Path) -> None:
    """Put the new directory in the place of the old one; an old one is set aside first, never half replaced."""
    # contents before names: after a crash the new name must not stand for files that were never written
    for path in (path for path in temporary.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    aside = directory.with_name(f".{directory.name}.old")
    # left by a process that was killed in between
    _remove(aside)
    try:
        if directory.exists():
            os.replace(directory, aside)
        os.replace(temporary, directory)
    except OSError as error:
        # the mount of a container cannot be renamed, but it can be filled
        if error.errno not in (errno.EBUSY, errno.EXDEV) or not directory.is_dir():
            raise
        _fill(directory, temporary)
    sync_directory(directory.parent)
    _remove(aside)


def _remove(directory: Path) -> None:
    """Remove a directory, or a link to one but not what it leads to."""
    if directory.is_symlink():
        directory.unlink()
    shutil.rmtree(directory, ignore_errors=True)


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
