"""The entry point of a local run, of a SageMaker job and of a sweep: ``python train.py [group=option] [key=value]``."""

from __future__ import annotations

import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "src"
if SOURCE.is_dir():  # a plain checkout works without an installation, and wins over an installed copy
    sys.path.insert(0, str(SOURCE))

from tabstep.entry import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
