"""Polls what runs on the service until it has ended; whatever stops the polling before says how to come back."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from tabstep.config.settings import PathSettings, Settings
from tabstep.errors import RetryError, StoppedError, UserError
from tabstep.launch.archives import objective
from tabstep.launch.request import sdk
from tabstep.launch.s3.aws_errors import CredentialsError
from tabstep.launch.s3.download import download

ENDED: Final = ("Completed", "Failed", "Stopped")
THEIR_FAULT: Final = ("CapacityError", "InternalServerError")
"""Beginnings of the reasons of a job that failed by no fault of its own."""
_FAILURES: Final = 60

Show = Callable[[str], None]
Sleep = Callable[[float], None]
print_line: Final[Show] = partial(print, flush=True)  # at once: a person waits for it


def attach(settings: Settings, follow: Callable[[str, Any, Settings], float | None]) -> float | None:
    """Follow ``launch.attach`` from its beginning to its end.

    Args:
        follow: is given its name, a session of boto3 and the settings.
    """
    remote = settings.remote
    assert remote.attach is not None
    region = remote.region or sdk.configured_region()
    if not region:
        raise UserError(f"launch.region: is missing: set it to the region that {remote.attach} runs in")
    return follow(remote.attach, sdk.boto_session(region), settings)


def attach_command(name: str, region: str, *more: str) -> str:
    """Return the command that follows a job from its beginning, or fetches what it left."""
    return " ".join(["python train.py launch=sagemaker", *more, f"launch.attach={name} launch.region={region}"])


def until_ended(
    look: Callable[[], Mapping[str, Any] | None],
    hints: Callable[[], str],
    *,
    seconds: float,
    show: Show,
    sleep: Sleep,
) -> Mapping[str, Any]:
    """Look again and again until there is a description of what has ended.

    Args:
        look: asks the service once and shows what is new; returns None while it runs.
        hints: says that it runs on, and how to come back to it.

    Raises:
        UserError: AWS refuses to tell.
        RetryError: the service is out of reach for minutes, or the credentials have expired.
        StoppedError: Ctrl-C.
    """
    failures = 0
    with coming_back(hints):
        while True:
            try:
                description = look()
            except RetryError as error:
                failures += 1
                if failures == 1:
                    show(f"{error}; {hints().splitlines()[0]}")
                if failures > _FAILURES:
                    raise
            else:
                failures = 0
                if description is not None:
                    return description
            sleep(seconds)


@contextmanager
def coming_back(hints: Callable[[], str]) -> Iterator[None]:
    """Say how to come back when this machine can go on no longer: the job is as it was, and must not be sent again.

    A wrapper that took the end of the command for the end of the job would pay twice.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(hints(), signal.SIGINT) from None
    except (CredentialsError, RetryError) as error:
        raise RetryError(f"{error}\n{hints()}") from error


def fetch(description: Mapping[str, Any], session: Any, paths: PathSettings, score: str, show: Show) -> float | None:
    """Fetch the artifact of a job by DescribeTrainingJob's answer; return a score of its report where it has one."""
    artifact, output = description["ModelArtifacts"]["S3ModelArtifacts"], Path(paths.output_dir)
    download(artifact, sdk.client(session, "s3"), output, paths.model, show)
    return objective(output, score)
