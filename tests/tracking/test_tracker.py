from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tabstep.errors import RetryError, UserError
from tabstep.tracking import tracker as module
from tabstep.tracking.tracker import Results, Row, Status, Tracker, no_answer, unreachable

HISTORY: list[Row] = [{"epoch": 1, "val_loss": 0.5}, {"epoch": 2, "val_loss": 0.25}]


class Server:
    """What a tracker speaks to: it may be away."""

    def __init__(self) -> None:
        self.away: Exception | None = None
        self.heard: list[Any] = []

    def hear(self, what: Any) -> None:
        if self.away is not None:
            raise self.away
        self.heard.append(what)


class Fake(Tracker):
    """Tells a server what it is told."""

    name, package = "fake", "json"

    def __init__(self, memory: Path, server: Server) -> None:
        super().__init__(memory)
        self.server = server

    def _reach(self) -> None:
        self.server.hear("reach")

    def _open(self) -> None:
        self.server.hear("open")

    def _add(self, history: Sequence[Row]) -> None:
        self.server.hear([row["epoch"] for row in history])

    def _log(self, metrics: Row, step: int) -> None:
        self.server.hear((dict(metrics), step))

    def _keep(self, results: Results) -> None:
        self.server.hear(dict(results.scores))

    def _end(self, status: Status) -> None:
        self.server.hear(status)


def results(directory: Path, text: str = "{}") -> Results:
    (directory / "report.json").write_text(text)
    return Results(file=directory / "report.json", scores={"test_f1": 0.5}, epoch=2, artifacts={})


def test_a_run_goes_its_way(tmp_path: Path) -> None:
    server = Server()
    fake = Fake(tmp_path, server)
    fake.begin({}, tmp_path / "report.json")
    fake.add(HISTORY)
    fake.log({"lr": 0.1}, 7)
    fake.keep(HISTORY, results(tmp_path))
    fake.end("finished")
    assert server.heard == ["open", [1, 2], ({"lr": 0.1}, 7), [1, 2], {"test_f1": 0.5}, "finished"]


def test_what_was_kept_is_left_alone_until_it_changes(tmp_path: Path) -> None:
    Fake(tmp_path, Server()).keep(HISTORY, results(tmp_path))
    server = Server()
    fake = Fake(tmp_path, server)
    fake.begin({}, tmp_path / "report.json")
    fake.keep(HISTORY, results(tmp_path))
    fake.end("finished")
    assert server.heard == []
    fake.begin({}, results(tmp_path, "{1}").file)
    fake.end("failed")
    assert server.heard == ["open", "failed"]


def test_a_server_that_dies_costs_one_warning_and_what_it_missed_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.0)
    server = Server()
    fake = Fake(tmp_path, server)
    fake.begin({}, tmp_path / "report.json")
    server.away = ConnectionError("refused\nby a page of HTML")
    with pytest.warns(UserWarning, match=r"^logger\.fake: refused: the run goes on without it") as said:
        fake.add(HISTORY[:1])
    assert len(said) == 1
    fake.log({"lr": 0.1}, 7)  # a second warning would be an error
    server.away = None
    fake.add(HISTORY)
    assert server.heard == ["open", [1, 2]]


def test_a_server_that_died_is_left_alone_until_the_end(tmp_path: Path) -> None:
    server = Server()
    fake = Fake(tmp_path, server)
    fake.begin({}, tmp_path / "report.json")
    server.away = ConnectionError("refused")
    with pytest.warns(UserWarning, match="refused"):
        fake.add(HISTORY[:1])
    server.away = None
    fake.add(HISTORY)
    assert server.heard == ["open"]
    fake.keep(HISTORY, results(tmp_path))
    assert server.heard == ["open", [1, 2], {"test_f1": 0.5}]


def test_what_could_not_be_kept_is_kept_by_the_next_process(tmp_path: Path) -> None:
    server = Server()
    server.away = ConnectionError("refused")
    with pytest.warns(UserWarning, match="refused"):
        Fake(tmp_path, server).keep(HISTORY, results(tmp_path))
    server.away = None
    with warnings.catch_warnings():
        Fake(tmp_path, server).keep(HISTORY, results(tmp_path))
    assert server.heard == ["open", [1, 2], {"test_f1": 0.5}]


def test_a_start_that_fails_is_one_line(tmp_path: Path) -> None:
    server = Server()
    server.away = ConnectionError("refused")
    with pytest.raises(RetryError, match=r"^logger\.fake: fake does not answer: start it, or train without it"):
        Fake(tmp_path, server).begin({}, tmp_path / "report.json")
    server.away = ValueError("no such project\n<html>")
    with pytest.raises(UserError, match=r"^logger\.fake: fake: no such project$"):
        Fake(tmp_path, server).begin({}, tmp_path / "report.json")


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "package", "no_such_package")
    with pytest.raises(
        UserError, match=r"^logger\.fake: needs the package no_such_package: pip install 'tabstep\[fake\]'$"
    ):
        Fake(tmp_path, Server()).reach()


def test_a_refusal_is_told_from_silence() -> None:
    outer = ValueError("API request failed")
    outer.__context__ = TimeoutError()
    assert no_answer(outer)
    assert not no_answer(ValueError("403"))
    assert isinstance(unreachable("key", "there", UserError("said already")), UserError)
