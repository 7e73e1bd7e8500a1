"""A model as one ONNX file, ``model.onnx``: raw numbers and codes of categories in, calibrated probabilities out.

The numeric part of the encoder is in the graph, with missing values, parts of dates and rates of the label. A category
comes as its code, since ONNX knows no null text; the codes stand in the file's own metadata, ``tabstep``, with the
order of the columns and of the classes.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from tabstep import __version__
from tabstep.artifact.onnx_graph import PredictorGraph
from tabstep.artifact.predictor import Predictor
from tabstep.encoding.categorical import MISSING, RARE, UNSEEN, CategoricalColumn
from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError
from tabstep.tables.locations import first_line
from tabstep.tables.parse_text import parsed_batch
from tabstep.tables.record_batch import numbers, texts

PACKAGES: Final = ("onnx", "onnxruntime", "onnxscript")
TOLERANCE: Final = 1e-5
"""Largest difference of a probability from the model's own that is still rounding."""
_MOST_BYTES: Final = 2**31 - 2**20  # of a file of protobuf, less what is not weights


def check_installed(what: str) -> None:
    """Raise ``UserError``, which begins with ``what``, where the extra is not installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"{what}: needs the packages {' and '.join(missing)}: pip install 'tabstep[onnx]'")


def write_onnx(path: Path, predictor: Predictor, golden: pa.RecordBatch, *, what: str) -> None:
    """Write the file and check what it makes of the raw rows ``golden`` against the model, which must be on the CPU.

    Raises:
        UserError: the model has no such form, or the file computes something else. Messages begin with ``what``.
    """
    check_installed(what)
    _check_members(predictor, what)
    for column in (column for member in predictor.members for column in member.encoder.own):
        raise UserError(
            f"{what}: {column.column!r} is encoded by {column.name}, which has no form in ONNX: leave it out"
        )
    graph = PredictorGraph(predictor.members).eval()
    size = sum(tensor.nbytes for tensor in graph.state_dict().values())
    if size > _MOST_BYTES:
        raise UserError(f"{what}: {size:,} bytes of weights are more than an ONNX file holds: leave it out")
    given = graph_inputs(predictor.encoder, golden)
    _write(path, graph, given, facts(predictor), what)
    off = float(np.abs(_answer(path, given) - predictor.probabilities_of(golden)).max(initial=0.0))
    # in this form NaN is refused too
    if not off <= TOLERANCE:
        raise UserError(f"{what}: golden rows come out different by {off:.2g} from ONNX: leave it out and report it")


def graph_inputs(encoder: Encoder, batch: pa.RecordBatch) -> dict[str, NDArray[Any]]:
    """Return the inputs of the graph: ``numeric`` (n, columns) float64 and ``categorical`` (n, columns) int64.

    Each is left out where the schema has no such column.
    """
    batch = parsed_batch(batch, dict(encoder.schema.parse))
    found: dict[str, NDArray[Any]] = {}
    if encoder.numeric:
        values = [numbers(batch, column.name, column.kind) for column in encoder.numeric]
        found["numeric"] = np.stack(values, axis=1)
    if encoder.categorical:
        codes = [column.codes(texts(batch, column.name, column.kind)) for column in encoder.categorical]
        found["categorical"] = np.stack(codes, axis=1).astype(np.int64)
    return found


def facts(predictor: Predictor) -> dict[str, Any]:
    """Return what the file's metadata say, ready for JSON: how a row becomes inputs, and what the outputs are."""
    encoder = predictor.encoder
    return {
        "tabstep": __version__,
        "task": encoder.task,
        "label": list(encoder.schema.label),
        "classes": list(encoder.classes),
        "thresholds": list(predictor.thresholds),
        "numeric": [{"name": column.name, "kind": column.kind} for column in encoder.numeric],
        "categorical": [_category(column) for column in encoder.categorical],
    }


def _category(column: CategoricalColumn) -> dict[str, Any]:
    known = column.values + column.rare
    codes = dict(zip(known, column.codes(pa.array(known, pa.string())).tolist(), strict=True))
    other = RARE if column.open_ended else UNSEEN
    return {"name": column.name, "kind": column.kind, "missing": MISSING, "other": other, "codes": codes}


def _check_members(predictor: Predictor, what: str) -> None:
    """Refuse an ensemble whose members do not agree on the codes of categories: a row can have but one."""
    first, *others = (member.encoder.categorical for member in predictor.members)
    for place, categorical in enumerate(others, 1):
        if categorical != first:
            name = next(a.name for a, b in zip(first, categorical, strict=True) if a != b)
            raise UserError(
                f"{what}: members 0 and {place} have different codes for {name!r}, and a row can have one: export each "
                "member by itself"
            )


def _write(
    path: Path, graph: PredictorGraph, given: dict[str, NDArray[Any]], metadata: dict[str, Any], what: str
) -> None:
    # Two rows: the trace would take one for a size that never changes.
    rows = {name: torch.from_numpy(np.resize(values, (2, values.shape[1]))) for name, values in given.items()}
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                (),
                kwargs=rows,
                input_names=list(rows),
                output_names=["probabilities"],
                dynamic_shapes={name: {0: "batch"} for name in rows},
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise UserError(f"{what}: the model has operations without a form in ONNX: {first_line(error)}") from error
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # where in the source each came from, with the directories of this machine
    program.model.metadata_props["tabstep"] = json.dumps(metadata, ensure_ascii=False)
    program.save(str(path), external_data=False)


def _answer(path: Path, given: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(["probabilities"], given)[0]
    return answer


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch says of its own exporter from the person, who can do nothing about it: the file is checked."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
