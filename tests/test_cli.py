from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tabstep import cli, entry
from tabstep.artifact import load as loading
from tabstep.artifact import onnx_file
from tabstep.errors import UserError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_table: pa.Table) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "table.parquet"
    pq.write_table(tiny_table, path)
    return path


def test_train_is_the_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(entry, "train", lambda argv: given.append(list(argv)))
    assert cli.main(["train", "model=mlp", "-m", "--help"]) == 0
    assert given == [["model=mlp", "-m", "--help"]]


def test_predict_says_where_the_rows_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Predictor:
        def predict_file(self, table: str, out: str, *, batch_rows: int) -> int:
            assert (table, out, batch_rows) == ("t.parquet", "o.parquet", 5)
            return 7

    monkeypatch.setattr(loading, "load", lambda model_dir: Predictor())
    assert cli.main(["predict", "model", "t.parquet", "-o", "o.parquet", "--batch-rows", "5"]) == 0
    assert capsys.readouterr().out == "7 rows: o.parquet\n"


def test_export_writes_the_file_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(path: Path, model: object, golden: object, *, what: str) -> None:
        assert (model, golden, what) == ("model", "golden", "export")
        path.write_bytes(b"half")
        if (tmp_path / "fails").exists():
            raise UserError("export: golden rows come out different")

    monkeypatch.setattr(loading, "load", lambda directory: "model")
    monkeypatch.setattr(loading, "golden_rows", lambda directory: "golden")
    monkeypatch.setattr(onnx_file, "write_onnx", write)
    out = tmp_path / "model.onnx"
    assert cli.main(["export", "model", "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"model: {out}\n"
    out.write_bytes(b"before")
    (tmp_path / "fails").touch()
    assert cli.main(["export", "model", "-o", str(out)]) == 2
    assert capsys.readouterr().err == "export: golden rows come out different\n"
    assert out.read_bytes() == b"before"
    assert {path.name for path in tmp_path.iterdir()} == {"fails", "model.onnx"}


def test_schema_file_is_an_option_of_the_group(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", str(file), "--name", "mine", "--label", "label"]) == 0
    written = yaml.safe_load(Path("conf/schema/mine.yaml").read_text())
    assert (written["id"], written["label"]) == ("row_id", "label")
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "conf/schema/mine.yaml: use it with --config-dir conf schema=mine"
    assert cli.main(["schema", str(file), "--name", "mine", "--label", "label"]) == 2
    assert cli.main(["schema", str(file), "--name", "mine", "--label", "label", "--overwrite"]) == 0
    assert cli.main(["train", "--config-dir", "conf", "schema=mine", "--cfg", "job"]) == 0


def test_several_labels(file: Path) -> None:
    table = pq.read_table(file)
    pq.write_table(table.append_column("other", pa.array([0, 1] * (table.num_rows // 2))), file)
    assert cli.main(["schema", str(file), "--name", "mine", "--label", "member", "--label", "other"]) == 0
    assert yaml.safe_load(Path("conf/schema/mine.yaml").read_text())["label"] == ["member", "other"]


def test_split_keeps_every_row(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["split", str(file), "-o", "out", "--label", "label", "--val", "0.1", "--test", "0.3"]) == 0
    rows = [pq.read_metadata(f"out/{split}/{split}.parquet").num_rows for split in ("train", "val", "test")]
    assert sum(rows) == pq.read_metadata(file).num_rows
    assert capsys.readouterr().out.endswith("of test: use them with data.path=out\n")


def test_config_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config-schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "tabstep"


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], "tabstep: the following arguments are required: command"),
        (["predit"], "tabstep: argument command: invalid choice: 'predit'"),
        (["predict"], "tabstep predict: the following arguments are required: model_dir, table, -o/--out"),
        (["predict", "m", "t", "-o", "o", "--batch-rows", "0"], "expected a whole number >= 1, got '0'"),
        (["predict", "nowhere", "t", "-o", "o"], "nowhere"),
        (["export", "nowhere", "-o", "m.onnx"], "nowhere: is not a model directory"),
        (["export", "nowhere"], "tabstep export: the following arguments are required: -o/--out"),
        (["split", "nowhere.parquet", "-o", "out"], "nowhere.parquet"),
        (["schema", "nowhere.parquet", "--name", "x"], "nowhere.parquet"),
        (["train", "modle=mlp"], "modle: no such key (got 'mlp'): did you mean 'model'?"),
    ],
)
def test_mistake_is_one_line(
    argv: list[str], line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert line in captured.err


@pytest.mark.parametrize("argv", [["--help"], ["--version"], *([name, "--help"] for name in cli.COMMANDS)])
def test_help_of_every_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 0
    assert capsys.readouterr().out


def test_a_reader_that_ends_early_is_no_fault() -> None:
    """As ``| head -1``: what is printed next would have a traceback otherwise."""
    command = [sys.executable, "-c", "import sys; from tabstep import cli; sys.exit(cli.main(['config-schema']))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait() == 128 + signal.SIGPIPE
