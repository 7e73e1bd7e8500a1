from __future__ import annotations

from typing import Any

import pytest
import torch

from tabstep.errors import UserError
from tabstep.system.devices import resolve_machine


@pytest.fixture(params=[0, 2])
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine with so many GPUs."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return int(request.param)


def test_auto_takes_what_is_there(gpus: int) -> None:
    machine = resolve_machine("auto", "auto", "16-mixed")
    expected = ("cuda", 2, "16-mixed", True) if gpus else ("cpu", 1, "32-true", False)
    assert (machine.accelerator, machine.devices, machine.precision, machine.scales_loss) == expected
    assert bool(machine.notes) == (not gpus)


def test_a_cpu_is_a_cpu_however_many_gpus_there_are(gpus: int) -> None:
    machine = resolve_machine("cpu", 3, "bf16-mixed")
    assert (machine.accelerator, machine.devices, machine.precision) == ("cpu", 3, "32-true")
    assert machine.notes == (
        "precision: bf16-mixed becomes 32-true: on CPU mixed precision costs time and gains nothing",
    )
    assert resolve_machine("cpu", 1, "32-true").notes == ()


def test_what_is_not_there_is_refused(gpus: int) -> None:
    asked: tuple[Any, ...] = ("gpu", 3, "16-mixed")
    line = (
        r"trainer\.devices: 3 were asked for but torch sees 2" if gpus else r"trainer\.accelerator: gpu was asked for"
    )
    with pytest.raises(UserError, match=line):
        resolve_machine(*asked)
