from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score, precision_score
from tests.run.test_export import report_of

import tabstep
from tabstep.errors import ProblemsError, UserError
from tabstep.run_files import MODEL, predictions_file


def test_predictions_follow_the_threshold_in_the_run_and_in_its_model(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of(tiny_data, tmp_path / "run", "decision=f1", "baselines=null")
    found = report["decision"]
    threshold = found["thresholds"][0]
    for split in ("val", "test"):
        stored = pq.read_table(predictions_file(tmp_path / "run", split))
        taken = np.array(stored["prediction"].to_pylist()) == "yes"
        y = np.array(stored["label"].to_pylist()) == "yes"
        assert (taken == (stored["prob_yes"].to_numpy().astype(float) > threshold)).all()
        assert found[split]["f1"] == pytest.approx(f1_score(y, taken))
        low, high = found[split]["intervals"]["f1"]
        assert low < found[split]["f1"] < high
    # one epoch of a tiny table predicts no positive at 0.5, as the scores of the report say
    assert found["val"]["f1"] > found["val_at_0.5"]["f1"] == report["val_f1"]
    again = tabstep.load(tmp_path / "run" / MODEL).predict(str(tiny_data / "test"))
    assert again["prediction"].to_pylist() == stored["prediction"].to_pylist()
    assert f"decision: f1 at threshold {threshold:.4f}; on test f1" in capsys.readouterr().out


def test_a_floor_counts(tiny_data: Path, tmp_path: Path) -> None:
    found = report_of(tiny_data, tmp_path / "run", "decision='precision>=0.7'", "baselines=null")["decision"]
    stored = pq.read_table(predictions_file(tmp_path / "run", "val"))
    y, taken = (np.array(stored[name].to_pylist()) == "yes" for name in ("label", "prediction"))
    assert found["val"]["precision"] == pytest.approx(precision_score(y, taken))
    assert found["val"]["precision"] >= 0.7


def test_what_is_no_goal_is_refused_at_once(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ProblemsError, match=r"decision: 'best' is no goal: choose accuracy, f1, precision>=0\.9"):
        report_of(tiny_data, tmp_path / "run", "decision=best")
    with pytest.raises(UserError, match=r"decision: several classes have no threshold"):
        report_of(tiny_data, tmp_path / "run", "decision=f1", "schema.label=city")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_several_classes_are_found_before_anything_is_encoded(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"^decision: several classes have no threshold, .*: set decision=null$"):
        report_of(tiny_data, tmp_path / "run", "experiment=imbalanced", "schema.label=city")
    assert "Data checks" not in capsys.readouterr().out
