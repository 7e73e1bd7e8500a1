"""``tabstep explain`` on a small run, from the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyarrow import csv

import tabstep
from tabstep import cli
from tabstep.analysis.explain import Budget, explain, summarize
from tabstep.analysis.explanation import Explanation
from tabstep.analysis.explanation_tables import explanation_tables
from tabstep.artifact import load as loading
from tabstep.artifact import save as saving
from tabstep.encoding.encoder import Encoder, EncoderOptions
from tabstep.errors import UserError
from tabstep.schema import Schema, Task
from tabstep.tables.source import open_source

SCHEMAS: dict[Task, Schema] = {
    "binary": Schema(
        id="row_id", label=("label",), numeric=("age", "income", "joined"), categorical=("city", "member")
    ),
    "multiclass": Schema(id="row_id", label=("city",), numeric=("age", "income"), categorical=("member", "label")),
}


def save_model(directory: Path, data: Path, task: Task) -> Path:
    source = open_source(str(data / "train"), split="train")
    options = EncoderOptions(scaling="quantile", max_categories=100, min_frequency=1)
    encoder = Encoder.fit(source, SCHEMAS[task], options=options, task=task)
    architecture = loading.Architecture(
        name="mlp",
        num_numeric=encoder.num_numeric,
        cardinalities=encoder.cardinalities,
        num_outputs=encoder.num_outputs,
        options={"width": 8, "depth": 1, "dropout": 0.0, "num_bins": 4, "embedding_dim": 4},
    )
    torch.manual_seed(0)
    saving.save(
        directory,
        weights=architecture.build().state_dict(),
        architecture=architecture,
        encoder=encoder,
        golden=next(source.batches(encoder.schema.features, 8)),
        config={},
        metrics={},
    )
    return directory


@pytest.fixture(scope="module")
def models(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    root = tmp_path_factory.mktemp("models")
    return {task: save_model(root / task, tiny_data, task) for task in SCHEMAS}


def test_command_writes_what_python_returns(
    models: dict[Task, Path], tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = str(tiny_data / "val"), tmp_path / "out"
    assert cli.main(["explain", str(models["binary"]), table, "--repeats", "2", "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Importance: fall of auroc" in printed
    assert f"60 rows\nexplanation: {out}\n" in printed
    found = explain(models["binary"], table, repeats=2)
    stored = Explanation.from_dict(json.loads((out / "explanation.json").read_text()))
    assert stored.to_dict() == found.to_dict()
    assert {importance.column for importance in found.importances} == set(SCHEMAS["binary"].features)
    assert len(found.dependences) == 5
    assert found.attributions == pq.read_table(out / "attributions.parquet")
    assert found.attributions is not None
    shares = [name for name in found.attributions.column_names if name.startswith("attribution_")]
    assert shares == [f"attribution_{name}" for name in SCHEMAS["binary"].features]
    sizes = [float(np.abs(found.attributions[name].to_numpy()).mean()) for name in shares]
    assert list(found.sizes.values()) == pytest.approx(sizes)


def test_table_in_memory_is_as_one_on_disk(models: dict[Task, Path], tiny_data: Path) -> None:
    predictor = tabstep.load(models["binary"])
    rows = pq.read_table(tiny_data / "val")
    on_disk = explain(predictor, tiny_data / "val", repeats=1)
    for table in (rows, rows.combine_chunks().to_batches()[0], {name: rows[name] for name in rows.column_names}):
        assert explain(predictor, table, repeats=1).to_dict() == on_disk.to_dict()


def test_csv_is_read_as_in_training(models: dict[Task, Path], tiny_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "val.csv"
    csv.write_csv(pq.read_table(tiny_data / "val"), file)
    found = explain(models["multiclass"], file, repeats=1).to_dict()
    expected = explain(models["multiclass"], tiny_data / "val", repeats=1).to_dict()
    assert found["importance"] == expected["importance"]
    assert found["mean_attribution"] == pytest.approx(expected["mean_attribution"], rel=1e-5)


def test_sample_of_rows_is_spread_and_said(models: dict[Task, Path], tiny_data: Path) -> None:
    found = explain(models["binary"], tiny_data / "val", repeats=1, rows=20)
    assert found.looked_at == "a sample of 20 of 60 rows"
    assert found.attributions is not None
    ids = pq.read_table(tiny_data / "val")["row_id"].to_pylist()
    assert found.attributions["row_id"].to_pylist() == ids[1::3]


def test_few_rows_without_labels_are_explained_one_by_one(models: dict[Task, Path], tiny_data: Path) -> None:
    rows = pq.read_table(tiny_data / "val").drop_columns(["city"]).slice(0, 2)
    found = explain(models["multiclass"], rows)
    assert found.importances == ()
    assert found.attributions is not None
    predicted = tabstep.load(models["multiclass"]).predict(rows)["prediction"]
    assert found.attributions["explained"].to_pylist() == predicted.to_pylist()
    titles = [str(table.title) for table in explanation_tables(found)]
    assert [title.partition(":")[0] for title in titles] == ["Row 0", "Row 1"]
    # the usual rows are the model's golden ones: a row explained alone is not its own measure
    alone = explain(models["multiclass"], rows.slice(0, 1)).attributions
    assert alone is not None
    assert np.abs(alone["attribution_age"].to_numpy()).max() > 0
    other = explain(models["multiclass"], rows, class_name="Ulm", reference=tiny_data / "train").attributions
    assert other is not None
    assert other["explained"].to_pylist() == ["Ulm", "Ulm"]


def test_time_that_is_over_leaves_columns_out(models: dict[Task, Path], tiny_data: Path) -> None:
    predictor = tabstep.load(models["binary"])
    rows = pq.read_table(tiny_data / "val").combine_chunks().to_batches()[0]
    found = summarize(
        predictor,
        rows,
        predictor.encoder.encode_labels(rows),
        total=60,
        metric="auroc",
        repeats=1,
        dependences=3,
        order=None,
        more=Budget(0.0),
    )
    assert (found.importances, found.dependences, found.left_out) == ((), (), SCHEMAS["binary"].features)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "auc"}, "metric: no score is called 'auc': did you mean 'auroc'"),
        ({"class_name": "yess"}, "class: no class is called 'yess': did you mean 'yes'"),
        ({"table": pa.table({"agee": [1.0]})}, "table: column 'age' is missing: did you mean 'agee'"),
    ],
)
def test_mistake_is_one_line(
    models: dict[Task, Path], tiny_data: Path, arguments: dict[str, object], message: str
) -> None:
    table = arguments.pop("table", tiny_data / "val")
    with pytest.raises(UserError, match=message):
        explain(models["binary"], table, **arguments)  # type: ignore[arg-type]
