from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ray.train")

from tabstep.errors import RetryError, UserError
from tabstep.launch.ray.loop import Failures, RankConfig, cause


class WrappedError(Exception):
    """As Ray brings back what a worker's code raised."""

    def __init__(self, inner: Exception) -> None:
        super().__init__("a traceback")
        self._base_exc = inner


def test_a_mistake_of_a_person_ends_the_run(tmp_path: Path) -> None:
    found = {0: RetryError("the disk is full"), 1: WrappedError(UserError("data.train: is empty"))}
    with pytest.raises(UserError, match=r"^data.train: is empty$"):
        Failures(tmp_path).after_exception(None, found)


def test_what_may_pass_is_told_and_tried_again(tmp_path: Path) -> None:
    Failures(tmp_path).after_exception(None, {1: WrappedError(RetryError("the disk is full\nmore")), 0: OSError()})
    lines = (tmp_path / "errors.log").read_text().splitlines()
    assert lines == [
        "launch=ray: rank 0: OSError: no reason is given",
        "launch=ray: rank 1: RetryError: the disk is full",
    ]


def test_ray_itself_wraps_what_a_worker_raised() -> None:
    from ray.train.v2._internal.util import construct_user_exception_with_traceback

    error = UserError("no")
    assert cause(construct_user_exception_with_traceback(error)) is error
    assert cause(error) is error


def test_workers_see_the_gpus_of_their_machine() -> None:
    assert RankConfig().backend_cls.share_cuda_visible_devices
