"""A sweep without training: a stand-in for ``tabstep.run.run`` that writes the report a run would."""

from __future__ import annotations

import json
import math
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tabstep import entry
from tabstep.config.settings import Settings
from tabstep.sweep.ledger import PROGRESS, Ledger, read_sweep


def score(settings: Settings) -> float:
    """Best at lr 3e-3 and dropout 0.2."""
    lr, dropout = settings.optimizer.lr, getattr(settings.model, "dropout", 0.0)
    return 0.9 - 0.05 * abs(math.log10(lr / 3e-3)) - 0.3 * (dropout - 0.2) ** 2


@dataclass
class Runs:
    """Remembers the settings of each run; ``before`` may raise what a run would."""

    settings: list[Settings] = field(default_factory=list)
    before: Callable[[Settings, int], None] = lambda settings, number: None
    report: Callable[[Settings], dict[str, Any]] | None = None

    def run(self, settings: Settings, config: dict[str, Any], shown: set[str]) -> float:
        self.before(settings, len(self.settings))
        self.settings.append(settings)
        value = score(settings)
        output = Path(settings.paths.output_dir)
        report = {"val_auroc": value, "val_loss": 1 - value, "test_auroc": value - 0.01, "epochs": 2, "seconds": 1.5}
        report |= {"best_epoch": 2, "stop_reason": "trainer.max_epochs=2 reached"}
        report = self.report(settings) if self.report is not None else report
        (output / PROGRESS).write_text(json.dumps({"curve": [value - 0.1, value], "memory": {}}))
        (output / "report.json").write_text(json.dumps(report))
        return value


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_logging: None) -> Runs:
    found = Runs()
    module = types.ModuleType("tabstep.run.run")
    module.run = found.run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tabstep.run.run", module)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("tabstep.sweep.html_report.can_draw", lambda: False)  # seconds a sweep: test_plots.py has them
    return found


@pytest.fixture
def sweep(runs: Runs) -> Callable[..., int]:
    """Runs ``train.py -m … hydra.sweep.dir=s`` and returns its exit code."""

    def start(*overrides: str) -> int:
        return entry.main(["-m", "hydra.sweep.dir=s", *overrides])

    return start


@pytest.fixture
def ledger() -> Callable[[], Ledger]:
    """Reads the sweep in ``s``."""
    return lambda: read_sweep(Path("s"))
