"""Warnings as one line each, whatever library they come from."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def plain_messages() -> Iterator[None]:
    """Show a warning as one line without the source it came from, and of Lightning only what needs attention."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr, flush=True)
        # Lightning 2.6.6 asks torch 2.13 in a way that torch has deprecated.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
        # it means to start ranks, which srun does not here
        warnings.filterwarnings("ignore", message="The `srun` command is available")
        yield
