from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.launch.conftest import JOB, client

from tabstep.launch.follow.job_log import JobLog
from tabstep.log_lines import epoch_line


def line(epoch: int) -> str:
    return epoch_line({"epoch": epoch, "train_loss": 1 / epoch, "val_loss": 0.5})


def test_several_instances_and_long_logs(log: Callable[..., None], aws: Any) -> None:
    log(*(f"noise {number}" for number in range(300)), line(1), host="algo-1")
    log("[1,mpirank:0] " + line(2), host="algo-2")
    found = JobLog(client("logs"), JOB)
    assert list(found.epoch_lines()) == [line(1), line(2)]
    assert list(found.epoch_lines()) == []
    log(line(3))
    assert list(found.epoch_lines()) == [line(3)]
    assert found.tail[-1] == "noise 299"


def test_a_job_without_an_instance_has_no_log_yet(aws: Any) -> None:
    found = JobLog(client("logs"), JOB)
    assert list(found.epoch_lines()) == []
    assert found.refused == ""
