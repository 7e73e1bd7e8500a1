"""Train classifiers on the numeric and categorical columns of parquet tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tabstep.artifact.save import load as load

__all__ = ["load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds; `tabstep.load` alone pays for it.
    if name == "load":
        from tabstep.artifact.save import load

        return load
    raise AttributeError(f"module 'tabstep' has no attribute {name!r}")
