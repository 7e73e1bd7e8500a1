"""Trains from the cache with a limit on what this process may take beyond itself, and tells what it took.

Started by test_in_memory.py as a process of its own. Prints one JSON object.

    python tests/run/limited.py DATA_PATH OUT_DIR MEGABYTES [KEY=VALUE ...]     0 MB is no limit
"""

from __future__ import annotations

import hashlib
import json
import re
import resource
import sys
import threading
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from tabstep.config.parse import parse
from tabstep.config.resolve import plain
from tabstep.config.settings import Settings
from tabstep.entry import config_dir
from tabstep.run import build, build_scores
from tabstep.run.prepare import prepare
from tabstep.system.devices import resolve_machine
from tabstep.system.ranks import Ranks
from tabstep.training import scores
from tabstep.training.fit import train

build_scores.EXACT_ROWS, scores.FLUSH_ROWS = 10_000, 8_192
"""As for a table of more than 10 million rows, whose scores are counted in bins."""


def kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1])


def trained(settings: Settings) -> tuple[str, float, dict[str, float]]:
    """Return a digest of the weights, the seconds of training and the last row of the history."""
    prepared = prepare(
        settings.data,
        settings.schema,
        seed=settings.seed,
        cache_dir=Path(settings.paths.cache_dir),
        show=lambda line: print(line, file=sys.stderr),
    )
    machine = resolve_machine("cpu", 1, "32-true")
    built = build.assemble(settings, prepared, machine, Ranks())
    started = time.perf_counter()
    train(built.trainer, built.classifier, built.data, built.checkpointer)
    seconds = time.perf_counter() - started
    weights = b"".join(value.numpy().tobytes() for value in built.classifier.model.state_dict().values())
    return hashlib.sha256(weights).hexdigest(), seconds, built.classifier.progress.history[-1]


def main(data: str, out: str, megabytes: int, words: list[str]) -> None:
    torch.set_num_threads(1)
    threading.stack_size(2**20)  # the limit counts what a stack might take

    def settings(*more: str) -> Settings:
        fixed = [f"paths.output_dir={out}", f"paths.cache_dir={Path(data) / 'cache'}", "trainer.log_interval=0"]
        return parse(plain(compose("train", overrides=[*fixed, *more])))

    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        warm = settings(
            "data.builtin_rows=2000", "data.in_memory=false", "trainer.max_epochs=1", f"paths.output_dir={out}/warm"
        )
        wanted = settings(f"data.path={data}", "data.checks=off", *words)
    trained(warm)  # what is loaded at the first use is no part of what a table takes
    before, highest, over = kilobytes("RssAnon"), 0, threading.Event()
    if megabytes:
        resource.setrlimit(resource.RLIMIT_DATA, (kilobytes("VmData") * 1024 + megabytes * 2**20,) * 2)

    def watch() -> None:
        nonlocal highest
        while not over.wait(0.02):
            highest = max(highest, kilobytes("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        weights, seconds, row = trained(wanted)
    finally:
        over.set()
        watcher.join()
    print(
        json.dumps(
            {"weights": weights, "seconds": seconds, "taken_mb": (highest - before) / 1024, "auroc": row["val_auroc"]}
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
