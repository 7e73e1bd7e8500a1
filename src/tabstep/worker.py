"""One rank of a run that was started on several devices: ``python -m tabstep.worker CONFIG.yaml`` under torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from tabstep.config.parse import parse
from tabstep.exits import exit_code
from tabstep.ranks import EXIT_FILE
from tabstep.launch.container import reporting


def main(file: str) -> None:
    """Run the configuration that the parent process has composed and checked."""
    config = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    settings = parse(config)
    from tabstep.run import run

    run(settings, config)


if __name__ == "__main__":
    code = exit_code(reporting(lambda: main(sys.argv[1])))
    if code:
        # torchrun ends with 1 whatever its processes ended with.
        Path(sys.argv[1]).with_name(EXIT_FILE).write_text(str(code), encoding="utf-8")
    sys.exit(code)
