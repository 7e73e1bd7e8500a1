"""Pictures show what the ledger holds: their lines and points are read back."""

from __future__ import annotations

import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep import cli
from tabstep.errors import UserError
from tabstep.page.pictures import to_png
from tabstep.sweep import plots
from tabstep.sweep.html_report import write_report
from tabstep.sweep.ledger import Header, Ledger, Trial, create_sweep, read_sweep
from tabstep.sweep.plots import best_so_far, figures
from tabstep.sweep.space import parse_space

pytest.importorskip("matplotlib")

HOSTILE = "$a_b</td><script>alert(1)</script>"
SPACE = {
    "optimizer.lr": "tag(log,interval(1e-05,0.1))",
    "model.width": "choice(256,16)",
    "tags": f"choice('{HOSTILE}',x)",
}
SHARES = {"model.width": 0.75, "optimizer.lr": 0.25}


def make_ledger(directory: Path, *, objectives: tuple[str, ...] = ("val_auroc",), minimize: bool = False) -> Ledger:
    header = Header(
        objectives=objectives,
        directions=["minimize" if minimize else "maximize" for _ in objectives],
        space=SPACE,
        sampler="tpe",
        pruner="median",
        seed=0,
        study="study",
    )
    ledger = create_sweep(directory, header)
    scores = [0.7, 0.9, None, 0.8, 0.6, 0.95]
    states: list[Any] = ["complete", "complete", "failed", "pruned", "pruned", "complete"]
    for number, (score, state) in enumerate(zip(scores, states, strict=True)):
        params = {
            "optimizer.lr": f"1e-0{number + 1}" if number < 5 else "0.1",
            "model.width": ("16", "256")[number % 2],
        }
        ledger.save(
            Trial(
                number=number,
                state=state,
                params={**params, "tags": HOSTILE if number % 3 else "x"},
                overrides=(),
                directory=f"{number}",
                values=() if score is None else (score,) * len(objectives),
                epochs=3,
                error="" if score is not None else f"=boom {HOSTILE}",
            )
        )
    return ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    (tmp_path / "sweep").mkdir()
    return make_ledger(tmp_path / "sweep")


def draw(ledger: Ledger) -> dict[str, Any]:
    space = parse_space([f"{key}={text}" for key, text in ledger.header.space.items()])
    return dict(figures(ledger, space.dimensions, SHARES))


def lines(axes: Any) -> dict[str, list[tuple[float, float]]]:
    return {str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()] for line in axes.get_lines()}


def points(collection: Any) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in collection.get_offsets()]


def test_history_has_each_trial_and_the_best_up_to_it(ledger: Ledger) -> None:
    (axes,) = draw(ledger)["history"].axes
    shown = {str(each.get_label()): points(each) for each in axes.collections}
    assert shown == {"complete": [(0, 0.7), (1, 0.9), (5, 0.95)], "pruned": [(3, 0.8), (4, 0.6)]}
    assert lines(axes)["best so far"] == [(0, 0.7), (1, 0.9), (3, 0.9), (4, 0.9), (5, 0.95)]
    assert [x for x, _ in lines(axes)["failed"]] == [2]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("trial", "val_auroc")


@given(st.lists(st.floats(-1, 1), min_size=1), st.sampled_from([1.0, -1.0]))
def test_best_so_far_is_the_running_best(values: list[float], sign: float) -> None:
    trials = [
        Trial(number=index, state="complete", params={}, overrides=(), directory="", values=(value,))
        for index, value in enumerate(values)
    ]
    running = np.maximum.accumulate if sign > 0 else np.minimum.accumulate
    assert best_so_far(trials, sign) == running(np.array(values)).tolist()


def test_slices_stand_in_the_order_of_importance(ledger: Ledger) -> None:
    width, lr, tags, *_ = draw(ledger)["slices"].axes
    assert [panel.get_xlabel() for panel in (width, lr, tags)] == ["model.width", "optimizer.lr", "tags"]
    assert points(lr.collections[0]) == [(0.1, 0.7), (0.01, 0.9), (1e-4, 0.8), (1e-5, 0.6), (0.1, 0.95)]
    assert lr.get_xscale() == "log"
    assert [label.get_text() for label in width.get_xticklabels()] == ["16", "256"]
    assert points(width.collections[0]) == [(0, 0.7), (1, 0.9), (1, 0.8), (0, 0.6), (1, 0.95)]


