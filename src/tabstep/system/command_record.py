"""What a directory says of the command that made it, kept from one that was refused there."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from tabstep.system.atomic_write import write_durably


class CommandRecord:
    """The files that Hydra writes into a run's directory before the run itself knows whether it may go on there.

    Args:
        directory: of the run; nothing is kept where it has no ``record``.
        record: name of the directory in it with what is known of the command.
        results: names of the files and directories in it that change as soon as a run goes on.
    """

    def __init__(self, directory: Path, record: str, results: Collection[str]) -> None:
        self._directory, self._results = directory, results
        self._kept = {path: path.read_bytes() for path in (directory / record).glob("*.yaml")}
        self._before = self._state()

    def restore(self) -> None:
        """Write the files as they were, unless a run has gone on since; a disk that takes none is passed over."""
        if self._state() == self._before:
            with suppress(OSError):
                for path, content in self._kept.items():
                    write_durably(path, content)

    def _state(self) -> set[tuple[Path, int, int]]:
        places = [self._directory / name for name in self._results]
        paths = [path for place in places for path in (place, *place.glob("*")) if path.is_file()]
        return {(path, (found := path.stat()).st_size, found.st_mtime_ns) for path in paths}
