"""Tables that a function of another package reads: of any form for which there is one, as ORC or Excel."""

from __future__ import annotations

from pathlib import Path

from tabstep.registry import READERS, PluginSettings
from tabstep.tables.frames import keep_table, to_table


def read_by(reader: PluginSettings, location: str, *, where: str, cache_dir: Path) -> Path:
    """Return the parquet file with the rows that a reader makes of a location; they are in memory meanwhile.

    It is called each time, since what it reads is known to it alone; the same rows have the same file, so that what was
    encoded of them is found again.

    Raises:
        UserError: there is no such reader, it fails, or what it returns is no table.
    """
    made = READERS.make(reader, location)
    return keep_table(to_table(made, where=f"{where}: {reader.name}"), cache_dir)
