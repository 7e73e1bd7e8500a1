from __future__ import annotations

from pathlib import Path

import pytest

from tabstep.system.command_record import CommandRecord


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, content in ((".hydra/overrides.yaml", "- seed=1"), ("metrics.csv", "epoch"), ("checkpoints/a.ckpt", "a")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "left"),
    [(None, "- seed=1"), ("train.log", "- seed=1"), ("metrics.csv", "- seed=2"), ("checkpoints/b.ckpt", "- seed=2")],
)
def test_a_refused_command_leaves_the_record_of_the_run(directory: Path, changed: str | None, left: str) -> None:
    record = CommandRecord(directory, ".hydra", ("checkpoints", "metrics.csv", "report.json"))
    (directory / ".hydra" / "overrides.yaml").write_text("- seed=2")
    if changed is not None:
        (directory / changed).write_text("what a run that went on has written")
    record.restore()
    assert (directory / ".hydra" / "overrides.yaml").read_text() == left


def test_a_directory_without_a_record_gets_none(tmp_path: Path) -> None:
    record = CommandRecord(tmp_path, ".hydra", ("report.json",))
    record.restore()
    assert not list(tmp_path.iterdir())
