"""A run in Weights & Biases, online or in files that ``wandb sync`` sends later."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from tabstep.tracking.tracker import Results, Row, Status, Tracker, unreachable
from tabstep.tracking.wandb_files import logged_rows

START_SECONDS: Final = 30.0
END_SECONDS: Final = 60.0
"""What is not sent by then stays in the files of the run: as delivered, the end waits for as long as it takes."""


class WandbTracker(Tracker):
    """One run of Weights & Biases, with its files below ``directory``."""

    name: ClassVar[str] = "wandb"
    package: ClassVar[str] = "wandb"

    def __init__(
        self,
        memory: Path,
        *,
        directory: Path,
        project: str,
        entity: str | None = None,
        run_name: str,
        group: str | None = None,
        mode: Literal["online", "offline"] | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__(memory)
        self._directory, self._project, self._entity = directory, project, entity
        self._run_name, self._group, self._mode, self._tags = run_name, group, mode, tags
        self.run_id = ""
        self._run: Any = None
        self._logged: set[int] = set()
        self._through = 0  # the last epoch that a server has

    def _reach(self) -> None:
        """Do nothing: a run that cannot begin says so before the training."""

    def _open(self) -> None:
        import wandb

        before = self.remembered()
        same = (before.get("project"), before.get("entity")) == (self._project, self._entity)
        self.run_id = before["run_id"] if same else secrets.token_hex(4)
        if not same:
            self.remember(run_id=self.run_id, project=self._project, entity=self._entity, kept=None)
        earlier = {int(row["epoch"]) for row in logged_rows(self._directory, self.run_id) if _is_epoch(row)}
        mode = self._mode or wandb.setup().settings.mode
        try:
            self._run = wandb.init(
                id=self.run_id,
                project=self._project,
                entity=self._entity,
                name=self._run_name,
                group=self._group,
                job_type=None if self._group is None else "trial",
                tags=list(self._tags),
                dir=str(self._directory),
                mode=mode,
                resume="allow" if mode == "online" else None,  # offline there is nobody to ask
                reinit="create_new",  # a run of the process that is none of ours goes on
                settings=wandb.Settings(init_timeout=START_SECONDS, finish_timeout=END_SECONDS, console="off"),
            )
        except Exception as error:  # wandb's own, and those of its service
            raise unreachable(self.key, "Weights & Biases", error) from error
        # a run that goes on may have another limit of epochs than before
        self._run.config.update(dict(self._parameters), allow_val_change=True)
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")
        # What a killed process has logged may never have left it: wandb's service writes every few seconds, and ends
        # without that when the process is killed. So the record is asked, not a note of ours beside it.
        self._logged = {int(self._run.summary.get("epoch") or 0)} if mode == "online" else earlier
        self._through = max(self._logged) if mode == "online" else 0

    def _add(self, history: Sequence[Row]) -> None:
        for row in history:
            epoch = int(row["epoch"])
            if epoch > self._through and epoch not in self._logged:
                self._run.log(dict(row))
                self._logged.add(epoch)

    def _log(self, metrics: Row, step: int) -> None:
        self._run.log({**metrics, "step": step})

    def _keep(self, results: Results) -> None:
        import wandb

        self._run.summary.update({**results.scores, "best_epoch": results.epoch})
        for name, path in results.artifacts.items():
            if not path.exists():
                continue
            artifact = wandb.Artifact(f"{self.run_id}-{name}", type="model" if path.is_dir() else "report")
            if path.is_dir():
                artifact.add_dir(str(path))
            else:
                artifact.add_file(str(path))
            self._run.log_artifact(artifact)

    def _end(self, status: Status) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)
        self._run = None


def _is_epoch(row: Mapping[str, Any]) -> bool:
    """Tell a row of an epoch from what a callback has logged, beside which wandb repeats the epoch before."""
    return "epoch" in row and "step" not in row
