from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from tests.conftest import make_table

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError, UserError
from tabstep.run.prepare import prepare
from tabstep.run.prepared import Prepared
from tabstep.run.run import run
from tabstep.run_files import REPORT, predictions_file


@pytest.mark.parametrize(
    ("overrides", "epochs", "steps", "val_rows", "test_rows"),
    [
        (["trainer.fast_dev_run=true"], 1, 1, 8, 8),
        (["trainer.max_epochs=2", "trainer.limit_train_batches=3"], 2, 6, 60, 60),
        (["trainer.max_epochs=1", "trainer.limit_val_batches=2", "trainer.limit_test_batches=1"], 1, 14, 16, 8),
    ],
)
def test_limits_count_batches_of_each_split(
    tiny_data: Path, tmp_path: Path, overrides: list[str], epochs: int, steps: int, val_rows: int, test_rows: int
) -> None:
    """The table has 200, 60 and 60 rows."""
    places = [f"paths.output_dir={tmp_path}/run", f"paths.cache_dir={tmp_path}/cache"]
    data = [f"data.path={tiny_data}", "schema.label=label", "data.batch_size=15", "data.eval_batch_size=8"]
    config = composed([*places, *data, *overrides], [config_dir()])
    run(parse(config), config)
    report = json.loads((tmp_path / "run" / REPORT).read_text())
    history = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = history[0].split(",").index("step")
    assert report["epochs"] == epochs == len(history) - 1
    assert float(history[-1].split(",")[column]) == steps
    for split, rows in (("val", val_rows), ("test", test_rows)):
        assert pq.read_metadata(predictions_file(tmp_path / "run", split)).num_rows == rows


