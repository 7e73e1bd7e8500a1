from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sweep.conftest import Runs

from tabstep import entry
from tabstep.sweep import run_sweep as start
from tabstep.sweep.delegated_sweep import Handover

JOBS = ("launch=dry_run", "launch.tuner=true", "launch.role=arn:aws:iam::123456789012:role/job")


@pytest.fixture
def handed(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> list[Handover]:
    """What a sweep hands over instead of running it."""
    found: list[Handover] = []
    monkeypatch.setattr(start, "hand_over", lambda launcher, handover: found.append(handover) or [])
    return found


def test_a_sweep_for_a_tuner_runs_nothing_and_writes_nothing(
    handed: list[Handover], sweep: Callable[..., int], runs: Runs
) -> None:
    assert sweep(*JOBS, "hparams_search=resnet", "model.width=64,128", "seed=7") == 0
    [handover] = handed
    assert (runs.settings, list(Path().iterdir())) == ([], [])
    assert {sample.model.name for sample in handover.samples} == {"resnet"}
    assert handover.settings().paths.output_dir == str(Path("s").absolute()) == str(handover.directory)
    assert str(handover.space.dimensions["model.width"]) == "choice(64,128)"
    assert handover.shared() == ["model=resnet", *JOBS, "seed=7"]
    assert (handover.options.sampler, handover.options.pruner, handover.options.seed) == ("tpe", "median", 7)


def test_what_an_option_of_ranges_sets_besides_is_shared(handed: list[Handover], runs: Runs) -> None:
    Path("mine/hparams_search").mkdir(parents=True)
    text = "# @package _global_\ndefaults: [optuna]\ntrainer: {max_epochs: 7}\n"
    Path("mine/hparams_search/x.yaml").write_text(text)
    assert entry.main(["-m", "--config-dir", "mine", *JOBS, "hparams_search=x"]) == 0
    assert handed[0].shared()[-1] == "trainer.max_epochs=7"
    assert {sample.trainer.max_epochs for sample in handed[0].samples} == {7}


def test_the_best_is_written_as_a_sweep_writes_it(
    handed: list[Handover], sweep: Callable[..., int], runs: Runs
) -> None:
    assert sweep(*JOBS, "hparams_search=mlp", "trainer.max_epochs=2") == 0
    params = handed[0].first() | {"model.width": "512"}
    command = handed[0].best(params)
    assert "model.width=512" in command
    assert "trainer.max_epochs=2" in command
    assert not any(text in command for text in ("launch.tuner", "hparams_search", "hydra."))
    assert Path("s/best.sh").read_text() == f"{command}\n"
    assert Path("s/best.yaml").read_text() == Path("s/experiment/best.yaml").read_text()
    assert "width: 512" in Path("s/best.yaml").read_text()
