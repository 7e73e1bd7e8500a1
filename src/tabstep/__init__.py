"""Train classifiers on the numeric and categorical columns of tables.

``tabstep.train(table, label="churned")`` returns a ``Run``, ``tabstep.load(directory)`` a model that predicts, and
``tabstep.TabstepClassifier`` is an estimator of scikit-learn. The names below are the public ones; a module of this
package is private to it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tabstep.analysis.explain import explain as explain
    from tabstep.api.estimator import TabstepClassifier as TabstepClassifier
    from tabstep.api.finished_run import Run as Run
    from tabstep.api.train import train as train
    from tabstep.artifact.load import load as load
    from tabstep.config.settings import Settings as Settings
    from tabstep.schema import Schema as Schema

__all__ = ["Run", "Schema", "Settings", "TabstepClassifier", "explain", "load", "train"]
__version__ = "0.1.0"

# Importing torch takes seconds: a name is imported when it is first asked for.
_HOMES = {
    "Run": "tabstep.api.finished_run",
    "Schema": "tabstep.schema",
    "Settings": "tabstep.config.settings",
    "TabstepClassifier": "tabstep.api.estimator",
    "explain": "tabstep.analysis.explain",
    "load": "tabstep.artifact.load",
    "train": "tabstep.api.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tabstep' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
