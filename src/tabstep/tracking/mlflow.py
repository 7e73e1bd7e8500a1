"""A run in MLflow: on a server, in a database, in a directory, or in SageMaker's managed one."""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from tabstep.errors import UserError
from tabstep.tracking.tracker import Results, Row, Status, Tracker, unreachable

BATCH: Final = {"params": 100, "metrics": 1000, "tags": 100}
"""What one request may hold."""
LONGEST_KEY, LONGEST_VALUE = 250, 6000
PARENT: Final = "mlflow.parentRunId"
_KEY: Final = re.compile(r"[^\w. :/-]", re.ASCII)
_WAITS: Final = {
    # As delivered, MLflow tries for minutes before it gives up: an epoch is not held up by a server that is gone.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # Who names a directory wants one, which MLflow 3.7 and later refuse without this.
    "MLFLOW_ALLOW_FILE_STORE": "true",
}


class MlflowTracker(Tracker):
    """One run of MLflow.

    Args:
        parent: id of the run that it is a child of.
    """

    name: ClassVar[str] = "mlflow"
    package: ClassVar[str] = "mlflow"

    def __init__(
        self,
        memory: Path,
        *,
        tracking_uri: str | None,
        experiment: str,
        run_name: str,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(memory)
        self.tracking_uri = tracking_uri
        self.run_id = ""
        self._experiment, self._run_name = experiment, run_name
        self._tags = {**(tags or {}), **({} if parent is None else {PARENT: parent})}
        self._logged: set[tuple[str, int]] = set()
        self._client: Any = None

    @property
    def place(self) -> str:
        """Run, experiment and store."""
        return f"run {self.run_id} of experiment {self._experiment} at {self.tracking_uri}" if self.run_id else ""

    def _reach(self) -> None:
        where = self.tracking_uri
        if where is not None and where.startswith("arn:") and importlib.util.find_spec("sagemaker_mlflow") is None:
            raise UserError(
                f"{self.key}.tracking_uri: SageMaker's MLflow needs the package sagemaker-mlflow: "
                "pip install sagemaker-mlflow"
            )
        import mlflow

        self.tracking_uri = where or mlflow.get_tracking_uri()
        try:
            with _short_waits():
                self._client = mlflow.MlflowClient(self.tracking_uri)
                self._client.search_experiments(max_results=1)
        except Exception as error:  # mlflow raises its own, and those of the store below it
            raise unreachable(f"{self.key}.tracking_uri", self.tracking_uri, error) from error

    def _open(self) -> None:
        with _short_waits():
            run = self._earlier()
            if run is None:
                run = self._client.create_run(self._experiment_id(), run_name=self._run_name, tags=dict(self._tags))
                where = {"tracking_uri": self.tracking_uri, "experiment": self._experiment, "kept": None}
                # at once: whatever ends this process, the next one goes on in the same run
                self.remember(run_id=run.info.run_id, **where)
            self.run_id = run.info.run_id
            # an earlier process may have ended it
            self._client.update_run(self.run_id, status="RUNNING")
            self._send_parameters(run.data.params)
            # the server alone knows what a killed process has sent
            self._logged = {
                (key, each.step)
                for key in run.data.metrics
                for each in self._client.get_metric_history(self.run_id, key)
            }

    def _earlier(self) -> Any:
        """Return the run that an earlier process began, None where there is none that can go on."""
        from mlflow.exceptions import MlflowException

        before = self.remembered()
        if (before.get("tracking_uri"), before.get("experiment")) != (self.tracking_uri, self._experiment):
            return None
        try:
            run = self._client.get_run(before["run_id"])
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            try:
                return str(self._client.create_experiment(self._experiment, artifact_location(self.tracking_uri)))
            except MlflowException:  # another run of the same minute was first
                found = self._client.get_experiment_by_name(self._experiment)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise UserError(f"{self.key}.experiment: {self._experiment!r} was deleted: restore it, or name another")
        return str(found.experiment_id)

    def _send_parameters(self, there: Mapping[str, str]) -> None:
        """Log parameters; one that a resumed run has changed becomes a tag, for MLflow lets none be changed."""
        from mlflow.entities import Param, RunTag

        own = flattened(self._parameters)
        new = [Param(key, value) for key, value in own.items() if key not in there]
        changed = {f"resumed.{key}": value for key, value in own.items() if there.get(key, value) != value}
        tags = [RunTag(key, value) for key, value in {**self._tags, **changed}.items()]
        self._send("params", new)
        self._send("tags", tags)

    def _add(self, history: Sequence[Row]) -> None:
        with _short_waits():
            self._send_metrics(
                (key, value, int(row["epoch"])) for row in history for key, value in row.items() if key != "epoch"
            )

    def _log(self, metrics: Row, step: int) -> None:
        with _short_waits():
            self._send_metrics((key, float(value), step) for key, value in metrics.items())

    def _send_metrics(self, found: Iterable[tuple[str, float, int]]) -> None:
        """Log the values that are not there: MLflow would keep another beside one of the same name and step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        values = ((_KEY.sub("_", key), value, step) for key, value, step in found)
        new = [Metric(key, value, now, step) for key, value, step in values if (key, step) not in self._logged]
        self._send("metrics", new)
        self._logged |= {(each.key, each.step) for each in new}

    def _send(self, kind: str, items: Sequence[Any]) -> None:
        for first in range(0, len(items), BATCH[kind]):
            self._client.log_batch(self.run_id, **{kind: items[first : first + BATCH[kind]]})

    def _keep(self, results: Results) -> None:
        with _short_waits():
            self._send_metrics((key, value, results.epoch) for key, value in results.scores.items())
            for name, path in results.artifacts.items():
                if path.is_dir():
                    self._client.log_artifacts(self.run_id, str(path), name)
                elif path.is_file():
                    self._client.log_artifact(self.run_id, str(path))

    def _end(self, status: Status) -> None:
        with _short_waits():
            self._client.set_terminated(self.run_id, status.upper())


def flattened(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested parameters as MLflow takes them: dotted keys of its letters, texts of bounded length.

    >>> flattened({"model": {"name": "mlp", "width": 8}, "schema": {"parse": {"größe": "comma"}, "drop": []}})
    {'model.name': 'mlp', 'model.width': '8', 'schema.parse.gr__e': 'comma', 'schema.drop': '[]'}
    """
    found: dict[str, str] = {}
    for key, value in parameters.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= flattened(value, f"{name}.")
        else:
            found[_KEY.sub("_", name)[:LONGEST_KEY]] = str(value)[:LONGEST_VALUE]
    return found


def artifact_location(tracking_uri: str | None) -> str | None:
    """Return where a new experiment keeps its artifacts: beside a SQLite file, which knows of no place of its own.

    >>> artifact_location("sqlite:////home/me/runs.db"), artifact_location("http://127.0.0.1:5000")
    ('file:///home/me/mlartifacts', None)
    """
    scheme, found, path = (tracking_uri or "").partition(":///")
    return Path(path).absolute().with_name("mlartifacts").as_uri() if found and scheme.startswith("sqlite") else None


@contextmanager
def _short_waits() -> Iterator[None]:
    """Let MLflow's client give up soon, unless the environment says how long it tries: it reads that there alone."""
    own = {name: value for name, value in _WAITS.items() if name not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)
