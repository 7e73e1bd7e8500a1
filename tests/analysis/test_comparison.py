from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from tabstep import cli
from tabstep.analysis.comparison import Comparison, best_value, compare, comparison_tables
from tabstep.errors import UserError

REPORT = {"val_loss": 0.25, "val_auroc": 0.8, "train_loss": 0.125, "epochs": 3, "objective": "val_auroc", "gain": {}}


def make_run(directory: Path, config: dict[str, Any] | None, report: dict[str, Any] | None = REPORT) -> Path:
    directory.mkdir(parents=True)
    if config is not None:
        (directory / "model").mkdir()
        (directory / "model" / "config.yaml").write_text(yaml.safe_dump(config))
    if report is not None:
        (directory / "report.json").write_text(json.dumps(report))
    return directory


def test_only_keys_that_differ_and_all_metrics(tmp_path: Path) -> None:
    one = {"seed": 1, "model": {"name": "mlp", "width": 8}, "paths": {"output_dir": "a", "cache_dir": "c"}, "x": None}
    two = {"seed": 1.0, "model": {"name": "resnet"}, "paths": {"output_dir": "b", "cache_dir": "c"}}
    runs = [make_run(tmp_path / "a", one), make_run(tmp_path / "b", two, {"val_loss": None, "test_f1": 1.0})]
    found = compare(runs)
    assert found.names == ("a", "b")
    assert found.config == {"model.name": ("mlp", "resnet"), "model.width": ("8", ""), "x": ("null", "")}
    assert found.metrics.keys() == {"val_loss", "val_auroc", "train_loss", "epochs", "objective", "test_f1"}
    assert found.metrics["val_auroc"] == (0.8, None)
    assert found.metrics["val_loss"][0] == 0.25
    assert math.isnan(found.metrics["val_loss"][1])


@pytest.mark.parametrize(
    ("one", "two", "differ"),
    [(1, True, True), ("1", 1, True), (0.1, 0.1, False), ([1, 2], [2, 1], True), ([1.0], [1], False), ("", None, True)],
)
def test_values_of_another_type_differ(tmp_path: Path, one: Any, two: Any, differ: bool) -> None:
    found = compare([make_run(tmp_path / "a", {"key": one}), make_run(tmp_path / "b", {"key": two})])
    assert ("key" in found.config) is differ
    if differ:
        texts = found.config["key"]
        assert [yaml.safe_load(text) for text in texts] == [one, two]


def test_an_ensemble_lacks_keys_without_a_difference(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, {"seed": 1, "lr": lr}) for name, lr in (("0", 0.1), ("1", 0.2))]
    weights = {"ensemble": {"weights": {"0": 0.25, "1": 0.75}}}
    runs.append(make_run(tmp_path / "ensemble", weights))
    found = compare(runs)
    assert found.config == {
        "lr": ("0.1", "0.2", ""),
        "ensemble.weights.0": ("", "", "0.25"),
        "ensemble.weights.1": ("", "", "0.75"),
    }


def test_a_run_that_is_not_finished_shows_its_best_epoch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", None, None)
    (run / ".hydra").mkdir()
    (run / ".hydra" / "config.yaml").write_text("objective: val_auroc\n")
    (run / "metrics.csv").write_text("epoch,val_auroc,lr\n1,0.7,1\n2,0.9,1\n3,0.8,1\n")
    fresh = make_run(tmp_path / "b", {"objective": "val_auroc"}, None)
    found = compare([run, fresh])
    assert {key: row[0] for key, row in found.metrics.items()} == {
        "val_auroc": 0.9,
        "best_epoch": 2,
        "epochs": 3,
        "stop_reason": "not finished",
    }
    assert found.metrics["stop_reason"][1] == "not finished, no epoch yet"


