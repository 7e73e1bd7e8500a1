from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score, precision_score
from tests.run.test_export import report_of

import tabstep
from tabstep.analysis.stored_runs import stored_encoder
from tabstep.errors import ProblemsError, UserError
from tabstep.run import decision as module
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
    # a command that asks for no decision any more says what it takes away
    assert "decision" not in report_of(tiny_data, tmp_path / "run", "baselines=null")
    assert "resume: decision was f1, and is null now: its results are made again" in capsys.readouterr().out


def test_f1_at_one_half_that_another_threshold_betters_is_said(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FAR_ABOVE", 0.0)
    monkeypatch.setattr(module, "_FEWEST_POSITIVES", 1)
    report = report_of(tiny_data, tmp_path / "run", "baselines=null")
    low = report["low_f1"]
    stored = pq.read_table(predictions_file(tmp_path / "run", "val"))
    y, probs = np.array(stored["label"].to_pylist()) == "yes", stored["prob_yes"].to_numpy().astype(float)
    assert low["val_f1"] == pytest.approx(f1_score(y, probs > low["threshold"]))
    assert low["val_f1"] == max(f1_score(y, probs >= each) for each in probs)
    assert low["val_f1_at_0.5"] == pytest.approx(report["val_f1"])
    line = f"{report['val_f1']:.4f} on val, {low['val_f1']:.4f} above {low['threshold']:.4f}; decision=f1 chooses"
    assert line in capsys.readouterr().out


def test_f1_at_one_half_is_taken_as_it_is_where_no_threshold_is_far_above(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FEWEST_POSITIVES", 5)
    run = run_copy / "out"
    encoder, file = stored_encoder(run / MODEL), predictions_file(run, "val")
    table = pq.read_table(file)
    rare = np.arange(table.num_rows) % 3 == 0
    labels = pa.array(np.where(rare, "yes", "no").tolist())

    def stored(positive: np.ndarray) -> None:
        columns = {"label": labels, "prob_no": pa.array(1 - positive), "prob_yes": pa.array(positive)}
        changed = table
        for name, values in columns.items():
            changed = changed.set_column(changed.schema.get_field_index(name), name, values)
        pq.write_table(changed, file)

    stored(np.where(rare, 0.9, 0.1).astype(np.float32))
    assert module.low_f1(encoder, run) is None
    stored(np.where(rare, 0.4, 0.1).astype(np.float32))
    assert module.low_f1(encoder, run) == {"threshold": pytest.approx(0.25), "val_f1": 1.0, "val_f1_at_0.5": 0.0}


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