def test_val_is_held_out_by_group_and_rows_without_a_label_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = make_table(300)
    labels = pa.array([None if row % 10 == 0 else value for row, value in enumerate(table["label"].to_pylist())])
    table = table.set_column(table.schema.get_field_index("label"), "label", labels)
    table = table.append_column("customer", pa.array([row // 6 for row in range(300)]))
    pq.write_table(table, tmp_path / "train.parquet")
    places = [f"paths.output_dir={tmp_path}/run", f"paths.cache_dir={tmp_path}/cache"]
    data = [f"data.train={tmp_path}/train.parquet", "schema.label=label", "trainer.fast_dev_run=true"]
    ways = ["data.drop_unlabeled=true", "data.split.group=customer", "schema.id=row_id", "schema.drop=[customer]"]
    config = composed([*places, *data, *ways, "data.eval_batch_size=1000", "report=none"], [config_dir()])
    run(parse(config), config)
    said = capsys.readouterr().out
    assert "data.drop_unlabeled: 30 rows of train have no label and are left out" in said
    assert "held out, whole groups of 'customer', stratified, seed 42" in said
    held = pq.read_table(predictions_file(tmp_path / "run", "val"))["row_id"].to_pylist()
    customers = {int(row.split("-")[1]) // 6 for row in held}
    assert 45 <= len(held) <= 63
    assert len(held) == sum(5 if any((6 * c + r) % 10 == 0 for r in range(6)) else 6 for c in customers)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.split.group=a", "data.split.time=b"], r"data\.split: group and time are both set"),
        (["data.split.time=b", "data.val=x", "data.train=y"], r"data\.split: says how val is held out of train"),
    ],
)
def test_ways_to_split_that_contradict_each_other(overrides: list[str], message: str) -> None:
    with pytest.raises(ProblemsError, match=message):
        parse(composed([*overrides, "paths.output_dir=x"], [config_dir()]))


def write_split(directory: Path, rows: int, seed: int) -> None:
    """A table whose label follows from a pair of categories, a shop's number and an amount in text."""
    rng = np.random.default_rng(seed)
    first, second, shop = rng.integers(0, 15, rows), rng.integers(0, 15, rows), rng.integers(0, 80, rows)
    known = np.random.default_rng(99)
    score = known.normal(0, 1.5, (15, 15))[first, second] + known.normal(0, 1.5, 80)[shop]
    columns = {
        "a": [f"a{value}" for value in first],
        "b": [f"b{value}" for value in second],
        "shop": shop,
        "amount": [f"${value:,.2f}" for value in rng.lognormal(7, 1, rows)],
        "day": pa.array(rng.integers(18_000, 18_100, rows).astype(np.int32), pa.date32()),
        "y": (rng.random(rows) < 1 / (1 + np.exp(-score))).astype(int),
    }
    pq.write_table(pa.table(columns), directory / f"{seed}.parquet")


@pytest.fixture
def two_splits(tmp_path: Path) -> list[str]:
    write_split(tmp_path, 6_000, 0)
    write_split(tmp_path, 500, 1)
    return [f"data.train={tmp_path}/0.parquet", f"data.val={tmp_path}/1.parquet", "schema.label=y"]


def prepared(overrides: list[str], cache: Path) -> tuple[Prepared, list[str]]:
    settings = parse(composed(overrides, [config_dir()]))
    shown: list[str] = []
    found = prepare(settings.data, settings.schema, seed=0, cache_dir=cache, show=lambda text: shown.append(str(text)))
    return found, shown


def test_what_values_say_is_fitted_and_told(two_splits: list[str], tmp_path: Path) -> None:
    found, shown = prepared(two_splits, tmp_path / "cache")
    assert found.schema.numeric == ("shop", "amount", "day")
    assert [column.name for column in found.encoder.spikes] == ["shop"]
    assert [list(column.codes) for column in found.encoder.times] == [["weekday", "month"]]
    assert "rate of 1 by a and b" in found.encoder.input_names
    told = "\n".join(shown)
    assert "shop: 80 values have codes too: rates of single values leave " in told
    assert "day: read as weekday, month and elapsed time" in told
    assert "rate of y by a and b: leaves " in told


def write_stops(path: Path, rows: int, *, val_first: str = "") -> None:
    seconds = np.random.default_rng(0).integers(1_500_000_000, 1_530_000_000, rows)
    texts = [f"{np.datetime64(int(value), 's')}Z" for value in seconds]
    days = [text[:10] for text in texts]
    cohorts = [f"2017-{1 + row % 12:02}-01" for row in range(rows)]
    columns = {"at": [val_first or texts[0], *texts[1:]], "day": days, "cohort": cohorts}
    columns["y"] = (seconds // 3_600 % 2).astype(int)
    pq.write_table(pa.table(columns), path)


def test_a_word_between_numbers_is_said(tmp_path: Path) -> None:
    for name in ("train", "val"):
        amounts = [*(f"{row / 8}" for row in range(198)), "keine Angabe", "n.a."]
        table = pa.table({"income": amounts, "debt": [*amounts[:198], "?", ""], "y": [0, 1] * 100})
        csv.write_csv(table, tmp_path / f"{name}.csv", csv.WriteOptions(quoting_style="none"))
    tables = [f"data.train={tmp_path}/train.csv", f"data.val={tmp_path}/val.csv", "schema.label=y"]
    found, shown = prepared(tables, tmp_path / "cache")
    assert (found.schema.numeric, found.schema.categorical) == (("debt",), ("income",))
    assert "numbers are taken for categories, for a text between them: income ('keine Angabe')" in shown


def test_times_of_iso_8601_in_text_are_read_without_being_asked_for(tmp_path: Path) -> None:
    write_stops(tmp_path / "train.parquet", 600)
    write_stops(tmp_path / "val.parquet", 200)
    tables = [f"data.train={tmp_path}/train.parquet", f"data.val={tmp_path}/val.parquet", "schema.label=y"]
    found, shown = prepared(tables, tmp_path / "cache")
    assert found.schema.numeric == ("at", "day")
    assert found.schema.categorical == ("cohort",)
    assert "text that looks like numbers or dates is taken for categories: cohort (%Y-%m-%d)" in shown
    assert dict(found.schema.parse) == {"at": "%Y-%m-%dT%H:%M:%SZ", "day": "%Y-%m-%d"}
    shown_forms = "at (%Y-%m-%dT%H:%M:%SZ), day (%Y-%m-%d)"
    line = f"text that is read as numbers and times: {shown_forms}; '+schema.parse={{at: text}}' keeps one as it is"
    assert line in shown
    assert "hour" in {code for column in found.encoder.times if column.name == "at" for code in column.codes}
    kept, _ = prepared([*tables, "+schema.parse={at: text, day: text}"], tmp_path / "cache")
    assert kept.schema.categorical == ("at", "day", "cohort")
    assert kept.encoder.times == ()
    declared, _ = prepared([*tables, "schema.categorical=[at, day]"], tmp_path / "cache")
    assert declared.schema.categorical == ("at", "day")
    write_stops(tmp_path / "val.parquet", 200, val_first="about noon")
    message = r"column 'at': 'about noon' is not of the format '%Y-%m-%dT%H:%M:%SZ': repair it, or train with another"
    with pytest.raises(UserError, match=message):
        prepared(tables, tmp_path / "cache")


def test_text_that_hardly_repeats_has_few_codes(two_splits: list[str], tmp_path: Path) -> None:
    """A code of one row is learned by heart; what stands once is rare, as most of what val brings will be new."""
    found, _ = prepared([*two_splits, "+schema.parse={amount: text}"], tmp_path / "cache")
    amounts = pq.read_table(two_splits[0].partition("=")[2])["amount"].value_counts().to_pylist()
    column = next(column for column in found.encoder.categorical if column.name == "amount")
    assert {*column.values} == {amount["values"] for amount in amounts if amount["counts"] > 1}
    assert len(column.values) < 100 < len(column.rare)


def test_statistics_and_parse_have_an_effect(two_splits: list[str], tmp_path: Path) -> None:
    found, shown = prepared([*two_splits, "data.encoder.statistics=false"], tmp_path / "cache")
    line = "text that is read as numbers and times: amount (number); '+schema.parse={amount: text}' keeps one as it is"
    assert line in shown
    assert found.encoder.statistics == ()
    assert dict(found.schema.parse) == {"amount": "number"}


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        ([f"1,{row:03}" for row in range(200)], "number"),  # a thousand and more, or one and a fraction
        ([f"{1 + row % 12:02}/{1 + row % 11:02}/{1900 + row}" for row in range(200)], "%d/%m/%Y"),
        ([f"{row % 20}.5" for row in range(200)], "number"),  # sizes
        ([f"170 {row:03}" for row in range(200)], "number"),  # a code in groups
        ([f"0{row}.5" for row in range(200)], "number"),
    ],
)
def test_text_that_may_mean_something_else_is_told_of(tmp_path: Path, texts: list[str], form: str) -> None:
    for name in ("train", "val"):
        table = pa.table({"text": texts, "x": np.random.default_rng(0).normal(size=200), "y": [0, 1] * 100})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    found, shown = prepared([f"data.path={tmp_path}", "schema.label=y"], tmp_path / "cache")
    assert found.schema.categorical == ("text",)
    assert f"text that looks like numbers or dates is taken for categories: text ({form})" in shown


def test_a_run_that_goes_on_keeps_the_precision_that_was_measured_first(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabstep.system.devices.has_bf16", lambda: True)
    small = ["schema.id=row_id", "schema.label=label", "data.batch_size=256", "model.width=4", "model.depth=1"]
    places = [f"data.path={tiny_data}", f"paths.output_dir={tmp_path}/run", f"paths.cache_dir={tmp_path}/cache"]
    said = []
    # A busy machine measures something else when the run goes on; one that begins anew measures anew.
    for epochs, gain, resume in ((1, 9.0, "auto"), (2, 1.0, "auto"), (1, 1.0, "never"), (2, 9.0, "auto")):
        monkeypatch.setattr("tabstep.run.run.bf16_gain", lambda gain=gain: gain)
        overrides = [
            *small,
            *places,
            "report=none",
            "baselines=null",
            f"trainer.max_epochs={epochs}",
            f"resume={resume}",
        ]
        config = composed(["trainer.accelerator=cpu", *overrides], [config_dir()])
        run(parse(config), config)
        lines = capsys.readouterr().out.splitlines()
        said += [line.split(":")[1].strip() for line in lines if line.startswith("precision: ")]
    becomes = "16-mixed becomes"
    assert said == [f"{becomes} bf16-mixed", f"{becomes} bf16-mixed", f"{becomes} 32-true", f"{becomes} 32-true"]
