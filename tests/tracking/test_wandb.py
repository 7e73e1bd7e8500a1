from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tabstep.errors import UserError
from tabstep.tracking.tracker import Results
from tabstep.tracking.wandb import WandbTracker
from tabstep.tracking.wandb_files import logged_rows, records, values

HISTORY = [{"epoch": 1, "val_loss": 0.5}, {"epoch": 2, "val_loss": 0.25}, {"epoch": 3, "val_loss": 0.125}]


def logged(directory: Path) -> list[dict[str, Any]]:
    """Return the rows of all processes of the one run there, once wandb's service has written them and ended."""
    import wandb

    wandb.teardown()
    (run_id,) = {path.stem.removeprefix("run-") for path in directory.glob("wandb/offline-run-*/*.wandb")}
    return logged_rows(directory, run_id)


def first(directory: Path, kind: str) -> Any:
    files = directory.glob("wandb/offline-run-*/*.wandb")
    return next(getattr(each, kind) for file in files for each in records(file) if each.HasField(kind))


def made(directory: Path, **options: Any) -> WandbTracker:
    tracker = WandbTracker(
        directory / "memory", directory=directory, project="tests", run_name="mine", mode="offline", **options
    )
    tracker.reach()
    return tracker


def test_a_run_is_in_its_files(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"w")
    (tmp_path / "report.json").write_text("{}")
    tracker = made(tmp_path, group="sweep", tags=["a"])
    tracker.begin({"model": {"width": 8}}, tmp_path / "report.json")
    tracker.add(HISTORY[:1])
    tracker.log({"lr": 0.1}, 40)
    tracker.add(HISTORY)
    artifacts = {"report.json": tmp_path / "report.json", "model": tmp_path / "model", "page": tmp_path / "none"}
    results = Results(file=tmp_path / "report.json", scores={"test_f1": 0.75}, epoch=2, artifacts=artifacts)
    tracker.keep(HISTORY, results)
    tracker.end("finished")
    assert logged(tmp_path) == [HISTORY[0], {"lr": 0.1, "step": 40, "epoch": 1}, *HISTORY[1:]]
    run = first(tmp_path, "run")
    assert (run.project, run.display_name, run.run_group, list(run.tags)) == ("tests", "mine", "sweep", ["a"])
    files = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    config = [values(each.config.update) for file in files for each in records(file) if each.HasField("config")]
    assert {"model": {"width": 8}} in config
    sent = [each.request.log_artifact.artifact for file in files for each in records(file) if each.HasField("request")]
    kept = [each.artifact for file in files for each in records(file) if each.HasField("artifact")] + sent
    assert {f"{tracker.run_id}-model", f"{tracker.run_id}-report.json"} <= {each.name for each in kept}
    summaries = [values(each.summary.update) for file in files for each in records(file) if each.HasField("summary")]
    assert {"test_f1": 0.75, "best_epoch": 2}.items() <= {k: v for each in summaries for k, v in each.items()}.items()
    assert [each.exit.exit_code for file in files for each in records(file) if each.HasField("exit")] == [0]


def test_a_run_that_was_stopped_goes_on_as_itself_and_logs_no_epoch_twice(tmp_path: Path) -> None:
    one = made(tmp_path)
    one.begin({"end": 2}, tmp_path / "report.json")
    one.add(HISTORY[:2])
    one.end("killed")
    assert len(logged(tmp_path)) == 2
    two = made(tmp_path)
    two.begin({"end": 3}, tmp_path / "report.json")
    two.add(HISTORY[:2])
    two.add(HISTORY)
    two.end("finished")
    assert one.run_id == two.run_id
    assert sorted(row["epoch"] for row in logged(tmp_path)) == [1, 2, 3]


KILLED = """
import sys
from pathlib import Path
from tabstep.tracking.wandb import WandbTracker
root = Path(sys.argv[1])
tracker = WandbTracker(root / "memory", directory=root, project="tests", run_name="mine", mode="offline")
tracker.begin({}, root / "report.json")
tracker.add([{"epoch": 1, "val_loss": 0.5}, {"epoch": 2, "val_loss": 0.25}])
print("logged", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_may_have_written_nothing_and_all_epochs_are_there_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "logged\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    tracker = made(tmp_path)
    tracker.begin({}, tmp_path / "report.json")
    tracker.add(HISTORY)
    tracker.end("finished")
    assert sorted((row["epoch"], row["val_loss"]) for row in logged(tmp_path)) == [(1, 0.5), (2, 0.25), (3, 0.125)]


def test_a_file_that_breaks_off_is_read_up_to_there(tmp_path: Path) -> None:
    tracker = made(tmp_path)
    tracker.begin({}, tmp_path / "report.json")
    tracker.add([{"epoch": epoch, **{f"score_{i}": 0.1 for i in range(40)}} for epoch in range(1, 81)])
    tracker.end("finished")
    assert [row["epoch"] for row in logged(tmp_path)] == list(range(1, 81))
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    whole = file.read_bytes()
    assert len(whole) > 2 * 32768  # rows lie across the borders of blocks
    file.write_bytes(whole[: len(whole) // 2])
    rest = [row["epoch"] for row in logged(tmp_path)]
    assert 0 < len(rest) < 80
    assert rest == list(range(1, len(rest) + 1))


def test_a_key_that_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    tracker = WandbTracker(tmp_path, directory=tmp_path, project="tests", run_name="mine", mode="online")
    with pytest.raises(UserError, match=r"^logger\.wandb: Weights & Biases: .*(api_key|API key|login)"):
        tracker.begin({}, tmp_path / "report.json")
