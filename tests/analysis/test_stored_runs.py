from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.analysis.stored_runs import find_runs, flat, read_run, short_names
from tabstep.errors import UserError
from tabstep.training.loggers import write_history


def finish(directory: Path, report: str = "{}") -> Path:
    directory.mkdir(parents=True)
    (directory / "report.json").write_text(report)
    return directory


def test_history_is_read_back(tmp_path: Path) -> None:
    finish(tmp_path / "run")
    history = [{"epoch": 1, "val_loss": 0.1 + 0.2}, {"epoch": 2, "val_loss": math.inf, "lr": 1e-300}]
    write_history(tmp_path / "run" / "metrics.csv", history)
    assert list(read_run(tmp_path / "run").history) == history


def test_runs_are_found_at_any_depth_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "a/0", "9/previous-1", ".hidden/3"):
        finish(tmp_path / name)
    (tmp_path / "11").mkdir()
    assert [str(path.relative_to(tmp_path)) for path in find_runs(tmp_path)] == ["9", "10", "a/0"]
    assert find_runs(tmp_path / "9") == [tmp_path / "9"]


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (None, "run: no such directory: name the directory of a run"),
        ({}, r"run: is not the directory of a run: it has no report.json, no model/ and no .hydra/"),
        ({"report.json": "{"}, "report.json: cannot be read: Expecting property name"),
        ({"report.json": "[]"}, "report.json: holds no keys"),
        ({"report.json": "\xff"}, "report.json: cannot be read: Expecting value"),
        ({"report.json": "{}", ".hydra/config.yaml": "a: [\n - "}, "config.yaml: cannot be read: while parsing"),
        ({"report.json": "{}", ".hydra/config.yaml": "!!python/object:os.system x"}, "config.yaml: cannot be read"),
        ({"report.json": "{}", "metrics.csv": "epoch,loss\n1,x\n"}, "metrics.csv: is not the history of a run"),
        ({"report.json": "{}", "metrics.csv": "epoch\n1,2,3\n"}, "metrics.csv: is not the history of a run"),
    ],
)
def test_mistake_is_one_line(tmp_path: Path, files: dict[str, str] | None, line: str) -> None:
    for name, text in (files or {}).items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text(text)
    if files == {}:
        (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match=line) as caught:
        read_run(tmp_path / "run")
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "multirun.yaml").touch()
    with pytest.raises(UserError, match="is a file: name the directory of a run"):
        read_run(tmp_path / "multirun.yaml")


keys = st.text("aé =[]/\n0", min_size=1, max_size=3)  # any but the dot, and few: they are made by the thousand
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=3),
    lambda below: st.dictionaries(keys, below, min_size=1, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(keys, values, max_size=4))
def test_flat_keys_lead_to_their_values(config: dict[str, object]) -> None:
    for key, value in flat(config).items():
        place: object = config
        for part in key.split(".") if config else []:
            assert isinstance(place, dict)
            place = place[part]
        assert place == value


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["logs/runs/a", "logs/runs/b"], ["a", "b"]),
        (["logs/a/0", "logs/b/0"], ["a/0", "b/0"]),
        (["logs/a"], ["a"]),
        (["logs/a", "logs/a/b"], ["a", "b"]),
    ],
)
def test_names_tell_runs_apart(paths: list[str], names: list[str]) -> None:
    assert short_names([Path(path) for path in paths]) == names
