from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tests.sweep.test_ledger import HEADER, TRIAL

from tabstep.sweep.importance import importances, main_effect
from tabstep.sweep.leaderboard import best_trial, pareto_fronts, rows, standings, to_csv, to_parquet, write_leaderboard
from tabstep.sweep.ledger import PROGRESS, Ledger, Trial
from tabstep.sweep.progress_view import LiveTable, described, result, show_leaderboard
from tabstep.sweep.space import parse_space


def ledger_of(trials: Sequence[Trial], directory: Path = Path("s"), **changes: object) -> Ledger:
    return Ledger(directory, replace(HEADER, **changes), list(trials))  # type: ignore[arg-type]


def trial(number: int, *values: float, state: str = "complete", **params: str) -> Trial:
    return replace(TRIAL, number=number, state=state, values=list(values), params={"seed": str(number), **params})  # type: ignore[arg-type]


def test_best_comes_first_and_what_has_no_result_last() -> None:
    trials = [trial(0, 0.7), trial(1, state="failed"), trial(2, 0.9), trial(3, 0.9), trial(4, 0.8, state="pruned")]
    found = ledger_of([*trials, trial(5, state="running")])
    assert [(s.trial.number, s.rank) for s in standings(found)] == [
        (2, 1),
        (3, 2),
        (4, 3),
        (0, 4),
        (1, None),
        (5, None),
    ]
    best = best_trial(found)
    assert best is not None
    assert best.number == 2
    losses = ledger_of(trials, objectives=["val_loss"], directions=["minimize"])
    assert [s.trial.number for s in standings(losses)] == [0, 4, 2, 3, 1]
    assert best_trial(ledger_of([trial(0, state="failed")])) is None


points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(points)
def test_pareto_fronts_by_definition(found: list[tuple[int, int]]) -> None:
    def beats(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return a[0] <= b[0] and a[1] <= b[1] and a != b

    fronts = pareto_fronts(dict(enumerate(found)))
    assert fronts.keys() == set(range(len(found)))
    for index, point in enumerate(found):
        better = [fronts[other] for other, each in enumerate(found) if beats(each, point)]
        assert fronts[index] == max(better, default=0) + 1


def test_two_objectives_rank_by_front_then_by_the_first() -> None:
    both = {"objectives": ["val_auroc", "seconds"], "directions": ["maximize", "minimize"]}
    found = ledger_of([trial(0, 0.9, 50.0), trial(1, 0.8, 10.0), trial(2, 0.7, 20.0), trial(3, 0.95, 90.0)], **both)
    assert [(s.trial.number, s.rank, s.front) for s in standings(found)] == [
        (3, 1, 1), (0, 2, 1), (1, 3, 1), (2, 4, 2)]  # fmt: skip
    assert rows(found)[0]["seconds"] == 0.0 or "front" in rows(found)[0]


def test_rows_as_csv_and_parquet(tmp_path: Path) -> None:
    one = replace(
        trial(0, 0.9, lr="1e-3", model="mlp"), epochs=4, seconds=1.23456, scores={"test_f1": 0.5, "epochs": 4.0}
    )
    other = replace(
        trial(1, state="failed", lr="2", model="'x y'"), error="=cmd|' /C calc'!A0", scores={"val_f1": None}
    )
    space = {"lr": "choice(1e-3,2)", "+model": "choice(mlp,'x y')", "seed": "choice(0,1)"}
    one, other = (replace(t, params={**t.params, "+model": t.params["model"]}) for t in (one, other))
    found = ledger_of([one, other], tmp_path, space=space)
    write_leaderboard(found)
    board = list(csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text())))
    assert list(board[0]) == [
        "rank", "trial", "state", "val_auroc", "epochs", "seconds", "usd", "lr", "model", "seed", "test_f1", "val_f1",
        "error", "directory",
    ]  # fmt: skip
    assert [board[0][key] for key in ("rank", "lr", "model", "seconds", "test_f1")] == [
        "1",
        "0.001",
        "mlp",
        "1.235",
        "0.5",
    ]
    assert board[1]["error"] == "'=cmd|' /C calc'!A0"
    assert board[1]["model"] == "x y"
    table = pq.read_table(tmp_path / "leaderboard.parquet")
    assert table.schema.field("lr").type == pa.float64()
    assert table.schema.field("seed").type == pa.int64()
    assert table.schema.field("model").type == pa.string()
    assert table.column("rank").to_pylist() == [1, None]
    assert table.column("val_f1").to_pylist() == [None, None]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=9)


