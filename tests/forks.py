"""Runs commands of tabstep, each in a fork of one process that has imported everything, so that a run costs no import.

Started by commands.py. Reads one JSON object a line and answers each with one: the exit code, negative for a
signal, what the command wrote, and its peak memory.

    {"program": "train" | "tabstep", "argv": [...], "cwd": "...", "environ": {...}, "fault": null | {point, call, do}}
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

import tabstep.cli
import tabstep.entry
import tabstep.run.run
from tabstep.artifact.serving_code import needed_modules
from tabstep.config.compose import composed
from tabstep.page.pictures import axes, styled, to_svg
from tests.hydra_files import read_once


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def mounted(source: Any, *_: Any) -> None:
    if os.path.basename(source) == "model":
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def failing(name: str) -> Callable[..., None]:
    """Return what fails as a system call does with the error of that name."""
    number = int(getattr(errno, name))

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


ACTIONS: dict[str, Callable[..., None]] = {
    "SIGTERM": lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM),
    "SIGINT": lambda *_, **__: os.kill(os.getpid(), signal.SIGINT),
    "SIGKILL": lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL),
    "ENOSPC": no_space,
    "MOUNTED": mounted,
}


def inject(point: str, call: int, do: str) -> None:
    """Act right before the given call, counted from 1, of a function or method; 0 is every call."""
    module_name, _, path = point.partition(":")
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    real = getattr(owner, name)
    calls = 0

    def patched(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if call in (0, calls):
            (ACTIONS.get(do) or failing(do))(*args, **kwargs)
        return real(*args, **kwargs)

    setattr(owner, name, patched)
    for module in list(sys.modules.values()):  # names that were imported from their module
        if getattr(module, "__name__", "").startswith("tabstep") and vars(module).get(name) is real:
            setattr(module, name, patched)


def work(request: dict[str, Any]) -> int:
    """Do what a request asks for and return the exit code."""
    os.chdir(request["cwd"])
    os.environ.update(request["environ"])
    if request["fault"] is not None:
        inject(**request["fault"])
    main: Callable[[list[str]], int] = tabstep.entry.main if request["program"] == "train" else tabstep.cli.main
    return main(request["argv"])


@contextmanager
def redirected(descriptor: int) -> Iterator[Any]:
    """Let what is written to a descriptor go to a file."""
    with tempfile.TemporaryFile() as file:
        before = os.dup(descriptor)
        os.dup2(file.fileno(), descriptor)
        try:
            yield file
        finally:
            os.dup2(before, descriptor)
            os.close(before)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, wait and collect."""
    with redirected(1) as out, redirected(2) as err:
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = work(request)
            finally:
                if code == 70:
                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status, usage = os.wait4(pid, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "out": texts[0], "err": texts[1], "peak_mb": usage.ru_maxrss // 1024}


if __name__ == "__main__":
    assert tabstep.run.run  # imported late by a command, and before the fork here
    torch.set_num_threads(1)
    read_once()
    with styled():
        to_svg(axes()[0], "")  # fonts and parsers of matplotlib: a third of a run with a page
    # Hydra's own imports and grammar: a fifth of a short run
    model = composed(["seed=1"], [tabstep.entry.config_dir()])["model"]["name"]
    importlib.import_module(f"tabstep.models.{model}")
    needed_modules("tabstep.serving.transform", f"tabstep.models.{model}")  # kept: half of a short run
    for line in sys.stdin:
        result = json.dumps(answer(json.loads(line)))
        sys.stdout.write(result + "\n")
        sys.stdout.flush()
    os._exit(0)  # taking down what was imported costs as long as a command
