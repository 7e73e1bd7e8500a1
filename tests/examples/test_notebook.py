"""The notebook's cells, run in their order as a kernel would run them."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from tabstep import Run

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return found


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; return the value of its last line where that is an expression."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), str(NOTEBOOK), "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


@pytest.mark.slow
def test_cells_run_and_show_what_the_text_says(
    cells: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names: dict[str, Any] = {}
    shown = [run_cell("".join(cell["source"]), names) for cell in cells if cell["cell_type"] == "code"]
    _, run, history, predicted, loaded, score = shown
    assert isinstance(run, Run)
    assert run.report["test_auroc"] > 0.8
    assert len(history) == run.report["epochs"]
    assert predicted.index.tolist() == names["new"].index.tolist()
    assert predicted["customer_id"].tolist() == names["new"]["customer_id"].tolist()
    assert loaded[0] == ("no", "yes")
    assert score > 0.8


def test_no_outputs_are_kept(cells: list[dict[str, Any]]) -> None:
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
