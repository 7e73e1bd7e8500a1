"""The lines of a run elsewhere, through files that it writes and this process reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

OUTPUT: Final = "output.log"
ERRORS: Final = "errors.log"


@dataclass
class Tail:
    """A file that grows, and where its lines are shown."""

    file: Path
    stream: TextIO
    position: int = field(default=0, init=False)

    def show(self) -> None:
        """Print what has been added since the last call; a line that is not yet whole waits."""
        try:
            with open(self.file, "rb") as file:
                file.seek(self.position)
                added = file.read()
        except FileNotFoundError:
            return
        whole = added[: added.rfind(b"\n") + 1]
        if whole:
            self.position += len(whole)
            self.stream.write(whole.decode(errors="replace"))
            self.stream.flush()
