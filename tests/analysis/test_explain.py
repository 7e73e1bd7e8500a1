"""``tabstep explain`` on a small run, from the command line and from Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
from tabstep.log_lines import number
from tabstep.schema import Schema, Task
from tabstep.tables.source import open_source

SCHEMAS: dict[Task, Schema] = {
    "binary": Schema(
        id="row_id", label=("label",), numeric=("age", "income", "joined"), categorical=("city", "member")
    ),
    "multiclass": Schema(id="row_id", label=("city",), numeric=("age", "income"), categorical=("member", "label")),
}


def save_model(directory: Path, data: Path, task: Task, schema: Schema | None = None) -> Path:
    schema = schema or SCHEMAS[task]
    source = open_source(str(data / "train"), split="train").reading(dict(schema.parse))
    options = EncoderOptions(scaling="quantile", max_categories=100, min_frequency=1)
    encoder = Encoder.fit(source, schema, options=options, task=task)
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
    found = explain(models["multiclass"], rows, reference=tiny_data / "train")
    assert (found.importances, found.no_importance) == ((), "the table lacks the label 'city'")
    assert found.attributions is not None
    predicted = tabstep.load(models["multiclass"]).predict(rows)["prediction"]
    assert found.attributions["explained"].to_pylist() == predicted.to_pylist()
    titles = [str(table.title) for table in explanation_tables(found)]
    assert [title.partition(":")[0] for title in titles] == ["Row 1-0", "Row 1-1"]
    unnamed = explain(models["multiclass"], rows.drop_columns(["row_id"]), reference=tiny_data / "train")
    titles = [str(table.title) for table in explanation_tables(unnamed)]
    assert [title.partition(":")[0] for title in titles] == ["Row 0", "Row 1"]
    other = explain(models["multiclass"], rows, class_name="Ulm", reference=tiny_data / "train").attributions
    assert other is not None
    assert other["explained"].to_pylist() == ["Ulm", "Ulm"]


def test_rows_are_explained_by_their_ids(
    models: dict[Task, Path], tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, val = models["binary"], tiny_data / "val"
    rows = pq.read_table(val)
    whole, found = explain(model, val, repeats=1), explain(model, val, ids=["1-7", "1-3"])
    assert whole.attributions is not None
    # usual is the whole table still
    assert found.attributions is not None
    assert found.attributions["row_id"].to_pylist() == ["1-3", "1-7"]
    for name in ("probability", "log_odds", "baseline", "attribution_age"):
        expected = whole.attributions.take([3, 7])[name].to_pylist()
        assert found.attributions[name].to_pylist() == pytest.approx(expected, rel=1e-5), name
    assert (found.importances, found.dependences, found.looked_at) == ((), (), "2 rows")
    probs = tabstep.load(model).predict(rows.take([3, 7]))["prob_yes"].to_pylist()
    assert found.attributions["probability"].to_pylist() == pytest.approx(probs, rel=1e-6)
    assert explain(model, rows, ids=["1-3", "1-7"]).attributions == found.attributions
    assert cli.main(["explain", str(model), str(val), "--id", "1-3"]) == 0
    printed = capsys.readouterr().out
    assert f"Row 1-3: yes with probability {number(probs[0])} " in printed
    for name in SCHEMAS["binary"].features:
        value = rows[name][3].as_py()
        shown = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
        assert re.search(rf"{name} +[│|] {re.escape(shown)} ", printed), name
    with pytest.raises(UserError, match=r"^id: no row of the table has row_id '9-9'$"):
        explain(model, val, ids=["1-3", "9-9"])
    with pytest.raises(UserError, match=r"^id: no row of the table has row_id '9-9'$"):
        explain(model, val, ids=["9-9"])
    with pytest.raises(UserError, match=r"^table: column 'row_id' is missing, which names the rows"):
        explain(model, rows.drop_columns(["row_id"]), ids=["1-3"])


def test_too_few_rows_do_not_tell_what_is_usual(
    models: dict[Task, Path], tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, model = pq.read_table(tiny_data / "val"), models["binary"]
    for given in (model, tabstep.load(model)):
        with pytest.raises(UserError, match="reference: is missing, and the 1 row of the table cannot tell"):
            explain(given, rows.slice(0, 1))
        assert explain(given, rows.slice(0, 20), repeats=1).rows == 20
    one, train, out = tmp_path / "one.parquet", tiny_data / "train", tmp_path / "out"
    pq.write_table(rows.slice(0, 1), one)
    assert cli.main(["explain", str(model), str(one)]) == 2
    assert "reference: is missing, and the 1 row of the table" in capsys.readouterr().err
    assert cli.main(["explain", str(model), str(one), "--reference", str(train), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("importance is left out: a single row has none to change values with\nRow 1-0: yes with")
    assert "nan" not in printed
    assert printed.endswith(f"\n1 row\nexplanation: {out}\n")
    assert "NaN" not in (out / "explanation.json").read_text()
    expected = explain(tabstep.load(model), rows.slice(0, 1), reference=train).attributions
    assert expected is not None
    assert pq.read_table(out / "attributions.parquet") == expected
    assert np.abs(expected["attribution_age"].to_numpy()).max() > 0


def test_what_is_usual_is_of_the_whole_table(models: dict[Task, Path], tiny_data: Path) -> None:
    few = explain(models["binary"], tiny_data / "val", rows=3, repeats=1).attributions
    everything = explain(models["binary"], tiny_data / "val", repeats=1).attributions
    assert few is not None
    assert everything is not None
    assert few["baseline"].to_pylist() == pytest.approx(everything["baseline"].to_pylist()[:3])


def test_rows_of_one_class_have_no_importance(models: dict[Task, Path], tiny_data: Path) -> None:
    rows = pq.read_table(tiny_data / "train")
    alike = rows.filter(pc.equal(rows["label"], "no"))
    found = explain(models["binary"], alike, repeats=1)
    assert (found.importances, found.left_out) == ((), ())
    assert found.no_importance == "auroc needs rows with different labels"
    assert Explanation.from_dict(found.to_dict()).no_importance == found.no_importance
    assert len(explain(models["binary"], alike, repeats=1, metric="accuracy").importances) == 5


def test_text_that_is_parsed_is_in_the_order_of_its_numbers(tiny_data: Path, tmp_path: Path) -> None:
    priced = pq.read_table(tiny_data / "train")
    prices = [f"${price:,.2f}" for price in priced["income"].to_pylist()]
    priced = priced.set_column(priced.schema.get_field_index("income"), "income", pa.array(prices))
    (tmp_path / "train").mkdir()
    pq.write_table(priced, tmp_path / "train" / "train.parquet")
    schema = Schema(label=("label",), numeric=("age", "income"), categorical=(), parse=(("income", "number"),))
    model = save_model(tmp_path / "model", tmp_path, "binary", schema)
    csv.write_csv(priced, tmp_path / "train.csv")
    for table in (priced, tmp_path / "train", tmp_path / "train.csv"):
        curves = {each.column: each for each in explain(model, table, repeats=1).dependences}
        assert curves["income"].numeric
        assert list(curves["income"].values) == sorted(curves["income"].values)
    # usual rows that hold numbers already
    plain = pq.read_table(tiny_data / "train")
    assert explain(model, priced.slice(0, 1), reference=plain).rows == 1


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
