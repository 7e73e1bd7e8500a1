"""Rules of the keys below ``data``, and of what they have to do with others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from tabstep.config.settings import DataSettings, LaunchSettings, PathSettings, RemoteSettings
from tabstep.registry import PluginSettings

Rule = tuple[tuple[str, ...], Callable[..., Iterator[str]]]
"""The groups that a rule looks at, and what yields a line for each way in which it is broken."""


def _locations(data: DataSettings) -> Iterator[str]:
    if data.path is not None and data.train is not None:
        yield "data.path, data.train: both name the train split: set one of them to null"
    if data.path is None and data.train is None:
        for key in ("val", "test"):
            if getattr(data, key) is not None:
                yield f"data.{key}: is set, but there is no train split: set data.train or data.path"
    for key in ("path", "train", "val", "test"):
        if getattr(data, key) == "":
            yield f"data.{key}: is an empty text: name a file or a directory, or null for none"


def _split(data: DataSettings) -> Iterator[str]:
    if data.split.group is not None and data.split.time is not None:
        yield "data.split: group and time are both set: choose one of them"
    if data.val is not None and data.folds is None and (data.split.group, data.split.time) != (None, None):
        yield "data.split: says how val is held out of train, but data.val is set: set one of the two back"


def _reader(data: DataSettings, launch: LaunchSettings) -> Iterator[str]:
    if not isinstance(data.reader, PluginSettings):
        return
    if data.path is not None or data.train is None:
        yield "data.reader: reads data.train, data.val and data.test: set these instead of data.path"
    if data.sharded:
        yield "data.reader: makes whole tables, and data.sharded passes files on: set one of the two back"
    if isinstance(launch, RemoteSettings):
        yield "data.reader: a job's tables are parquet or CSV: write them so, and set data.reader.name=default"


def _encoders(data: DataSettings, export: str | None) -> Iterator[str]:
    if export is not None and data.encoder.columns:
        yield f"export: {export} has no form of what data.encoder.columns makes: set one of the two back"


def _shards(data: DataSettings, launch: LaunchSettings) -> Iterator[str]:
    if data.shards is None:
        return
    if data.path is None and data.train is None:
        yield "data.shards: the built-in table is not worth a cut: set data.train, or data.shards=null"
    if data.folds is not None:
        yield "data.folds: folds are drawn from the whole of train: set data.folds=null, or data.shards=null"
    if data.encoder.columns:
        yield "data.encoder.columns: are fitted on the whole of train: set data.encoder.columns={}, or data.shards=null"
    if data.in_memory is False:
        yield "data.in_memory: a rank's shards lie in memory: set data.in_memory=auto, or data.shards=null"
    if isinstance(data.reader, PluginSettings):
        yield "data.reader: makes whole tables: set data.reader.name=default, or data.shards=null"
    spread = {"data.sharded": data.sharded, "launch.sharded": isinstance(launch, RemoteSettings) and launch.sharded}
    for key in [key for key, is_set in spread.items() if is_set and data.shards != "file"]:
        yield f"data.shards: one of {data.shards} may lie in files of two machines ({key}): set data.shards=file"


def _outside(data: DataSettings, paths: PathSettings) -> Iterator[str]:
    """What a run writes holds parquet too: below a split it would be read as rows by the next run."""
    below = {f"data.{split}": f"{data.path}/{split}" for split in ("train", "val", "test") if data.path}
    own = {f"data.{split}": getattr(data, split) for split in ("train", "val", "test") if getattr(data, split)}
    for key in ("output_dir", "checkpoint_dir", "model_dir", "cache_dir"):
        written = getattr(paths, key)
        if not written or "://" in written:
            continue
        place = _real(written)
        for name, location in (below | own).items():
            # with a slash behind both: what lies in tables2 does not lie in tables
            if "://" not in location and f"{place}/".startswith(f"{_real(location)}/"):
                yield f"paths.{key}: {written!r} lies in {name}, where it would be read as rows: name one outside"


def _real(location: str) -> str:
    path = location.replace("\0", "")  # which no path holds
    try:
        return os.path.realpath(path)
    except OSError:  # a link that this user may not read: whoever opens it will say so
        return os.path.abspath(path)


DATA_RULES: tuple[Rule, ...] = (
    (("data",), _locations),
    (("data",), _split),
    (("data", "launch"), _reader),
    (("data", "export"), _encoders),
    (("data", "launch"), _shards),
    (("data", "paths"), _outside),
)