@pytest.mark.parametrize(("minimize", "best"), [(False, 5), (True, 4)])
def test_parallel_has_a_line_a_trial_and_marks_the_best(tmp_path: Path, minimize: bool, best: int) -> None:
    axes = draw(make_ledger(tmp_path, minimize=minimize))["parallel"].axes[0]
    drawn = [line for line in axes.get_lines() if len(line.get_xydata()) == 4]
    assert len(drawn) == 5 + 1
    marked = lines(axes)[f"best: trial {best}"]
    assert [y for _, y in marked][-1] == (0.0 if minimize else 1.0)
    assert max(line.get_linewidth() for line in drawn) == drawn[-1].get_linewidth()
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "model.width",
        "optimizer.lr",
        "tags",
        "val_auroc",
    ]


def test_importance_is_a_bar_a_key(ledger: Ledger) -> None:
    (axes,) = draw(ledger)["importance"].axes
    assert [bar.get_width() for bar in axes.patches] == [0.75, 0.25]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(SHARES)


def test_two_objectives_have_a_front(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, objectives=("val_auroc", "val_f1"))
    for number, values in {0: (0.7, 0.9), 1: (0.9, 0.2), 3: (0.6, 0.8), 4: (0.8, 0.5), 5: (0.8, 0.4)}.items():
        trial = ledger.trials[number]
        ledger.save(Trial(**{**vars(trial), "values": values}))
    (axes,) = draw(ledger)["front"].axes
    assert lines(axes)["beaten by none"] == [(0.7, 0.9), (0.8, 0.5), (0.9, 0.2)]
    assert len(points(axes.collections[0])) == 5


def test_few_trials_are_enough_or_nothing_is_drawn(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    space = parse_space([f"{key}={text}" for key, text in SPACE.items()])
    one = Ledger(ledger.directory, ledger.header, ledger.trials[:1])
    drawn = figures(one, space.dimensions, {})
    assert list(drawn) == ["history"]
    assert to_png(drawn["history"]).startswith(b"\x89PNG")
    assert figures(Ledger(ledger.directory, ledger.header, ledger.trials[2:3]), space.dimensions, {}) == {}


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_holds_all_and_loads_nothing(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(ledger.directory)]) == 0
    path = ledger.directory / "report.html"
    assert capsys.readouterr().out == f"report: {path}\n"
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    names = [tag for tag, _ in page.tags]
    assert names.count("script") == 1  # its own: HOSTILE stays text
    assert "link" not in names
    assert "img" not in names
    assert names.count("svg") == len(list((ledger.directory / "plots").glob("*.png"))) >= 3
    links = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("href", "src", "xlink:href")]
    assert all(str(link).startswith(("#", "data:image/png;base64,")) for link in links)
    assert HOSTILE in page.text
    assert "Best: trial 5 with val_auroc 0.9500 at optimizer.lr=0.1" in page.text
    assert "6 trials: 3 complete, 1 failed, 2 pruned." in page.text
    for file in (ledger.directory / "plots").glob("*.png"):
        width, height = struct.unpack(">II", file.read_bytes()[16:24])
        assert 300 < width < 4000
        assert 100 < height < 4000


def test_a_name_that_the_font_lacks_is_no_fault(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    for trial in list(ledger.trials):
        ledger.save(
            Trial(**{**vars(trial), "params": {**trial.params, "tags": "東京 🗼" if trial.number else "\x1b[2J"}})
        )
    space = parse_space([f"{key}={text}" for key, text in SPACE.items()])
    assert write_report(read_sweep(tmp_path), space.dimensions, {}).is_file()
    assert "\x1b" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_mistake_is_one_line(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "is not the directory of a run" in capsys.readouterr().err
    (ledger.directory / "plots").write_text("in the way")
    assert cli.main(["report", str(ledger.directory)]) == 2
    assert "report.html: cannot be written" in capsys.readouterr().err
    monkeypatch.setattr(plots, "can_draw", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'tabstep\[report\]'"):
        draw(ledger)
