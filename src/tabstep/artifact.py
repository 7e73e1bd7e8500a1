"""The model directory: everything that a prediction needs, checked by digests and golden rows whenever it is loaded.

=====================  =====================================================================
``model.safetensors``  weights of the best epoch
``model.json``         architecture: name, widths, options
``encoder.json``       the fitted transform with schema, task and classes
``schema.json``        columns by role, task and classes, for people and other programs
``config.yaml``        the resolved configuration of the run
``metrics.json``       scores of the run
``versions.json``      what it was trained with
``golden.parquet``     a few raw rows and the probabilities that must come out
``manifest.json``      format, and the SHA-256 of each file above
``code/``              what SageMaker's containers serve it with; ``load`` neither reads nor checks it
=====================  =====================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tabstep import __version__
from tabstep.durable import sync_directory, write_durably
from tabstep.encoder import Encoder
from tabstep.errors import UserError
from tabstep.models import ENTRY_POINTS, MODELS, build_model
from tabstep.predictor import Predictor
from tabstep.vendoring import CODE, write_code

FORMAT = 1
GOLDEN_ROWS = 8
GOLDEN_TOLERANCE = 1e-4
"""Largest difference of a probability between machines that is still rounding."""
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


def save(
    directory: Path,
    *,
    weights: Mapping[str, Tensor],
    architecture: Architecture,
    encoder: Encoder,
    golden: pa.RecordBatch,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> None:
    """Write the artifact beside ``directory`` and give it its name at the end, so that a half one is never seen.

    ``golden`` holds raw rows with the feature columns; their expected probabilities are computed here.
    """
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, temporary / "model.safetensors")
    schema = {**encoder.schema.to_dict(), "task": encoder.task, "classes": list(encoder.classes)}
    write_json(temporary / "model.json", vars(architecture))
    (temporary / "encoder.json").write_text(encoder.to_json(), encoding="utf-8")
    write_json(temporary / "schema.json", schema)
    (temporary / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True), "utf-8")
    write_json(temporary / "metrics.json", metrics)
    write_json(temporary / "versions.json", versions())
    predictor = _build(temporary, encoder, architecture)
    expected = pa.array(predictor.probabilities_of(golden).tolist(), pa.list_(pa.float32()))
    pq.write_table(
        pa.Table.from_batches([golden.append_column(_expected_name(golden), expected)]), temporary / "golden.parquet"
    )
    files = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
    write_json(temporary / "manifest.json", {"format": FORMAT, "files": files})
    write_code(temporary / CODE, _plugin(architecture.name))
    _swap(temporary, directory)


def load(model_dir: str | os.PathLike[str], *, device: str = "cpu") -> Predictor:
    """Load an artifact after checking its files against their digests and its golden rows against the model.

    Raises:
        UserError: not an artifact, damaged, of another format, or its golden rows come out different.
    """
    directory = Path(model_dir)
    _check_files(directory)
    encoder = Encoder.from_json((directory / "encoder.json").read_text(encoding="utf-8"))
    data = json.loads((directory / "model.json").read_text(encoding="utf-8"))
    architecture = Architecture(**{**data, "cardinalities": tuple(data["cardinalities"])})
    predictor = _build(directory, encoder, architecture)
    _check_golden(predictor, directory / "golden.parquet")
    predictor.model.to(device)
    return predictor


def _plugin(model: str) -> list[str]:
    """Return the requirement of the package that registered a model, none for a model of our own."""
    points = [] if model in MODELS else entry_points(group=ENTRY_POINTS, name=model)
    return [f"{point.dist.name}=={point.dist.version}" for point in points if point.dist is not None]


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


def _build(directory: Path, encoder: Encoder, architecture: Architecture) -> Predictor:
    model = architecture.build()
    try:
        model.load_state_dict(load_file(directory / "model.safetensors"))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{directory}: the weights do not fit model.json: {str(error).splitlines()[0]}") from error
    return Predictor(encoder, model)


def _expected_name(batch: pa.RecordBatch) -> str:
    """Name the column of expected probabilities, with no clash whatever the table's columns are called."""
    name = "expected"
    while name in batch.schema.names:
        name += "_"
    return name


def _check_files(directory: Path) -> None:
    manifest_file = directory / "manifest.json"
    if not manifest_file.is_file():
        raise UserError(f"{directory}: is not a model directory: it has no manifest.json")
    manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
    if manifest["format"] != FORMAT:
        raise UserError(
            f"{directory}: has format {manifest['format']}, this version reads {FORMAT}: use its versions.json"
        )
    for name, digest in manifest["files"].items():
        path = directory / name
        if not path.is_file():
            raise UserError(f"{directory}: {name} is missing: copy the directory again")
        if _sha256(path) != digest:
            raise UserError(f"{directory}: {name} is damaged or was changed: copy the directory again")


def _check_golden(predictor: Predictor, path: Path) -> None:
    table = pq.read_table(path, page_checksum_verification=True).combine_chunks()
    rows = table.to_batches()[0]
    expected = np.array(rows.column(rows.num_columns - 1).to_pylist())
    found = predictor.probabilities_of(rows)
    off = float(np.abs(found - expected).max())
    if not off <= GOLDEN_TOLERANCE:
        raise UserError(
            f"{path.parent}: golden rows come out different by {off:.2g}: the model does not compute here what it "
            "computed where it was trained; compare versions.json with what is installed"
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _swap(temporary: Path, directory: Path) -> None:
    """Put the new directory in the place of the old one; an old one is set aside first, never half replaced."""
    for path in (path for path in temporary.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    aside = directory.with_name(f".{directory.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if directory.exists():
        os.replace(directory, aside)
    os.replace(temporary, directory)
    sync_directory(directory.parent)
    shutil.rmtree(aside, ignore_errors=True)
