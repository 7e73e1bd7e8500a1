"""The file that says that a run is finished: what its report hangs on, and a digest of everything that it left.

A directory that was damaged later, by a disk, by a copy that broke off or by hand, is no finished run: its results are
made again from the checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tabstep.config.settings import PathSettings
from tabstep.run.export import Report
from tabstep.run_files import DONE, MODEL, PREDICTIONS, REPORT
from tabstep.system.atomic_write import file_digest, write_durably
from tabstep.system.cache import read_sealed, sealed

_DAMAGED: Final = "of this finished run is damaged or missing"
_ASKED: Final = {"baselines", "decision", "export"}
"""Facts that are settings of the results alone."""


def mark_finished(paths: PathSettings, facts: Mapping[str, Any], splits: Sequence[str]) -> None:
    """Write the file, last of all.

    Args:
        facts: plain values that must be equal for the report to hold still.
        splits: those that have predictions.
    """
    model = sorted(path.relative_to(paths.model).as_posix() for path in paths.model.rglob("*") if path.is_file())
    names = [*_results(splits), *(f"{MODEL}/{name}" for name in model)]
    files = {name: file_digest(_place(paths, name)) for name in names}
    text = json.dumps({"facts": dict(facts), "files": files}, indent=1)
    write_durably(Path(paths.output_dir) / DONE, sealed(text))


def finished_report(paths: PathSettings, facts: Mapping[str, Any], splits: Sequence[str]) -> tuple[Report | None, str]:
    """Return the report where all had been done before and every file is still whole; else None, and why not.

    The reason is empty where the run was not finished, or has been trained on since.
    """
    output = Path(paths.output_dir)
    try:
        done = json.loads(read_sealed(output / DONE))
    except FileNotFoundError:
        return None, ""
    except ValueError:  # a broken seal, or JSON that is none
        return None, f"{DONE} {_DAMAGED}"
    files: dict[str, str] = done["files"]
    if done["facts"] != dict(facts):
        return None, _changed(done["facts"], facts)
    if not files.keys() >= set(_results(splits)):
        return None, ""
    for name, digest in files.items():
        path = _place(paths, name)
        if not path.is_file() or file_digest(path) != digest:
            return None, f"{name} {_DAMAGED}"
    report: Report = json.loads((output / REPORT).read_text(encoding="utf-8"))
    return report, ""


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say which setting of the results is another one, of a run whose training is the same.

    >>> _changed({"epochs": 3, "decision": "f1"}, {"epochs": 3, "decision": None})
    'decision was f1, and is null now'
    """
    differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if not differing or not set(differing) <= _ASKED:
        return ""
    key = differing[0]
    was, is_ = ("null" if each.get(key) is None else each[key] for each in (before, now))
    return f"{key} was {was}, and is {is_} now"


def _results(splits: Sequence[str]) -> list[str]:
    return [REPORT, *(f"{PREDICTIONS}/{split}.parquet" for split in splits)]


def _place(paths: PathSettings, name: str) -> Path:
    top, _, rest = name.partition("/")
    return paths.model / rest if top == MODEL else Path(paths.output_dir) / name
