"""Tables that a function of another package reads: of any form for which there is one, as ORC or Excel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tabstep.config.settings import DataSettings, ReaderSettings
from tabstep.registry import READERS, PluginSettings
from tabstep.schema import Split
from tabstep.tables.frames import keep_table, to_table
from tabstep.tables.source import where_of


def read_by(reader: PluginSettings, location: str, *, where: str, cache_dir: Path) -> Path:
    """Return the parquet file with the rows that a reader makes of a location; they are in memory meanwhile.

    It is called each time, since what it reads is known to it alone; the same rows have the same file, so that what was
    encoded of them is found again.

    Raises:
        UserError: there is no such reader, it fails, or what it returns is no table.
    """
    made = READERS.make(reader, location)
    return keep_table(to_table(made, where=f"{where}: {reader.name}"), cache_dir)


def read_once(data: DataSettings, cache_dir: Path) -> DataSettings:
    """Return settings by which several runs get the same rows in the same order: a reader may give another order."""
    if not isinstance(data.reader, PluginSettings):
        return data
    reader = data.reader

    # in the cache: from now on each split is a file, and no reader is asked again
    def kept(split: Split) -> str | None:
        location: str | None = getattr(data, split)
        if location is None:
            return None
        return str(read_by(reader, location, where=where_of(split), cache_dir=cache_dir))

    return replace(data, reader=ReaderSettings(), train=kept("train"), val=kept("val"), test=kept("test"))
