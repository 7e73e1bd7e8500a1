"""The graph computes what the model directory does: every model, task and kind of column."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.serving.conftest import CATEGORICAL, NUMERIC, _rich_table

from tabstep.artifact.load import Architecture
from tabstep.artifact.member import Member
from tabstep.artifact.onnx_file import graph_inputs
from tabstep.artifact.onnx_graph import PredictorGraph
from tabstep.artifact.predictor import Predictor
from tabstep.encoding.encoder import Encoder, EncoderOptions
from tabstep.models.probabilities import member_weights
from tabstep.models.realmlp import UNIT
from tabstep.registry import MODELS
from tabstep.schema import Schema
from tabstep.tables.source import open_source

SMALL: dict[str, Any] = {"width": 16, "depth": 1, "dropout": 0.1, "num_bins": 4, "embedding_dim": 4, "linear": True}
OWN: dict[str, dict[str, Any]] = {
    "dcn": {"rank": 3},
    "ft_transformer": {"heads": 4},
    "realmlp": {"one_hot": 3},
    "resnet": {"expansion": 2.0},
    "tabm": {"members": 3},
}
LABELS = {"binary": ("label",), "multiclass": ("kind",), "multilabel": ("one", "two", "three")}


@cache
def rich() -> pa.Table:
    rng = np.random.default_rng(3)
    table = _rich_table(400)
    table = table.append_column("kind", pa.array(rng.choice(["a", "b", "c"], len(table)).tolist()))
    for name in LABELS["multilabel"]:
        table = table.append_column(name, pa.array(rng.integers(0, 2, len(table))))
    return table


def one_batch(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0]


def make_member(directory: Path, schema: Schema, name: str = "mlp", table: pa.Table | None = None) -> Member:
    """Fit an encoder and draw weights, all of them: a linear part begins at zero."""
    directory.mkdir(exist_ok=True)
    pq.write_table(rich() if table is None else table, directory / "train.parquet")
    source = open_source(str(directory / "train.parquet"), split="train")
    encoder = Encoder.fit(source, schema, options=EncoderOptions(scaling="quantile", max_categories=9, min_frequency=2))
    torch.manual_seed(len(name))
    model = Architecture(
        name=name,
        num_numeric=encoder.num_numeric,
        cardinalities=encoder.cardinalities,
        num_outputs=encoder.num_outputs,
        options={key: value for key, value in SMALL.items() if key in (MODELS.options(name) or {})} | OWN.get(name, {}),
        flags=encoder.flags,
    ).build()
    spread = 0.3 / UNIT if name == "realmlp" else 0.3  # its parameters are stored in small units
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    if (weights := member_weights(model)) is not None:  # as a selection leaves them: some at zero
        weights.copy_(torch.arange(len(weights)))
    count = encoder.num_outputs if encoder.task == "multilabel" else 1
    return Member(encoder=encoder, model=model, temperature=tuple(1.3 + 0.2 * label for label in range(count)))


def schema_of(numeric: tuple[str, ...], categorical: tuple[str, ...], task: str = "binary") -> Schema:
    return Schema(label=LABELS[task], numeric=numeric, categorical=categorical)


@pytest.mark.parametrize(("numeric", "categorical"), [(NUMERIC, CATEGORICAL), (("age",), ()), ((), ("city", "shop"))])
@pytest.mark.parametrize("task", LABELS)
@pytest.mark.parametrize("name", MODELS.ours())
def test_the_graph_is_the_model(
    name: str, task: str, numeric: tuple[str, ...], categorical: tuple[str, ...], tmp_path: Path
) -> None:
    predictor = Predictor([make_member(tmp_path, schema_of(numeric, categorical, task), name)])
    assert predictor.encoder.task == task
    graph = PredictorGraph(predictor.members).eval()
    for table in (rich(), _rich_table(300, seed=5), rich().slice(3, 1)):
        batch = one_batch(table)
        given = {key: torch.from_numpy(values) for key, values in graph_inputs(predictor.encoder, batch).items()}
        with torch.inference_mode():
            found = graph(**given).numpy()
        np.testing.assert_allclose(found, predictor.probabilities_of(batch), rtol=0, atol=1e-6)
