"""The log of a training job in CloudWatch, read as it grows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from tabstep.errors import UserError
from tabstep.launch.s3.aws_errors import code, refusals
from tabstep.log_lines import parse_line

GROUP: Final = "/aws/sagemaker/TrainingJobs"
_TAIL: Final = 20


class JobLog:
    """Every call of ``epoch_lines`` reads what has come since the one before; ``tail`` are the last other lines.

    ``refused`` says why nothing can be read, once; a job is no worse for a log that may not be read.
    """

    def __init__(self, client: Any, job: str) -> None:
        self.refused = ""
        self._client, self._job = client, job
        self._tokens: dict[str, str] = {}
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._closed = False

    @property
    def tail(self) -> list[str]:
        """The last lines that tell no epoch."""
        return list(self._tail)

    def epoch_lines(self) -> Iterator[str]:
        """Yield new epoch lines, without what a launcher puts before them.

        Raises:
            RetryError: CloudWatch cannot be reached.
        """
        if self._closed:
            return
        try:
            for line in self._lines():
                if "epoch" in parse_line(line):
                    yield line[line.index("Epoch:") :].rstrip()
                elif line.strip():
                    self._tail.append(line.rstrip())
        except UserError as error:
            self.refused, self._closed = str(error), True

    def _lines(self) -> Iterator[str]:
        for stream in self._streams():
            token = self._tokens.get(stream)
            while True:
                with refusals(f"log {stream}"):
                    page = self._client.get_log_events(
                        logGroupName=GROUP,
                        logStreamName=stream,
                        startFromHead=True,
                        **({} if token is None else {"nextToken": token}),
                    )
                yield from (event["message"] for event in page["events"])
                self._tokens[stream] = page["nextForwardToken"]
                if page["nextForwardToken"] == token:
                    break
                token = page["nextForwardToken"]

    def _streams(self) -> list[str]:
        """Return the log of each instance; none while no instance has started."""
        from botocore.exceptions import ClientError

        with refusals(f"log of {self._job}"):
            try:
                answer = self._client.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{self._job}/")
            except ClientError as error:
                if code(error) == "ResourceNotFoundException":
                    return []
                raise
        return sorted(stream["logStreamName"] for stream in answer["logStreams"])
