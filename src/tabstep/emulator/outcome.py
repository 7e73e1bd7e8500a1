"""What the service would have shown of a job: its status, its metrics as the regexes find them, and its artifacts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from tabstep.log_lines import METRIC_NAMES, number

Status = Literal["Completed", "Failed", "Stopped"]
MAX_EVENT = 256 * 1024  # bytes of a line in CloudWatch


@dataclass(kw_only=True)
class Outcome:
    """A job that has ended.

    Attributes:
        stages: secondary status and its seconds, in order.
        log: every line that its hosts printed.
        places: what was put where on S3: address and the file on this machine that stands for it.
    """

    request: Mapping[str, Any]
    status: Status = "Completed"
    failure: str = ""
    exit_codes: dict[str, int] = field(default_factory=dict)
    stages: list[tuple[str, float]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    channels: dict[str, Sequence[Path]] = field(default_factory=dict)
    checkpoints: Sequence[Path] = ()
    places: dict[str, Path] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, list[float]]:
        """Values of each metric definition, as the service reads them from the log."""
        definitions = self.request["AlgorithmSpecification"].get("MetricDefinitions", ())
        regexes = {metric["Name"]: re.compile(metric["Regex"]) for metric in definitions}
        return {
            name: [float(match[1]) for line in self.log if (match := regex.search(line))]
            for name, regex in regexes.items()
        }

    def remarks(self) -> list[str]:
        """Say what the service would have shown badly."""
        values = self.metrics
        unread = [name for name in METRIC_NAMES.values() if not values.get(name) and self.status == "Completed"]
        remarks = [f"metric {name!r}: its regex finds nothing in the log" for name in unread]
        if any("\r" in line for line in self.log):
            remarks.append("the log has carriage returns: the service shows all of such a line's versions in one")
        if any(len(line.encode()) > MAX_EVENT for line in self.log):
            remarks.append(f"the log has a line of more than {MAX_EVENT:,} bytes: the service cuts it")
        return remarks

    def table(self) -> Table:
        """Return all of it for a person."""
        title = f"{self.request['TrainingJobName']}, as the service would have shown it"
        table = Table(title=title, title_justify="left")
        table.add_column("")
        table.add_column("", overflow="fold")
        for name, text in self._rows():
            table.add_row(name, text)
        return table

    def _rows(self) -> Iterator[tuple[str, str]]:
        resources, algorithm = self.request["ResourceConfig"], self.request["AlgorithmSpecification"]
        stages = ", ".join(f"{name} {seconds:.1f} s" if seconds else name for name, seconds in self.stages)
        yield "status", f"{self.status} ({stages})"
        yield "exit code", ", ".join(f"{name} {code}" for name, code in self.exit_codes.items())
        if self.failure:
            yield "failure reason", self.failure
        yield "instances", f"{resources['InstanceCount']} x {resources['InstanceType']} (here: this machine)"
        yield "image", f"{algorithm.get('TrainingImage', '')} (here: this Python)"
        yield "hyperparameters", f"{len(self.request.get('HyperParameters', {}))} of 100"
        for name, files in self.channels.items():
            yield f"channel {name}", f"{len(files)} file{'s' * (len(files) != 1)}, {_bytes(files)}"
        for name, values in self.metrics.items():
            yield name, f"{len(values)} values, the last {number(values[-1])}" if values else "no value"
        for address, file in self.places.items():
            yield Path(address).name, f"{address}, {_bytes([file])}"
        if config := self.request.get("CheckpointConfig"):
            yield "checkpoints", f"{config['S3Uri']}, {len(self.checkpoints)} files, {_bytes(self.checkpoints)}"
        yield "log", f"{len(self.log):,} lines"


def _bytes(files: Sequence[Path]) -> str:
    size = float(sum(file.stat().st_size for file in files))
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
