"""The directory ``code/`` of an artifact: what SageMaker's PyTorch inference containers need to serve it.

Those containers hold torch and numpy, but neither this package nor what reads parquet and safetensors. So ``code/``
has the handler (``inference.py``; as one function, ``transform.py``), the modules of this package that it needs, and a
``requirements.txt`` for the rest, none of which moves torch or numpy. What another package brings is one of
these lines, and what no installed package has is copied.
"""

from __future__ import annotations

import ast
import functools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tabstep.component_source import find_file
from tabstep.registry import ENCODERS, MODELS

CODE: Final = "code"
PACKAGE: Final = "tabstep"
_HANDLER: Final = "tabstep.serving.handler"
_TRANSFORM: Final = "tabstep.serving.transform"
_ROOT: Final = Path(__file__).resolve().parents[1]
REQUIRED: Final = ("pyarrow>=23.0.1", "PyYAML>=6", "safetensors>=0.4.3")
"""Floors, not versions: a container that has these packages installs nothing when it starts, and asks no index."""


def write_code(directory: Path, models: Sequence[str], encoders: Sequence[str] = ()) -> None:
    """Fill ``directory``, which must not exist, with what serves models, and encoders of columns, of these names."""
    directory.mkdir()
    named = [*((MODELS, name) for name in models), *((ENCODERS, name) for name in encoders)]
    targets = {name: (registry.find(name) or "").partition(":")[0] for registry, name in named}
    modules = needed_modules(_TRANSFORM, *(targets[name] for name in models if name in MODELS.ours()))
    for path in modules.values():
        target = directory / PACKAGE / path.relative_to(_ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copyfile(modules[_HANDLER], directory / "inference.py")
    shutil.copyfile(modules[_TRANSFORM], directory / "transform.py")
    packages = {name: registry.distribution(name) for registry, name in named if name not in registry.ours()}
    for name, package in packages.items():
        if package is None:
            _copy_loose(targets[name].partition(".")[0], directory)
    own = sorted({f"{package.name}=={package.version}" for package in packages.values() if package is not None})
    lines = [*REQUIRED, *own]
    (directory / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _copy_loose(module: str, directory: Path) -> None:
    """Copy a module, or a package with all that lies below it, that no index has."""
    file = find_file(module)
    if file is None:
        return
    if file.name == "__init__.py":
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(file.parent, directory / module, ignore=ignored, dirs_exist_ok=True)
    else:
        shutil.copyfile(file, directory / file.name)


@functools.cache
def needed_modules(*names: str) -> dict[str, Path]:
    """Return the modules of this package that importing ``names`` may import, at once or later, with their files."""
    found: dict[str, Path] = {}
    waiting = list(names)
    while waiting:
        module = waiting.pop()
        path = _file(module)
        if module in found or path is None:
            continue
        found[module] = path
        # the packages around a module are run before it
        waiting += [module.rpartition(".")[0], *_imports(path)]
    return dict(sorted(found.items()))


@functools.cache
def _file(module: str) -> Path | None:
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return None
    base = _ROOT.joinpath(*parts[1:])
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


@functools.cache
def _imports(path: Path) -> tuple[str, ...]:
    """Return every name that a file imports, with those that may be attributes and not modules."""
    names: list[str] = []
    for node in _executed(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements within a node, but for what only a type checker reads; in expressions, none can import."""
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        inner = getattr(node, field, ())
        for child in inner if isinstance(inner, list) else ():  # the body of a lambda is no list
            if not (isinstance(child, ast.If) and _is_type_checking(child.test)):
                yield child
                yield from _executed(child)


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"
