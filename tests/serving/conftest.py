"""A saved model over a table with a column of every kind; its weights are random, its requests are real."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tabstep.artifact import load as loading
from tabstep.artifact import save as saving
from tabstep.encoding.encoder import Encoder, EncoderOptions
from tabstep.schema import Schema
from tabstep.tables.source import open_source

NUMERIC = ("age", "income", "price", "joined", "seen", "local", "opened", "waited", "flag")
CATEGORICAL = ("city", "Größe, cm", "shop", "member", "birthday", "rate", "fee", "visited")
TEXTS = ["Bonn", "Köln, am Rhein", 'a "quote"', "two\nlines", "NA", "007", " padded ", "😀"]


def _rich_table(rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    holes = rng.random(rows) < 0.15
    numbers = rng.integers(0, 50, rows)
    days = rng.integers(0, 20_000, rows)
    instants = rng.integers(0, 2**40, rows) * 1000
    columns = {
        "row_id": pa.array([f"{seed}-{index}" for index in range(rows)]),
        "age": pa.array(rng.normal(40, 12, rows), mask=holes),
        "income": pa.array(numbers.astype(np.int32)),
        "price": pa.array([Decimal(int(n)) / 100 for n in numbers], pa.decimal128(10, 2)),
        "joined": pa.array(days.astype(np.int32)).cast(pa.date32()),
        "seen": pa.array(instants).cast(pa.timestamp("us", tz="Europe/Berlin")),
        "local": pa.array(instants // 1000).cast(pa.timestamp("ms")),
        "opened": pa.array(numbers * 60_000_000).cast(pa.time64("us")),
        "waited": pa.array(numbers * 1_500_000).cast(pa.duration("us")),
        "flag": pa.array(rng.random(rows) < 0.5),
        "city": pa.array(rng.choice(TEXTS, rows).tolist(), mask=np.roll(holes, 1)).dictionary_encode(),
        "Größe, cm": pa.array(rng.choice([38, 40, 2**60 + 1], rows), mask=np.roll(holes, 2)),
        "shop": pa.array(rng.choice(TEXTS, rows).tolist()),
        "member": pa.array(rng.random(rows) < 0.5, mask=np.roll(holes, 3)),
        "birthday": pa.array(days.astype(np.int32) // 2000).cast(pa.date32()),
        "rate": pa.array(rng.choice([0.1, 2.5, 3.0], rows).astype(np.float32)),
        "fee": pa.array([Decimal(int(n) % 3) / 10 for n in numbers], pa.decimal128(6, 2)),
        "visited": pa.array(dt.datetime(2026, 1, 1 + int(n) % 3, 12, tzinfo=dt.UTC) for n in numbers),
        "label": pa.array(np.where(numbers + rng.normal(0, 5, rows) > 25, "yes", "no").tolist()),
    }
    return pa.table(columns)


def _save_model(directory: Path, table: pa.Table, schema: Schema) -> Path:
    """Fit an encoder, draw weights and save both as an artifact; return its directory."""
    directory.mkdir(parents=True)
    pq.write_table(table, directory / "train.parquet")
    source = open_source(str(directory / "train.parquet"), split="train").reading(dict(schema.parse))
    options = EncoderOptions(scaling="quantile", max_categories=100, min_frequency=1)
    encoder = Encoder.fit(source, schema, options=options)
    architecture = loading.Architecture(
        name="mlp",
        num_numeric=encoder.num_numeric,
        cardinalities=encoder.cardinalities,
        num_outputs=encoder.num_outputs,
        options={"width": 16, "depth": 1, "dropout": 0.0, "num_bins": 4, "embedding_dim": 4},
    )
    torch.manual_seed(0)
    saving.save(
        directory / "model",
        weights=architecture.build().state_dict(),
        architecture=architecture,
        encoder=encoder,
        golden=table.select(schema.features).slice(0, 8).combine_chunks().to_batches()[0],
        config={},
        metrics={},
    )
    return directory / "model"


@pytest.fixture(scope="session")
def schema() -> Schema:
    return Schema(id="row_id", label=("label",), numeric=NUMERIC, categorical=CATEGORICAL)


@pytest.fixture(scope="session")
def save_model() -> Callable[[Path, pa.Table, Schema], Path]:
    return _save_model


@pytest.fixture(scope="session")
def table() -> pa.Table:
    return _rich_table(300)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory, table: pa.Table, schema: Schema) -> Path:
    return _save_model(tmp_path_factory.mktemp("served") / "binary", table, schema)
