"""How far runs are apart, from predictions on disk."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from tabstep import cli
from tabstep.analysis.comparison import compare
from tabstep.run_files import predictions_file


def changed(run: Path, directory: Path, *, split: str = "test", rows: int | None = None) -> Path:
    """Copy a run with predictions that lean to one half, of fewer rows perhaps."""
    shutil.copytree(run, directory)
    file = predictions_file(directory, split)
    table = pq.read_table(file).slice(0, rows)
    drawn = np.random.default_rng(0).random(table.num_rows)
    positive = (0.5 * table["prob_yes"].to_numpy() + 0.5 * drawn).astype(np.float32)
    for name, values in {"prob_yes": positive, "prob_no": 1 - positive}.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.float32()))
    pq.write_table(table, file)
    return directory


def test_differences_are_those_of_the_stored_predictions(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished / "out"
    noisy, short = changed(run, tmp_path / "noisy"), changed(run, tmp_path / "short", rows=10)
    bare = Path(shutil.copytree(run, tmp_path / "bare"))
    shutil.rmtree(bare / "predictions")
    found = compare([run, noisy, short, bare]).differences
    assert found is not None
    names = [Path(name).name for name in (found.reference, *found.found)]
    assert (found.split, names) == ("test", ["out", "noisy"])
    first, second = (pq.read_table(predictions_file(each, "test")) for each in (run, noisy))
    truth = np.array(first["label"].to_pylist()) == "yes"
    expected = roc_auc_score(truth, second["prob_yes"]) - roc_auc_score(truth, first["prob_yes"])
    (spans,) = found.found.values()
    assert spans["auroc"].value == pytest.approx(expected)
    reasons = {Path(name).name: why for name, why in found.left_out.items()}
    assert reasons == {
        "short": f"its rows of test are not those of {found.reference}",
        "bare": "it has no predictions of test",
    }
    assert cli.main(["compare", str(run), str(noisy), str(bare), "--csv", str(tmp_path / "a.csv")]) == 0
    printed = capsys.readouterr().out
    assert ", with 95 % intervals (* beyond chance)" in printed
    assert "it has no predictions of test" in printed
    rows = {
        (row[0], row[1]): row[2:] for row in csv.reader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines())
    }
    written = [rows[f"difference_{bound}", "test_auroc"] for bound in ("value", "low", "high")]
    assert [values[0] for values in written] == ["", "", ""]
    assert [float(values[1]) for values in written] == [
        spans["auroc"].value,
        spans["auroc"].low,
        spans["auroc"].high,
    ]


def test_a_run_without_predictions_has_none(finished: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(finished / "out", tmp_path / "bare"))
    shutil.rmtree(bare / "predictions")
    assert compare([bare, finished / "out"]).differences is None
