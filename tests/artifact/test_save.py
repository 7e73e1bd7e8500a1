"""The model directory: what is saved is what is loaded, and nothing else is."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tabstep
from tabstep import cli
from tabstep.artifact import save as saving
from tabstep.artifact.load import Architecture
from tabstep.artifact.member import Member
from tabstep.artifact.predictor import Predictor
from tabstep.encoding.encoder import Encoder, EncoderOptions
from tabstep.errors import UserError
from tabstep.schema import Schema
from tabstep.tables.source import open_source

SCHEMA = Schema(id="row_id", label=("label",), numeric=("age", "income", "joined"), categorical=("city", "member"))
OPTIONS = {"width": 8, "depth": 1, "dropout": 0.1, "num_bins": 4, "embedding_dim": 4}


@pytest.fixture(scope="module")
def saved(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = open_source(str(tiny_data / "train"), split="train")
    options = EncoderOptions(scaling="quantile", max_categories=100, min_frequency=1)
    encoder = Encoder.fit(source, SCHEMA, options=options)
    architecture = Architecture(
        name="mlp",
        num_numeric=encoder.num_numeric,
        cardinalities=encoder.cardinalities,
        num_outputs=encoder.num_outputs,
        options=OPTIONS,
    )
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("artifact") / "model"
    saving.save(
        directory,
        weights=architecture.build().state_dict(),
        architecture=architecture,
        encoder=encoder,
        golden=next(source.batches(SCHEMA.features, 8)),
        config={"seed": 42},
        metrics={"val_auroc": 0.75, "test_auroc": float("nan")},
    )
    return directory


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_what_is_saved_predicts_the_same_after_loading(saved: Path, tiny_table: pa.Table) -> None:
    first, second = tabstep.load(saved), tabstep.load(saved)
    table = first.predict(tiny_table)
    assert table.equals(second.predict(tiny_table))
    assert table.column_names == ["row_id", "label", "prob_no", "prob_yes", "prediction"]
    assert table["row_id"].equals(tiny_table["row_id"])
    probs = np.stack([table["prob_no"].to_numpy(), table["prob_yes"].to_numpy()])
    np.testing.assert_allclose(probs.sum(axis=0), 1.0, atol=1e-6)
    assert table["prediction"].to_pylist() == ["yes" if p > 0.5 else "no" for p in probs[1]]


def test_a_date_is_not_predicted_from_a_timestamp(saved: Path, tiny_table: pa.Table, tmp_path: Path) -> None:
    model = tabstep.load(saved)
    column = tiny_table.column_names.index("joined")
    instants = tiny_table.set_column(column, "joined", tiny_table["joined"].cast(pa.timestamp("ms")))
    pq.write_table(instants, tmp_path / "instants.parquet")
    expected = r"^column 'joined' has type timestamp\[ms\], a date is due as in train: convert it, in pandas by "
    expected += r"pd\.to_datetime\(column\)\.dt\.date$"
    for table in (instants, tmp_path / "instants.parquet"):
        with pytest.raises(UserError, match=expected):
            model.predict(table)
    with pytest.raises(UserError, match=expected):
        model.predict_file(tmp_path / "instants.parquet", tmp_path / "out.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["instants.parquet"]
    wide = tiny_table.set_column(column, "joined", tiny_table["joined"].cast(pa.date64()))
    assert model.predict(wide)["prob_yes"].equals(model.predict(tiny_table)["prob_yes"])


def test_a_model_of_partitions_predicts_its_own_directory(tiny_table: pa.Table, tmp_path: Path) -> None:
    for number, year in enumerate((2023, 2024)):
        part = tiny_table.slice(number * 100, 100)
        (tmp_path / "data" / f"year={year}").mkdir(parents=True)
        pq.write_table(part, tmp_path / "data" / f"year={year}" / "rows.parquet")
    source = open_source(str(tmp_path / "data"), split="train", partitioning="hive")
    schema = Schema(id="row_id", label=("label",), numeric=("age", "year"), categorical=("city",))
    options = EncoderOptions(scaling="quantile", max_categories=100, min_frequency=1)
    encoder = Encoder.fit(source, schema, options=options)
    model = Architecture(
        name="mlp", num_numeric=encoder.num_numeric, cardinalities=encoder.cardinalities, num_outputs=1, options=OPTIONS
    ).build()
    predictor = Predictor([Member(encoder=encoder, model=model)])
    found = predictor.predict(tmp_path / "data")
    whole = predictor.predict(tiny_table.append_column("year", pa.array([2023] * 100 + [2024] * 100)))
    np.testing.assert_allclose(found["prob_yes"].to_numpy(), whole["prob_yes"].to_numpy(), atol=1e-6)
    assert predictor.predict_file(tmp_path / "data", tmp_path / "out.parquet") == 200


def test_order_extra_columns_and_a_missing_label_do_not_matter(saved: Path, tiny_table: pa.Table) -> None:
    model = tabstep.load(saved)
    shuffled = tiny_table.select(tiny_table.column_names[::-1]).append_column("extra", pa.nulls(len(tiny_table)))
    whole = model.predict(tiny_table)
    assert model.predict(shuffled)["prob_yes"].equals(whole["prob_yes"])
    assert model.predict(tiny_table.drop(["label", "row_id"])).column_names == ["prob_no", "prob_yes", "prediction"]


def test_a_stream_of_batches_gives_what_the_whole_table_gives(
    saved: Path, tiny_table: pa.Table, tmp_path: Path
) -> None:
    model = tabstep.load(saved)
    pq.write_table(tiny_table, tmp_path / "in.parquet")
    rows = model.predict_file(tmp_path / "in.parquet", tmp_path / "out.parquet", batch_rows=37)
    assert rows == len(tiny_table)
    streamed, whole = pq.read_table(tmp_path / "out.parquet"), model.predict(tiny_table)
    assert streamed.drop(["prob_no", "prob_yes"]).equals(whole.drop(["prob_no", "prob_yes"]))
    np.testing.assert_allclose(streamed["prob_yes"].to_numpy(), whole["prob_yes"].to_numpy(), atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


def test_a_table_of_no_rows_has_a_prediction_of_no_rows(saved: Path, tiny_table: pa.Table) -> None:
    found = tabstep.load(saved).predict(tiny_table.slice(0, 0))
    assert (found.num_rows, found.column_names[-1]) == (0, "prediction")


def test_a_missing_feature_is_named_with_the_nearest(saved: Path, tiny_table: pa.Table) -> None:
    renamed = tiny_table.rename_columns([name.replace("income", "incomes") for name in tiny_table.column_names])
    with pytest.raises(UserError, match="'income' is missing: did you mean 'incomes'"):
        tabstep.load(saved).predict(renamed)


def test_any_changed_or_missing_file_is_refused_by_name(saved: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    names = sorted(path.relative_to(saved) for path in saved.rglob("*") if path.is_file())
    assert {"model.safetensors", "encoder.json", "golden.parquet", "code/inference.py"} <= {str(name) for name in names}
    for name in names:
        if str(name) == "manifest.json":
            continue
        damaged = Path(shutil.copytree(saved, tmp_path / "damaged"))
        data = bytearray((damaged / name).read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (damaged / name).write_bytes(data)
        with pytest.raises(UserError, match=f"{name} is damaged"):
            tabstep.load(damaged)
        (damaged / name).unlink()
        with pytest.raises(UserError, match=f"{name} is missing"):
            tabstep.load(damaged)
        shutil.rmtree(damaged)


def resealed(directory: Path, name: str, content: bytes) -> None:
    """Change a file as somebody would who knows of the digests."""
    (directory / name).write_bytes(content)
    manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (directory / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model.json",
        "encoder.json",
        "schema.json",
        "golden.parquet",
        "metrics.json",
        "versions.json",
    ],
)
def test_a_manifest_that_leaves_a_file_out_is_none(name: str, copy: Path) -> None:
    manifest: dict[str, Any] = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "files": {}}))
    with pytest.raises(UserError, match=r"manifest\.json does not name schema\.json"):
        tabstep.load(copy)
    del manifest["files"][name]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"manifest.json does not name {name}: copy the directory again"):
        tabstep.load(copy)


MALFORMED = [
    b"",
    b"\xff\xfe",
    b"[]",
    b"{}",
    b"null",
    b"3",
    b'"text"',
    b"{" * 100_000,
    b'{"files": 3}',
    b'{"format": []}',
]


@pytest.mark.parametrize("content", MALFORMED, ids=lambda content: repr(content[:12]))
@pytest.mark.parametrize("name", ["manifest.json", "model.json", "encoder.json", "golden.parquet", "model.safetensors"])
def test_a_file_that_holds_something_else_is_refused_in_a_line(name: str, content: bytes, copy: Path) -> None:
    if name == "manifest.json":
        (copy / name).write_bytes(content)
    else:
        resealed(copy, name, content)
    with pytest.raises(UserError) as caught:
        tabstep.load(copy)
    assert len(str(caught.value).splitlines()) == 1
    assert str(copy) in str(caught.value)
    assert name in str(caught.value) or "weights do not fit" in str(caught.value)


@pytest.mark.parametrize("weights", [[], "a", [1, -1], [0], [float("nan")], [1, "a"], {}, None, [1, 1]])
def test_an_ensemble_with_other_weights_is_refused_in_a_line(weights: object, copy: Path) -> None:
    resealed(copy, "ensemble.json", json.dumps({"weights": weights}).encode())
    with pytest.raises(UserError, match=r"ensemble\.json is damaged: |members/0/\S+$|does not name members/0"):
        tabstep.load(copy)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.json", {"num_outputs": -1}),
        ("model.json", {"cardinalities": ["a"]}),
        ("model.json", {"options": {"width": "wide"}}),
        ("model.json", {"name": "none"}),
        ("encoder.json", {"numeric": "abc"}),
        ("encoder.json", {"spikes": [{"name": "age", "values": ["a", {}]}]}),
        ("encoder.json", {"schema": {}}),
        ("encoder.json", {"format": 2}),
    ],
)
def test_a_value_that_fits_nothing_is_refused_in_a_line(name: str, change: dict[str, Any], copy: Path) -> None:
    data = json.loads((copy / name).read_text())
    resealed(copy, name, json.dumps({**data, **change}).encode())
    with pytest.raises(UserError) as caught:
        tabstep.load(copy)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["/etc/hostname", "../model/../../secret"])
def test_a_manifest_names_nothing_outside(name: str, copy: Path) -> None:
    manifest: dict[str, Any] = json.loads((copy / "manifest.json").read_text())
    manifest["files"][name] = ""
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="which is not inside"):
        tabstep.load(copy)


def test_what_is_no_artifact_is_refused(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json"):
        tabstep.load(tmp_path / "nothing")
    manifest: dict[str, Any] = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format": 999}))
    with pytest.raises(UserError, match="format 999"):
        tabstep.load(copy)


def test_golden_rows_find_a_machine_that_computes_something_else(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Encoder.transform

    def off(self: Encoder, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        x_num, x_cat = real(self, batch)
        return x_num + np.float32(0.05), x_cat

    monkeypatch.setattr(Encoder, "transform", off)
    with pytest.raises(UserError, match="golden rows come out different"):
        tabstep.load(saved)


def test_nan_scores_become_null_in_json(saved: Path) -> None:
    assert json.loads((saved / "metrics.json").read_text()) == {"val_auroc": 0.75, "test_auroc": None}


def test_saving_again_replaces_the_whole_directory(copy: Path, saved: Path, tiny_data: Path) -> None:
    (copy / "stale.txt").write_text("from before")
    (member,) = tabstep.load(saved).members
    saving.save(
        copy,
        weights=member.model.state_dict(),
        architecture=Architecture(
            name="mlp",
            num_numeric=member.encoder.num_numeric,
            cardinalities=member.encoder.cardinalities,
            num_outputs=1,
            options=OPTIONS,
        ),
        encoder=member.encoder,
        golden=next(open_source(str(tiny_data / "val"), split="val").batches(SCHEMA.features, 4)),
        config={},
        metrics={},
    )
    assert not (copy / "stale.txt").exists()
    assert [path.name for path in copy.parent.iterdir()] == ["model"]
    tabstep.load(copy)


@pytest.mark.filterwarnings("default")
def test_a_category_that_is_written_otherwise_is_warned_of(
    saved: Path, tiny_table: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its probabilities are those of a value that was never seen, which nothing else would show."""
    place = tiny_table.column_names.index("city")
    other = tiny_table.set_column(place, "city", pa.array(["BONN"] * len(tiny_table)))
    with pytest.warns(UserWarning, match=r"^column 'city': none of its values in the first 200 rows was seen in train"):
        tabstep.load(saved).predict(other)
    pq.write_table(other, tmp_path / "other.parquet")
    assert cli.main(["predict", str(saved), str(tmp_path / "other.parquet"), "--out", str(tmp_path / "out.csv")]) == 0
    assert capsys.readouterr().err.startswith("warning: column 'city': none of its values")
