from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tabstep.errors import UserError
from tabstep.sweep.ledger import Trial
from tabstep.sweep.options import Options
from tabstep.sweep.samplers import Proposer, make_proposer
from tabstep.sweep.space import Space, parse_space

SPACE = parse_space(["lr=tag(log,interval(1e-4,1e-1))", "width=range(16,129,16)", "x=interval(0,1)"])
MIXED = parse_space(["lr=tag(log,interval(1e-4,1e-1))", "model=mlp,resnet", "depth=int(interval(1,6))"])


def options(sampler: str, **changes: object) -> Options:
    base = Options(
        sampler=sampler,
        pruner="none",
        n_trials=40,
        timeout=None,
        max_failures=None,
        seed=5,
        storage=None,
        retry_failed=False,
        objectives=("val_auroc",),
        directions=("maximize",),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def value(params: dict[str, str]) -> float:
    return -abs(float(params["lr"]) - 0.01) - abs(float(params.get("x", 0)) - 0.3)


def search(proposer: Proposer, count: int, *, window: int = 4, two: bool = False) -> list[Trial]:
    trials: list[Trial] = []
    for number in range(count):
        proposal = proposer.propose(number, trials, max(0, number - window + 1))
        memory = json.loads(json.dumps(dict(proposal.memory)))  # as it is when it was read from a file
        values = [value(dict(proposal.params))]
        values += [float(proposal.params["lr"])] if two else []
        trials.append(
            Trial(
                number=number,
                state="complete",
                params=proposal.params,
                overrides=[],
                directory=str(number),
                values=values,
                memory=memory,
            )
        )
    return trials


@pytest.mark.parametrize("space", [SPACE, MIXED])
@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "nsgaii"])
def test_values_lie_in_the_space_and_are_the_same_again(sampler: str, space: Space) -> None:
    proposer = make_proposer(space, options(sampler), 10)
    trials = search(proposer, 14)
    for trial in trials:
        assert 1e-4 <= float(trial.params["lr"]) <= 1e-1
        assert trial.params.get("width", "16") in map(str, range(16, 129, 16))
        assert trial.params.get("model", "mlp") in ("mlp", "resnet")
        assert trial.params.get("depth", "1") in "123456"
    assert [trial.params for trial in search(make_proposer(space, options(sampler), 10), 14)] == [
        trial.params for trial in trials
    ]
    other = make_proposer(space, options(sampler, seed=6), 10)
    assert search(other, 3)[2].params != trials[2].params
    assert len({trial.params["lr"] for trial in trials}) > 10


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsgaii"])
def test_results_that_are_not_seen_change_nothing(sampler: str) -> None:
    proposer = make_proposer(SPACE, options(sampler), 10)
    trials = search(proposer, 20)
    expected = proposer.propose(20, trials, 17).params

    def changed(trial: Trial) -> Trial:
        return replace(trial, state="failed", values=[]) if trial.number >= 17 else trial

    assert proposer.propose(20, [changed(trial) for trial in trials], 17).params == expected
    running: Sequence[Trial] = [replace(t, state="running", values=[]) if t.number >= 17 else t for t in trials]
    assert proposer.propose(20, running, 17).params == expected


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_search_beats_chance(sampler: str) -> None:
    best = max(trial.values[0] for trial in search(make_proposer(SPACE, options(sampler), 10), 40))
    chance = sorted(trial.values[0] for trial in search(make_proposer(SPACE, options("random"), 10), 40))
    assert best > chance[-4]
    later = [trial.values[0] for trial in search(make_proposer(SPACE, options(sampler), 10), 40)][20:]
    assert sum(later) / len(later) > sum(chance) / len(chance)


def test_two_objectives() -> None:
    both = options("nsgaii", objectives=("val_auroc", "seconds"), directions=("maximize", "minimize"))
    trials = search(make_proposer(SPACE, both, 10), 20, two=True)
    assert len({trial.params["lr"] for trial in trials}) > 10


def test_failed_and_pruned_trials_are_learnt_from_or_passed_over() -> None:
    proposer = make_proposer(SPACE, options("tpe", pruner="hyperband"), 10)
    trials = search(proposer, 14)
    trials[3] = replace(trials[3], state="failed", values=[])
    trials[4] = replace(trials[4], state="pruned", curve=[0.1, None, 0.2])
    assert proposer.propose(14, trials, 11).params.keys() == {"lr", "width", "x"}


def test_grid_counts_its_trials() -> None:
    space = parse_space(["a=1,2,3", "b=4,5"])
    assert make_proposer(space, options("grid", n_trials=None), 1).total == 6
    assert make_proposer(space, options("grid", n_trials=4), 1).total == 4
    assert make_proposer(space, options("all", n_trials=99), 1).total == 6
    proposer = make_proposer(space, options("all", n_trials=None), 1)
    assert proposer.propose(3, [], 0).params == {"a": "2", "b": "5"}


def test_nothing_to_search() -> None:
    with pytest.raises(UserError, match="nothing to search"):
        make_proposer(parse_space(["a=1"]), options("tpe"), 1)
