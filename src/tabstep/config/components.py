"""Components that a configuration names and that are not there, as far as that is seen without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tabstep.component_source import find_file, find_module
from tabstep.config.key_types import plugins
from tabstep.config.settings import Settings
from tabstep.errors import nearest


def missing_components(settings: Settings) -> list[str]:
    """Return a line for each component without a module, or that its module does not define.

    What a module takes from others by ``*`` is not known here: the import that follows sees it.
    """
    return [
        f"{path}.name: {target}: {problem}"
        for path, registry, part in plugins(settings)
        if (target := registry.find(part.name)) is not None
        for problem in _problems(target)
    ]


def _problems(target: str) -> Iterator[str]:
    module, _, attribute = target.partition(":")
    if find_module(module) is None:
        yield f"no module is called {_first_missing(module)!r}: install it"
        return
    file = find_file(module)
    # what is compiled has no source to look into
    names = {"*"} if file is None else set(_names(ast.parse(file.read_bytes())))
    top = attribute.partition(".")[0]
    if top not in names and not names & {"*", "__getattr__"}:
        near = nearest(top, sorted(names))
        yield f"module {module!r} has no attribute {attribute!r}" + (f": {near}" if near.startswith("did") else "")


def _first_missing(module: str) -> str:
    parts = module.split(".")
    found = (".".join(parts[: count + 1]) for count in range(len(parts)))
    return next(name for name in found if find_module(name) is None)


def _names(tree: ast.AST) -> Iterator[str]:
    """Yield what a module defines at its top, also below an ``if`` or a ``try``."""
    # also within functions and classes: a name too many hides a mistake, and makes none up
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
