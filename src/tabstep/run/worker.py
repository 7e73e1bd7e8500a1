"""A run in a process of its own, a trial or a rank of a run: ``python -m tabstep.run.worker CONFIG.yaml [PARENT]``.

It ends when the process with the number PARENT does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

from tabstep.config.parse import parse
from tabstep.config.secrets import redacted
from tabstep.container.container import reporting
from tabstep.system.exits import exit_code
from tabstep.system.parent_watch import end_with
from tabstep.system.ranks import EXIT_FILE


def main(file: str) -> None:
    """Run the configuration that the parent process has composed and checked."""
    config = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    settings = parse(config)
    from tabstep.run.run import run

    run(settings, redacted(config, os.environ))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        end_with(int(sys.argv[2]))
    code = exit_code(reporting(lambda: main(sys.argv[1])))
    if code:
        # torchrun ends with 1 whatever its processes ended with.
        Path(sys.argv[1]).with_name(EXIT_FILE).write_text(str(code), encoding="utf-8")
    sys.exit(code)
