"""The file that says that a run is finished: what its report hangs on, and a digest of everything that it left.

A directory that was damaged later, by a disk, by a copy that broke off or by hand, is no finished run: its results are
made again from the checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabstep.config.settings import PathSettings
from tabstep.run.export import Report
from tabstep.run_files import DONE, MODEL, PREDICTIONS, REPORT
from tabstep.system.atomic_write import file_digest, write_durably
from tabstep.system.cache import read_sealed, sealed


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
    """Return the report where all had been done before and every file is still whole; else None, and which is not.

    The name is empty where the run was not finished, or with other facts.
    """
    output = Path(paths.output_dir)
    try:
        done = json.loads(read_sealed(output / DONE))
    except FileNotFoundError:
        return None, ""
    except ValueError:  # a broken seal, or JSON that is none
        return None, DONE
    files: dict[str, str] = done["files"]
    if done["facts"] != dict(facts) or not files.keys() >= set(_results(splits)):
        return None, ""
    for name, digest in files.items():
        path = _place(paths, name)
        if not path.is_file() or file_digest(path) != digest:
            return None, name
    report: Report = json.loads((output / REPORT).read_text(encoding="utf-8"))
    return report, ""


def _results(splits: Sequence[str]) -> list[str]:
    return [REPORT, *(f"{PREDICTIONS}/{split}.parquet" for split in splits)]


def _place(paths: PathSettings, name: str) -> Path:
    top, _, rest = name.partition("/")
    return paths.model / rest if top == MODEL else Path(paths.output_dir) / name
