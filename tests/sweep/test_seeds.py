"""Trials of several seeds: their mean and spread, and a seed that is no hyperparameter."""

from __future__ import annotations

import math
import statistics
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tabstep.sweep.html_report import write_report
from tabstep.sweep.importance import importances
from tabstep.sweep.ledger import Header, Ledger, Trial, create_sweep
from tabstep.sweep.seeds import repetitions
from tabstep.sweep.space import parse_space

SCORES = {("8", "0"): 0.80, ("8", "1"): 0.84, ("8", "2"): 0.82, ("16", "0"): 0.90, ("16", "1"): 0.80, ("16", "2"): 0.91}


def make_ledger(directory: Path, **header: Any) -> Ledger:
    values: dict[str, Any] = {
        "objectives": ("val_auroc",),
        "directions": ("maximize",),
        "space": {"model.width": "8,16", "seed": "0,1,2"},
        "sampler": "all",
        "pruner": "none",
        "seed": 0,
        "study": "s",
    }
    ledger = create_sweep(directory, Header(**{**values, **header}))
    for number, ((width, seed), score) in enumerate(SCORES.items()):
        failed = number == 5
        ledger.save(
            Trial(
                number=number,
                state="failed" if failed else "complete",
                params={"model.width": width, "seed": seed},
                overrides=(),
                directory=str(number),
                values=() if failed else (score,),
                curve=() if failed else (score - 0.1, score),
                error="ran out of <memory>" if failed else "",
            )
        )
    return ledger


def test_mean_and_spread_are_over_seeds(tmp_path: Path) -> None:
    best, other = repetitions(make_ledger(tmp_path))
    assert (best.params, best.values) == ({"model.width": "16"}, [0.90, 0.80])
    assert (best.mean, best.std) == (statistics.fmean(best.values), statistics.stdev(best.values))
    assert other.mean == pytest.approx(0.82)
    assert other.std == pytest.approx(0.02)


def test_one_seed_has_no_spread_and_no_seed_no_table(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    (single,) = repetitions(Ledger(tmp_path, ledger.header, ledger.trials[:1]))
    assert math.isnan(single.std)
    (tmp_path / "other").mkdir()
    assert repetitions(make_ledger(tmp_path / "other", space={"model.width": "8,16"})) == []


def test_seed_is_no_hyperparameter(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    dimensions = parse_space(["model.width=8,16", "seed=0,1,2"]).dimensions
    assert list(importances(ledger, dimensions)) == ["model.width"]


class Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [str(value) for name, value in attrs if tag == "a" and name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_links_trials_and_says_what_made_it(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ledger = make_ledger(tmp_path, command="python train.py -m model.width=8,16 seed=0,1,2")
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "report.html").write_text("page")
    page = write_report(ledger, parse_space(["model.width=8,16", "seed=0,1,2"]).dimensions, {}).read_text()
    found = Links(page)
    assert [link for link in found.links if not link.startswith("#")] == ["3/report.html"]
    for words in (ledger.header.command, "mean val_auroc", "ran out of <memory>", "The epochs of each trial"):
        assert words in found.text
    assert (tmp_path / "plots" / "curves.png").is_file()
