from __future__ import annotations

from typing import Any

import pytest

from tabstep.errors import ProblemsError
from tabstep.sweep.options import OBJECTIVES, PRUNERS, SAMPLERS, default_direction, parse_options

RAW: dict[str, Any] = {
    "sampler": "tpe", "pruner": "none", "n_trials": 5, "timeout": None, "max_failures": None, "seed": None,
    "storage": None, "retry_failed": False, "objectives": None, "directions": None,
}  # fmt: skip


def parse(**changes: Any) -> Any:
    return parse_options({**RAW, **changes}, objective="val_auroc", seed=42)


def test_defaults_are_those_of_the_run() -> None:
    found = parse()
    assert (found.objectives, found.directions, found.seed, found.sampler) == (("val_auroc",), ("maximize",), 42, "tpe")
    assert parse(sampler=None, n_trials=None).sampler == "all"
    assert (parse(seed=0).seed, parse(objectives=["val_loss"]).directions) == (0, ("minimize",))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("pruner", PRUNERS)
def test_names(sampler: str, pruner: str) -> None:
    assert parse(sampler=sampler, pruner=pruner).sampler == sampler
    assert parse(sampler=sampler).searches == (sampler in ("tpe", "cmaes", "nsgaii"))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_directions(objective: str) -> None:
    expected = (
        "minimize" if objective in ("train_loss", "val_loss", "val_log_loss", "seconds", "epochs") else "maximize"
    )
    assert default_direction(objective) == expected
    assert parse(objectives=[objective]).directions == (expected,)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"sampler": "grd"}, ["sampler: no such sampler, 'grd': did you mean 'grid'?"]),
        ({"sampler": "cmaes", "objectives": ["val_f1", "seconds"]}, ["sampler: cmaes follows one objective"]),
        ({"pruner": "median", "objectives": ["val_f1", "epochs"]}, ["pruner: median compares trials by one objective"]),
        ({"pruner": "median", "objectives": ["seconds"]}, ["pruner: median looks at each epoch, but seconds is known"]),
        ({"objectives": ["val_f1", "val_f1"]}, ["objectives: one stands twice in val_f1, val_f1"]),
        ({"objectives": ["val_f1", "epochs", "seconds"]}, ["objectives: expected one or two, got 3"]),
        ({"directions": ["up"]}, ["directions: expected maximize or minimize, got 'up'"]),
        ({"directions": ["minimize"]}, ["directions: minimize val_auroc: the best checkpoint of a run is chosen"]),
        ({"directions": ["maximize", "minimize"]}, ["directions: 2 directions for 1 objectives (val_auroc)"]),
        ({"n_trials": None}, ["n_trials: is missing: a search by tpe has no end of its own"]),
        ({"timeout": 0.0}, ["timeout: expected seconds > 0, got 0.0"]),
        (
            {"n_trials": -1, "max_failures": -1, "seed": -1, "pruner": "x"},
            ["pruner: no such", "n_trials: expected", "max_failures: expected", "seed: expected"],
        ),
    ],
)
def test_every_mistake_is_a_line(changes: dict[str, Any], lines: list[str]) -> None:
    with pytest.raises(ProblemsError) as error:
        parse(**changes)
    assert len(error.value.problems) == len(lines)
    for problem, line in zip(error.value.problems, lines, strict=True):
        assert problem.startswith(f"hydra.sweeper.{line}")
