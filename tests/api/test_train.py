from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv as pa_csv
from tests.conftest import make_table

import tabstep
from tabstep.artifact.predictor import Predictor
from tabstep.errors import ProblemsError, UserError
from tabstep.tables.frames import keep_table

FAST = {"trainer": "cpu", "trainer.max_epochs": 2, "report.page": False}


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_table: pa.Table) -> Predictor:
    directory = tmp_path_factory.mktemp("model")
    overrides = {**FAST, "paths.cache_dir": str(directory / "cache")}
    return tabstep.train(tiny_table, label="label", overrides=overrides, directory=directory, quiet=True).model


@pytest.fixture(autouse=True)
def own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_frame_takes_the_way_of_a_file(tmp_path: Path, tiny_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    splits = {split: make_table(rows, seed) for seed, (split, rows) in enumerate({"train": 200, "val": 60}.items())}
    of_files = tabstep.train(tiny_data, label="label", overrides=FAST, directory="files", quiet=True)
    of_frames = tabstep.train(
        pl.from_arrow(splits["train"]), val=splits["val"].to_pandas(), label="label", overrides=FAST, quiet=True
    )
    assert capfd.readouterr().out == ""
    assert of_files.directory == tmp_path / "files"
    assert of_frames.directory.parent == tmp_path / "logs" / "train" / "runs"
    assert of_frames.report["val_auroc"] == of_files.report["val_auroc"]
    assert of_frames.history[-1]["train_loss"] == of_files.history[-1]["train_loss"]
    assert "test_auroc" in of_files.report
    assert "test_auroc" not in of_frames.report


def test_csv_takes_the_way_of_parquet(tmp_path: Path, tiny_data: Path) -> None:
    for split, ending in (("train", "csv"), ("val", "csv.gz"), ("test", "csv.zst")):
        (tmp_path / "tables").mkdir(exist_ok=True)
        with pa.output_stream(tmp_path / "tables" / f"{split}.{ending}", compression="detect") as file:
            pa_csv.write_csv(pq.read_table(tiny_data / split), file)
    of_csv = tabstep.train("tables", label="label", overrides=FAST, quiet=True)
    of_parquet = tabstep.train(tiny_data, label="label", overrides=FAST, quiet=True)
    assert of_csv.report["test_auroc"] == pytest.approx(of_parquet.report["test_auroc"], abs=1e-3)
    rows = of_csv.model.predict_file("tables/test.csv.zst", "out.csv")
    assert rows == 60
    written = pd.read_csv("out.csv")
    expected = of_csv.model.predict(tiny_data / "test").to_pandas()
    assert written.columns.tolist() == expected.columns.tolist()
    assert written["row_id"].tolist() == expected["row_id"].tolist()
    np.testing.assert_allclose(written["prob_yes"], expected["prob_yes"], atol=1e-6)


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.zst", ".parquet"])
def test_predictions_have_the_form_of_their_ending(tiny_table: pa.Table, tiny_model: Predictor, ending: str) -> None:
    tiny_model.predict_file(keep_table(tiny_table, Path()), f"out{ending}")
    read = pq.read_table if ending == ".parquet" else pa_csv.read_csv
    with pa.input_stream(f"out{ending}", compression="detect") as file:
        written = read(pa.BufferReader(file.read()))
    assert written.column("prob_yes").to_pylist() == pytest.approx(tiny_model.predict_proba(tiny_table)[:, 1], abs=1e-7)


def test_predictions_of_an_unknown_form_are_refused(tiny_data: Path, tiny_model: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out.json: its ending names no form: write .parquet, or .csv, .csv.gz, "):
        tiny_model.predict_file(tiny_data / "test", "out.json")
    assert not (tmp_path / "out.json").exists()


def test_a_run_shows_itself_and_predicts(tiny_table: pa.Table, capsys: pytest.CaptureFixture[str]) -> None:
    run = tabstep.train(
        tiny_table, label="label", overrides=["trainer=cpu", "trainer.max_epochs=2", "report.page=false"]
    )
    assert "Epoch: 2 | Train Loss: " in capsys.readouterr().out
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert run.settings.trainer.max_epochs == 2
    first, names, *rows = repr(run).splitlines()
    assert first == f"Run: best epoch {run.report['best_epoch']} of 2, {run.directory}"
    assert names.split() == ["loss", "accuracy", "f1", "auroc", "average_precision", "log_loss"]
    assert [row.split()[0] for row in rows] == ["train", "val"]
    assert float(rows[1].split()[4]) == pytest.approx(run.report["val_auroc"], abs=5e-5)
    assert run.model is run.model
    frame = tiny_table.to_pandas().iloc[::-1]
    predicted = run.model.predict(frame)
    assert predicted.index.tolist() == frame.index.tolist()
    whole = run.model.predict_proba(tiny_table)
    np.testing.assert_allclose(predicted["prob_yes"].to_numpy()[::-1], whole[:, 1], atol=1e-6)
    assert tabstep.Run.read(run.directory).report == run.report


def test_two_runs_in_one_second_are_two(tiny_table: pa.Table) -> None:
    first, second = (tabstep.train(tiny_table, label="label", overrides=FAST, quiet=True) for _ in range(2))
    assert first.directory != second.directory
    assert first.report["val_loss"] == second.report["val_loss"]


def test_mistakes_come_at_once_and_leave_nothing(tmp_path: Path, tiny_table: pa.Table) -> None:
    with pytest.raises(ProblemsError, match=r"^trainer.max_epoch: no such key.*did you mean 'trainer.max_epochs'\?"):
        tabstep.train(tiny_table, label="label", overrides={"trainer.max_epoch": 2})
    with pytest.raises(ProblemsError, match=r"data.train: no such file or directory: nothing.parquet"):
        tabstep.train("nothing.parquet", label="label")
    with pytest.raises(UserError, match="launch: Python trains on this machine"):
        tabstep.train(tiny_table, label="label", overrides=["launch=dry_run"])
    with pytest.raises(UserError, match="val: list is no table"):
        tabstep.train(tiny_table, val=[1], label="label")
    assert not (tmp_path / "logs").exists()


@pytest.mark.filterwarnings("default")
def test_names_in_a_mapping_need_no_sign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    price = rng.uniform(100, 3_000, 200)
    frame = pd.DataFrame({"Monthly Bill": [f"${value:,.2f}" for value in price], "y": price > 1_500})
    run = tabstep.train(
        frame, label="y", overrides={**FAST, "schema.parse": {"Monthly Bill": "number"}}, directory="run", quiet=True
    )
    assert run.model is not None
    # nothing is printed but what may make the model worthless
    printed = capsys.readouterr()
    leak = "alone it gives the label away (AUROC 1.0000): is it known beforehand? else add to schema.drop"
    assert (printed.out, printed.err) == ("", f"warning: data.train: column 'Monthly Bill': {leak}\n")
    assert dict(run.model.encoder.schema.parse) == {"Monthly Bill": "number"}
    assert run.model.encoder.schema.numeric == ("Monthly Bill",)
    assert run.model.predict_proba(frame.iloc[:0]).shape == (0, 2)
    assert list(run.model.predict(frame.iloc[:0]).columns) == ["y", "prob_False", "prob_True", "prediction"]


def test_a_frame_without_rows_is_named(tiny_table: pa.Table) -> None:
    with pytest.raises(UserError, match=r"^train: holds no rows: give it at least one$"):
        tabstep.train(tiny_table.slice(0, 0), label="label")
    with pytest.raises(UserError, match=r"^val: holds no rows: give it at least one$"):
        tabstep.train(tiny_table, val=tiny_table.slice(0, 0), label="label")


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match="the run is not finished"):
        tabstep.Run.read(tmp_path)


def test_the_public_names_are_lazy() -> None:
    program = """
import sys, tabstep
print(sorted(tabstep.__all__), 'torch' in sys.modules, 'sklearn' in sys.modules)
assert set(tabstep.__all__) <= set(dir(tabstep))
tabstep.Settings, tabstep.Schema, tabstep.Run
print('torch' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names = "['Run', 'Schema', 'Settings', 'TabstepClassifier', 'explain', 'load', 'train']"
    assert done.stdout.splitlines() == [f"{names} False False", "False"]


def test_the_public_names_are_documented() -> None:
    assert [name for name in tabstep.__all__ if not getattr(tabstep, name).__doc__] == []
    with pytest.raises(AttributeError, match="module 'tabstep' has no attribute 'fit'"):
        tabstep.fit  # noqa: B018


def test_python_m_tabstep_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "tabstep", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tabstep.__version__
