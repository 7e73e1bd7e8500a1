"""Put as ``sitecustomize.py`` on a PYTHONPATH: each process that trains writes down what it trained, into $WATCH.

A file for each trial and rank: the CPU seconds from the end of the imports to the first batch, the learning rate that
the optimizer had, and a digest of the weights after the last step.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

found: dict[str, Any] = {}


class AfterImport(importlib.abc.MetaPathFinder):
    """Changes a module as soon as it is imported."""

    def __init__(self, name: str, change: Callable[[Any], None]) -> None:
        self.name, self.change = name, change
        sys.meta_path.insert(0, self)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            self.change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def watch_run(module: Any) -> None:
    run = module.run

    def watched(*args: Any) -> Any:
        found.clear()
        found["started"] = time.process_time()
        return run(*args)

    module.run = watched


def watch_batches(module: Any) -> None:
    step = module.Classifier.training_step

    def watched(self: Any, *args: Any) -> Any:
        found.setdefault("cpu_seconds", time.process_time() - found["started"])
        return step(self, *args)

    module.Classifier.training_step = watched


def watch_training(module: Any) -> None:
    train = module.train

    def watched(trainer: Any, classifier: Any, data: Any, checkpointer: Any, *args: Any) -> Any:
        reason = train(trainer, classifier, data, checkpointer, *args)
        state = classifier.state_dict()
        weights = b"".join(key.encode() + state[key].cpu().numpy().tobytes() for key in sorted(state))
        row = {
            "cpu_seconds": found["cpu_seconds"],
            "digest": hashlib.sha256(weights).hexdigest(),
            "lr": classifier.optimizers().param_groups[0]["lr"],
            "world_size": trainer.world_size,
        }
        trial = checkpointer.store.directory.parent.name
        Path(os.environ["WATCH"], f"{trial}-{trainer.global_rank}.json").write_text(json.dumps(row))
        return reason

    module.train = watched


AfterImport("tabstep.run.run", watch_run)
AfterImport("tabstep.training.classifier", watch_batches)
AfterImport("tabstep.training.fit", watch_training)
