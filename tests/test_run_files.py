from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import tabstep
from tabstep import run_files

SOURCE = Path(tabstep.__file__).parent
# A directory of the container's tree, a hyperparameter, a key of the report and a package happen to be called alike.
NAMESAKES = {
    "model",
    "checkpoints",
    "predictions",
    "tensorboard",
    "ranks",
    "config.yaml",
    "folds",
    "ray",
    "wandb",
    "members",
}


def literals(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_each_name_is_written_down_once() -> None:
    names = {value for name, value in vars(run_files).items() if name.isupper()} - NAMESAKES
    assert {"report.json", "metrics.csv", "manifest.json", "DONE"} <= names
    others = [file for file in SOURCE.rglob("*.py") if file.name != "run_files.py"]
    assert len(others) > 100
    found = {(file.relative_to(SOURCE).as_posix(), text) for file in others for text in names & set(literals(file))}
    assert found == set()


def test_predictions_lie_in_the_directory_of_the_run(tmp_path: Path) -> None:
    assert run_files.predictions_file(tmp_path, "test") == tmp_path / "predictions" / "test.parquet"
