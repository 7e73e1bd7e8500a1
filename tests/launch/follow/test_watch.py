"""What stops this machine from following a job is never the end of the job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tabstep.errors import EXIT_RETRY, RetryError, StoppedError, UserError
from tabstep.launch.follow.watch import attach_command, coming_back, until_ended
from tabstep.launch.s3.aws_errors import CredentialsError

LOST = RetryError("AWS cannot be reached: try again")


def looking(answers: Sequence[Any]) -> Callable[[], Any]:
    left = list(answers)

    def look() -> Any:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return look


def watch(answers: Sequence[Any]) -> tuple[Any, list[str], list[float]]:
    said: list[str] = []
    slept: list[float] = []
    look = looking(answers)
    ended = until_ended(look, lambda: "job a runs on\n  hint", seconds=7.0, show=said.append, sleep=slept.append)
    return ended, said, slept


def test_it_looks_until_there_is_an_end() -> None:
    assert watch([None, None, {"a": 1}]) == ({"a": 1}, [], [7.0, 7.0])


def test_each_loss_of_the_connection_is_told_once() -> None:
    _, said, slept = watch([LOST, LOST, None, LOST, {}])
    assert said == ["AWS cannot be reached: try again; job a runs on"] * 2
    assert len(slept) == 4


def test_a_connection_that_stays_lost_is_an_end_with_the_way_back() -> None:
    with pytest.raises(RetryError, match=r"(?s)^AWS cannot be reached: try again\njob a runs on\n  hint$"):
        watch([LOST])


@pytest.mark.parametrize(
    ("error", "kind", "exit_code", "text"),
    [
        (KeyboardInterrupt(), StoppedError, 130, "job a runs on"),
        (CredentialsError("expired"), RetryError, EXIT_RETRY, "expired\njob a runs on"),
        (LOST, RetryError, EXIT_RETRY, "AWS cannot be reached: try again\njob a runs on"),
        (UserError("no such job"), UserError, 2, "no such job"),
    ],
)
def test_what_stops_it(error: BaseException, kind: type[Any], exit_code: int, text: str) -> None:
    with pytest.raises(kind) as caught, coming_back(lambda: "job a runs on"):
        raise error
    assert (str(caught.value), caught.value.exit_code) == (text, exit_code)


def test_the_command_that_comes_back() -> None:
    command = "python train.py launch=sagemaker launch.tuner=true launch.attach=t launch.region=eu-west-1"
    assert attach_command("t", "eu-west-1", "launch.tuner=true") == command
