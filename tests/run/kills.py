"""Kills a run at a named point, runs it again, and compares what it leaves with an uninterrupted run's.

Started by test_resume.py as a process of its own: it imports everything once and forks for each run, so that hundreds
of kills cost seconds. Prints one JSON object a case.

    python tests/run/kills.py DATA_PATH OUT_DIR [POINT ...] [KEY=VALUE ...]
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from hydra import compose, initialize_config_dir

from tabstep.artifact.serving_code import needed_modules
from tabstep.config.parse import parse
from tabstep.config.resolve import plain
from tabstep.entry import config_dir
from tabstep.run.run import run
from tabstep.training.checkpoint_store import CheckpointStore, load_state

# name: module, attribute path, whether the kill comes before or after the call
POINTS = {
    "batch": ("tabstep.training.classifier", "Classifier.training_step", "before"),
    "step": ("tabstep.training.classifier", "Classifier.optimizer_step", "after"),
    "save": ("tabstep.training.callbacks.when_to_save", "Checkpointer._save", "before"),
    "saved": ("tabstep.training.callbacks.when_to_save", "Checkpointer._save", "after"),
    "serialized": ("tabstep.training.checkpoint_store", "dump_state", "after"),
    "sync": ("os", "fsync", "before"),
    "synced": ("os", "fsync", "after"),
    "rename": ("os", "replace", "before"),
    "renamed": ("os", "replace", "after"),
    "best": ("tabstep.training.checkpoint_store", "CheckpointStore.mark_best", "before"),
    "link": ("os", "link", "after"),
    "prune": ("tabstep.training.checkpoint_store", "CheckpointStore.prune", "before"),
    "unlink": ("tabstep.training.checkpoint_store", "CheckpointStore.remove_checkpoint", "after"),
    "validation": ("tabstep.training.classifier", "Classifier.validation_step", "before"),
    "validated": ("tabstep.training.classifier", "Classifier.on_validation_epoch_end", "after"),
    "epoch": ("tabstep.training.classifier", "Classifier.on_train_epoch_end", "before"),
    "closed": ("tabstep.training.classifier", "Classifier.on_train_epoch_end", "after"),
    "export": ("tabstep.artifact.save", "save", "before"),
    "exported": ("tabstep.artifact.save", "save", "after"),
    "scored": ("tabstep.run.evaluation", "evaluate", "after"),
    "written": ("tabstep.artifact.save", "write_json", "after"),
}
OVERRIDES = [
    "schema.id=row_id",
    "schema.label=label",
    "data.batch_size=32",
    "data.eval_batch_size=32",
    "model.width=8",
    "model.depth=1",
    "model.num_bins=4",
    "model.embedding_dim=4",
    "scheduler=plateau",
    "scheduler.patience=0",
    "scheduler.monitor=train_loss",
    "callbacks.ema_decay=0.9",
    "callbacks.checkpoint.every_n_steps=1",
    "callbacks.checkpoint.every_seconds=null",
    "trainer.accumulate_grad_batches=2",
    "trainer.max_epochs=3",
    "trainer.log_interval=0",
    "trainer.precision=32-true",
    "report=none",
    "resume=auto",
]
TIMES = ("rows_per_s", "eta_s", "seconds")


def kill_at(point: str, call: int) -> None:
    """Make this process kill itself at the given call of a point."""
    module_name, path, when = POINTS[point]
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    real = getattr(owner, name)
    calls = 0

    def patched(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, patched)
    for module in list(sys.modules.values()):  # names that were imported from their module
        if getattr(module, "__name__", "").startswith("tabstep") and vars(module).get(name) is real:
            setattr(module, name, patched)


def forked(work: Callable[[], None], log: Path) -> int:
    """Run ``work`` in a fork and return its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 0
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        try:
            work()
        except BaseException:  # noqa: BLE001 - whatever it is, it must not run on in the fork
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def digest(output: Path) -> str:
    """Digest what a run leaves: weights, optimizer, history, predictions and scores, but no times."""
    if (output / "folds").is_dir():
        return digest_folds(output)
    with open(output / "metrics.csv", encoding="utf-8") as file:
        names, *lines = [line.rstrip("\n").split(",") for line in file]
    history = [[value for name, value in zip(names, line, strict=True) if name not in TIMES] for line in lines]
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    report.pop("seconds")
    last = load_state(CheckpointStore(output / "checkpoints").files("last")[0])
    parts = [
        (output / "model" / "model.safetensors").read_bytes(),
        repr(history).encode(),
        json.dumps(report).encode(),
        *(
            repr(pq.read_table(path).to_pydict()).encode()
            for path in sorted((output / "predictions").glob("*.parquet"))
        ),
        *tensor_bytes([last["state_dict"], last["optimizer_states"], last["schedule"]]),
    ]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def digest_folds(output: Path) -> str:
    """Digest what a cross-validation leaves: each of its folds, and what it has made of them."""
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    report.pop("seconds")
    files = [*(output / "model").rglob("*.safetensors"), *(output / "predictions").glob("*.parquet")]
    parts = [json.dumps(report).encode(), *(path.read_bytes() for path in sorted(files))]
    folds = [digest(path).encode() for path in sorted((output / "folds").iterdir())]
    return hashlib.sha256(b"".join([*parts, *folds])).hexdigest()


def tensor_bytes(value: Any) -> Iterator[bytes]:
    """Walk nested containers and yield every tensor's bytes and every other value's text."""
    if isinstance(value, torch.Tensor):
        yield value.numpy().tobytes()
    elif isinstance(value, dict | list | tuple):
        for item in value.items() if isinstance(value, dict) else value:
            yield from tensor_bytes(item)
    else:
        yield repr(value).encode()


def main(data: str, out: str, words: list[str]) -> None:
    points, more = ([word for word in words if ("=" in word) is given] for given in (False, True))
    torch.set_num_threads(1)
    root = Path(out)
    log = root / "log.txt"
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = plain(
            compose("train", overrides=[*OVERRIDES, *more, f"data.path={data}", f"paths.cache_dir={root / 'cache'}"])
        )

    def one_run(output: Path, *kill: Any) -> int:
        settings = parse({**config, "paths": {**config["paths"], "output_dir": str(output)}})

        def work() -> None:
            if kill:
                kill_at(*kill)
            run(settings, config)

        return forked(work, log)

    # kept, so that no fork looks for them again: half of a short run
    needed_modules("tabstep.serving.transform", f"tabstep.models.{config['model']['name']}")
    assert one_run(root / "whole") == 0, log.read_text()
    expected = digest(root / "whole")
    for point in points or POINTS:
        chance = random.Random(point)
        for call in range(1, 1000):
            output = root / f"{point}-{call}"
            first = one_run(output, point, call)
            if first == 0:
                break  # the run has fewer calls
            # Kill it a second time, at any point, then let it end.
            second = one_run(output, chance.choice(list(POINTS)), chance.randint(1, 6))
            last = one_run(output)
            print(
                json.dumps(
                    {
                        "point": point,
                        "call": call,
                        "codes": [first, second, last],
                        "equal": last == 0 and digest(output) == expected,
                    }
                ),
                flush=True,
            )
            shutil.rmtree(output)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
