from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest

from tabstep.artifact import onnx_file
from tabstep.artifact.load import load
from tabstep.artifact.onnx_file import graph_inputs
from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.errors import UserError
from tabstep.run.run import run
from tabstep.run_files import HISTORY, MANIFEST, MODEL, ONNX, REPORT


def report_of(tiny_data: Path, output: Path, *overrides: str) -> dict[str, Any]:
    places = [f"paths.output_dir={output}", f"paths.cache_dir={output.parent}/cache"]
    config = composed(
        [f"data.path={tiny_data}", "schema.label=label", "trainer.max_epochs=1", *places, *overrides], [config_dir()]
    )
    run(parse(config), config)
    report: dict[str, Any] = json.loads((output / REPORT).read_text())
    return report


def test_baselines_stand_beside_the_model(tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = report_of(tiny_data, tmp_path / "first", "optimizer=adamw", "optimizer.lr=1e-6", "model.linear=false")
    assert list(first["baselines"]) == ["majority", "logistic_regression"]
    linear = first["baselines"]["logistic_regression"]
    assert linear["test_auroc"] > 0.8 > first["baselines"]["majority"]["test_auroc"] == 0.5
    assert set(linear) < set(first)
    said = capsys.readouterr().out
    assert "test, logistic" in said
    assert "warning: worse than logistic regression on the same columns: val_auroc" in said
    assert 0.0 < first["standard_errors"]["val_auroc"] < linear["val_auroc"] - first["val_auroc"]
    with (tmp_path / "first" / HISTORY).open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["val_calibrated_log_loss"]) == pytest.approx(first["monitor_value"])
    assert f"best epoch 1 of 1, by val_calibrated_log_loss {first['monitor_value']:.4f}" in said

    again = report_of(tiny_data, tmp_path / "again", "seed=7")
    assert again["baselines"] == first["baselines"]
    assert "baselines" not in report_of(tiny_data, tmp_path / "none", "baselines=null")


@pytest.mark.slow
def test_a_model_has_its_onnx_file_beside_it(tiny_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    report_of(tiny_data, output, "report=none")
    assert not (output / MODEL / ONNX).exists()
    report_of(tiny_data, output, "report=none", "export=onnx")  # a finished run: trained no more, exported anew
    manifest = json.loads((output / MODEL / MANIFEST).read_text())
    assert manifest["files"][ONNX] == hashlib.sha256((output / MODEL / ONNX).read_bytes()).hexdigest()
    model = load(output / MODEL)
    table = pq.read_table(tiny_data / "test")
    batch = table.combine_chunks().to_batches()[0]
    session = onnxruntime.InferenceSession(str(output / MODEL / ONNX))
    (found,) = session.run(None, graph_inputs(model.encoder, batch))
    np.testing.assert_allclose(found, model.predict_proba(table), rtol=0, atol=1e-5)
    made = (output / MODEL / ONNX).stat().st_mtime_ns
    report_of(tiny_data, output, "report=none", "export=onnx")
    assert (output / MODEL / ONNX).stat().st_mtime_ns == made
    with (output / MODEL / ONNX).open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"model\.onnx is damaged or was changed"):
        load(output / MODEL)


def test_a_missing_extra_is_said_before_the_training(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^export=onnx: needs the packages onnx and onnxruntime and onnxscript: pip"):
        report_of(tiny_data, tmp_path / "run", "export=onnx")
    assert not list(tmp_path.rglob("*.ckpt"))
    assert not (tmp_path / "cache").exists()
