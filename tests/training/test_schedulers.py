from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

from tabstep.errors import UserError
from tabstep.training.schedulers import build_scheduler

TOTAL, PER_EPOCH = 60, 12
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "cosine": {"warmup": 0.1, "final_ratio": 0.05},
    "step": {"step_epochs": 2, "gamma": 0.3},
    "one_cycle": {"warmup": 0.3, "start_ratio": 0.04, "final_ratio": 1e-4},
}


def optimizer(lr: float = 0.5) -> Optimizer:
    return SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def build(name: str, built: Optimizer, **changes: Any) -> LRScheduler:
    options = OPTIONS[name] | changes
    return build_scheduler(name, built, max_epochs=TOTAL // PER_EPOCH, steps_per_epoch=PER_EPOCH, **options)


def rates(scheduler: LRScheduler, steps: int = TOTAL) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_cosine_equals_torchs_own() -> None:
    expected = rates(CosineAnnealingLR(optimizer(), TOTAL, eta_min=0.5 * 0.05))
    assert rates(build("cosine", optimizer(), warmup=0.0)) == pytest.approx(expected, abs=1e-9)


def test_warmup_rises_linearly_to_the_full_rate() -> None:
    found = rates(build("cosine", optimizer()))
    assert found[:6] == pytest.approx([0.5 * step / 6 for step in range(1, 7)])
    assert max(found) == 0.5


def test_one_cycle_equals_torchs_own() -> None:
    options: dict[str, Any] = {"pct_start": 0.3, "div_factor": 25.0, "final_div_factor": 0.04 / 1e-4}
    oracle = OneCycleLR(optimizer(), max_lr=0.5, total_steps=TOTAL, cycle_momentum=False, **options)
    assert rates(build("one_cycle", optimizer()), TOTAL - 1) == pytest.approx(rates(oracle, TOTAL - 1), abs=1e-9)


def test_step_equals_torchs_own_stepped_by_epoch() -> None:
    oracle = rates(StepLR(optimizer(), step_size=2, gamma=0.3), TOTAL // PER_EPOCH)
    expected = [rate for rate in oracle for _ in range(PER_EPOCH)]
    assert rates(build("step", optimizer())) == pytest.approx(expected)


def test_none_keeps_the_rate() -> None:
    assert set(rates(build("none", optimizer()))) == {0.5}


@pytest.mark.parametrize("name", ["none", "cosine", "step", "one_cycle"])
def test_more_steps_than_planned_are_no_error(name: str) -> None:
    found = rates(build(name, optimizer()), 2 * TOTAL)
    assert all(0.0 <= rate <= 0.5 for rate in found)
    assert found[-1] <= found[TOTAL - 1]


@pytest.mark.parametrize("name", ["none", "cosine", "step", "one_cycle"])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_few_steps_in_all(name: str, total: int) -> None:
    scheduler = build_scheduler(name, optimizer(), max_epochs=total, steps_per_epoch=1, **OPTIONS[name])
    assert all(0.0 <= rate <= 0.5 for rate in rates(scheduler, total))


@pytest.mark.parametrize("name", ["none", "cosine", "step", "one_cycle"])
def test_a_restored_schedule_goes_on_the_same(name: str) -> None:
    expected = rates(build(name, optimizer()))
    first = build(name, optimizer())
    rates(first, 23)
    state, weights = copy.deepcopy(first.state_dict()), copy.deepcopy(first.optimizer.state_dict())
    assert all(not callable(value) for value in state.values())
    second = build(name, optimizer())
    second.optimizer.load_state_dict(weights)
    second.load_state_dict(state)
    assert rates(second, TOTAL - 23) == expected[23:]


def test_plateau_lowers_the_rate_once_patience_is_over() -> None:
    built = optimizer()
    options: dict[str, Any] = {"monitor": "val_loss", "factor": 0.1, "patience": 1, "min_lr": 0.01}
    scheduler = build_scheduler("plateau", built, max_epochs=None, steps_per_epoch=PER_EPOCH, **options)
    assert isinstance(scheduler, ReduceLROnPlateau)
    found = []
    for loss in [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]:
        scheduler.step(loss)
        found.append(built.param_groups[0]["lr"])
    assert found == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.01, 0.01])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"scheduler\.name: no scheduler is called 'cosin'; did you mean 'cosine'\?"):
        build_scheduler("cosin", optimizer(), max_epochs=1, steps_per_epoch=1)
