from __future__ import annotations

from typing import Any

import pytest
import torch

from tabstep.errors import UserError
from tabstep.system import devices
from tabstep.system.devices import resolve_machine


@pytest.fixture(params=[0, 2])
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine with so many GPUs, whose CPU has no arithmetic of 16 bits."""
    monkeypatch.setattr(devices, "has_bf16", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return int(request.param)


def test_auto_takes_what_is_there(gpus: int) -> None:
    machine = resolve_machine("auto", "auto", "16-mixed")
    expected = ("cuda", 2, "16-mixed", True) if gpus else ("cpu", 1, "32-true", False)
    assert (machine.accelerator, machine.devices, machine.precision, machine.scales_loss) == expected
    assert bool(machine.notes) == (not gpus)


def test_a_cpu_is_a_cpu_however_many_gpus_there_are(gpus: int) -> None:
    machine = resolve_machine("cpu", 3, "16-mixed")
    assert (machine.accelerator, machine.devices, machine.precision) == ("cpu", 3, "32-true")
    assert machine.notes == ("precision: 16-mixed becomes 32-true: this CPU has no arithmetic of 16 bits",)
    assert resolve_machine("cpu", 1, "32-true").notes == ()


def test_bfloat16_that_is_asked_for_is_taken(gpus: int) -> None:
    machine = resolve_machine("cpu", 1, "bf16-mixed")
    assert (machine.accelerator, machine.precision, machine.notes) == ("cpu", "bf16-mixed", ())


@pytest.mark.parametrize(("gain", "precision"), [(2.5, "bf16-mixed"), (1.25, "32-true")])
def test_a_cpu_that_has_bfloat16_is_measured(gain: float, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_bf16", lambda: True)
    monkeypatch.setattr(devices, "bf16_gain", lambda: gain)
    machine = resolve_machine("cpu", 1, "16-mixed")
    assert machine.precision == precision
    assert machine.notes == (
        f"precision: 16-mixed becomes {precision}: measured here, products of matrices in bfloat16 take "
        f"{1 / gain:.2f} of the time",
    )


@pytest.mark.parametrize(("rows", "precision"), [(255, "32-true"), (256, "bf16-mixed")])
def test_small_steps_gain_nothing_from_bfloat16(rows: int, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_bf16", lambda: True)
    monkeypatch.setattr(devices, "bf16_gain", lambda: 9.0)
    assert resolve_machine("cpu", 1, "16-mixed", rows=rows).precision == precision
    assert resolve_machine("cpu", 1, "bf16-mixed", rows=rows).precision == "bf16-mixed"


def test_a_measurement_is_a_ratio_and_is_made_once() -> None:
    assert devices.bf16_gain() > 0.0
    assert devices.bf16_gain() == devices.bf16_gain()
    assert isinstance(devices.has_bf16(), bool)


def test_what_is_not_there_is_refused(gpus: int) -> None:
    asked: tuple[Any, ...] = ("gpu", 3, "16-mixed")
    line = (
        r"trainer\.devices: 3 were asked for but torch sees 2" if gpus else r"trainer\.accelerator: gpu was asked for"
    )
    with pytest.raises(UserError, match=line):
        resolve_machine(*asked)
