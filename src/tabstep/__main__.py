"""``python -m tabstep`` is the console script ``tabstep``."""

import sys

from tabstep.cli import main

if __name__ == "__main__":
    sys.exit(main())