def test_a_model_alone_and_a_sweep_are_runs(tmp_path: Path) -> None:
    model = make_run(tmp_path / "far" / "m", None, None)
    (model / "manifest.json").touch()
    (model / "config.yaml").write_text("seed: 1\n")
    (model / "metrics.json").write_text('{"val_f1": 0.5}')
    for name in ("0", "1"):
        make_run(tmp_path / "sweep" / name, {"seed": int(name)})
    found = compare([tmp_path / "sweep", model])
    assert found.names == ("sweep/0", "sweep/1", "far/m")
    assert found.config == {"seed": ("0", "1", "1")}
    assert found.metrics["val_f1"] == (None, None, 0.5)


def test_best_is_the_smallest_loss_and_the_largest_of_the_rest() -> None:
    assert best_value("test_log_loss", [0.3, 0.2, math.nan]) == 0.2
    assert best_value("val_f1", [0.3, 0.2, None]) == 0.3
    assert best_value("val_f1", [math.nan, None]) is None
    assert best_value("seconds", [1.0, 2.0]) is None


def rendered(comparison: Comparison, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    for table in comparison_tables(comparison, console.width):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_fit_and_show_every_run(width: int) -> None:
    names = tuple(f"run-{index:03d}" for index in range(9))
    comparison = Comparison(
        names=names,
        config={"model.name": tuple("abcdefghi")},
        metrics={
            "val_f1": tuple(index / 10 for index in range(9)),
            "stop_reason": ("trainer.max_epochs=3 reached",) * 9,
        },
    )
    text = rendered(comparison, width)
    assert max(map(len, text.splitlines())) <= width
    assert all(name in text for name in names)
    assert text.count(" *") == 1
    assert "0.8000 *" in text


def test_hostile_text_is_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = {"key": "[red]\x1b[2Jx", "[bold]k": 1}
    runs = [make_run(tmp_path / "=a", {}), make_run(tmp_path / "[b]", hostile)]
    assert cli.main(["compare", *map(str, runs), "--csv", str(tmp_path / "out.csv")]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    for text in ("[red]", "[bold]k", "[b]", "=a"):
        assert text in said
    with open(tmp_path / "out.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["kind", "key", "'=a", "[b]"]
    assert ["config", "key", "", "[red]\x1b[2Jx"] in rows


def test_csv_has_every_digit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score = 0.1 + 0.2
    runs = [make_run(tmp_path / "a", {"lr": 1e-5}, {"val_f1": score}), make_run(tmp_path / "b", {"lr": -1})]
    assert cli.main(["compare", *map(str, runs), "--csv", str(tmp_path / "out.csv")]) == 0
    with open(tmp_path / "out.csv", newline="") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    assert (rows["lr"]["kind"], rows["lr"]["a"], rows["lr"]["b"]) == ("config", "1e-05", "-1")
    assert (float(rows["val_f1"]["a"]), rows["val_f1"]["b"]) == (score, "")
    assert capsys.readouterr().out.endswith(f"comparison: {tmp_path / 'out.csv'}\n")


def test_equal_configurations_are_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(tmp_path / name, {"seed": 1}) for name in "ab"]
    assert cli.main(["compare", *map(str, runs)]) == 0
    assert "no key of the configuration differs" in capsys.readouterr().out


def test_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, other = (str(make_run(tmp_path / name, {})) for name in "ab")
    for argv, line in (
        ([run], "compare: at least two runs are needed, got 1"),
        ([run, f"{run}/"], "is given twice"),
        ([run, str(tmp_path / "nowhere")], "nowhere: no such directory"),
        ([run, other, "--csv", str(tmp_path / "no" / "x.csv")], "--csv: cannot be written"),
    ):
        assert cli.main(["compare", *argv]) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert line in said
    with pytest.raises(UserError, match="got 0"):
        compare([])


def test_torch_is_not_needed(tmp_path: Path) -> None:
    runs = [str(make_run(tmp_path / name, {"seed": name})) for name in "ab"]
    code = f"import sys; from tabstep.cli import main; main(['compare', *{runs}]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