@given(st.lists(st.one_of(st.none(), st.integers(-9, 9), st.floats(allow_nan=False), texts), min_size=1, max_size=5))
def test_any_cells_can_be_written(values: list[object]) -> None:
    found = [{"rank": 1, "x": value} for value in values]
    back = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert len(back) == len(values)
    assert pq.read_table(pa.BufferReader(to_parquet(found))).num_rows == len(values)


def test_nothing_is_written_without_trials(tmp_path: Path) -> None:
    write_leaderboard(ledger_of([], tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_importance_of_a_grid_by_hand() -> None:
    """y = 3 a + b on a 2 x 2 grid: the variances of the means are 9/4 and 1/4."""
    trials = [trial(2 * a + b, 3 * a + b, a=str(a), b=str(b), c="1") for a in range(2) for b in range(2)]
    assert main_effect(trials, "a") == pytest.approx(9 / 4)
    dimensions = parse_space(["a=0,1", "b=0,1", "c=1,2"]).dimensions
    assert importances(ledger_of(trials), dimensions) == pytest.approx({"a": 0.9, "b": 0.1})
    assert importances(ledger_of(trials[:3]), dimensions) == {}
    assert importances(ledger_of([replace(t, values=[1.0]) for t in trials]), dimensions) == {}


def test_importance_of_a_search_finds_what_matters() -> None:
    dimensions = parse_space(["lr=tag(log,interval(1e-4,1e-1))", "model=mlp,resnet", "x=interval(0,1)"]).dimensions
    names = ["mlp", "resnet"]
    trials = [
        trial(n, -((n - 12) ** 2), lr=f"{10 ** (-4 + n / 10):.6g}", model=names[n % 2], x=f"0.{n * 37 % 100:02d}")
        for n in range(30)
    ]
    shares = importances(ledger_of(trials, sampler="tpe"), dimensions)
    assert next(iter(shares)) == "lr"
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def shown(renderable_width: int = 100) -> Console:
    return Console(width=renderable_width, file=io.StringIO(), force_terminal=False)


def test_leaderboard_on_a_terminal() -> None:
    console = shown()
    trials = [trial(n, 0.5 + n / 100) for n in range(40)]
    show_leaderboard(ledger_of([*trials, trial(40, state="running")]), {"seed": 1.0}, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.8900" in said
    assert "… and 11 more in the file" in said
    assert "100%" in said


def test_live_table_follows_running_trials(tmp_path: Path) -> None:
    console = shown()
    trials = [trial(0, 0.81), replace(trial(1, state="running", a="[red]"), directory="1"), trial(2, state="running")]
    found = ledger_of(trials, tmp_path, space={"seed": "choice(0,1,2)"})
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / PROGRESS).write_text('{"curve": [0.6, 0.7123]}')
    with LiveTable(found, 9, console) as table:
        table.started(trials[1])
        table.note("[red]note")
        table.refresh()
    console.print(table.table())
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 of 9 trials, best: trial 0 with val_auroc 0.8100" in said
    assert "0.7123" in said
    assert "interrupted" in said
    assert "[red]note" in said
    table.ended(trials[1])
    assert table.began == {}


def test_lines_of_a_log() -> None:
    found = ledger_of([])
    assert described(trial(3)) == "seed=3"
    ended = replace(trial(3, 0.9), epochs=1, seconds=83.0)
    assert result(found, ended) == "complete, val_auroc 0.9000 (1 epoch, 0:01:23)"
    assert result(found, replace(ended, state="failed", error="a\nb")) == "failed: a b"
