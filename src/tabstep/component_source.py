"""What the source of a component says without being imported: where it is, its options and their annotations.

Annotations are read from the source, for a mistake in the configuration must not cost an import of torch;
``option_types`` has the words that they are made of.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Optional, Union

from tabstep import option_types

_WORDS: Final = {
    **{name: word for name, word in vars(option_types).items() if not name.startswith("_")},
    **{kind.__name__: kind for kind in (str, int, float, bool, list)},
    "Annotated": Annotated,
    "Literal": Literal,
    "Optional": Optional,
    "Union": Union,
}
"""What an annotation of an option may be made of."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """An argument that the configuration sets.

    Attributes:
        annotation: None where any plain value may be right.
        default: ``MISSING`` where it has none, ``None`` also where the source does not tell which.
    """

    annotation: Any
    default: Any = MISSING

    @property
    def required(self) -> bool:
        """Whether the configuration has to set it."""
        return self.default is MISSING


FACTS: Final = frozenset({"flags"})
"""Arguments that a run fills in where a component has them, and which are no options: see ``tabstep.models``."""


def find_module(module: str) -> ModuleSpec | None:
    """Find a module as an import would, but no package above it is imported."""
    top, *below = module.split(".")
    spec, name = _top_spec(top), top
    for part in below:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec


def find_file(module: str) -> Path | None:
    """Return the source file of a module, None where it has none."""
    spec = find_module(module)
    return None if spec is None or not (spec.origin or "").endswith(".py") else Path(str(spec.origin))


def _top_spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # a module without a spec, such as __main__
        return None


@functools.cache
def public_classes(module: str) -> Mapping[str, str]:
    """Return the classes that ``__all__`` of a module lists, by their names in snake case, without importing it."""
    file = find_file(module)
    if file is None:
        return {}
    lists = [
        node.value
        for node in _parse(file).body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    return {snake_case(name): f"{module}:{name}" for each in lists for name in ast.literal_eval(each)}


def snake_case(name: str) -> str:
    """Return the name of a class as a key has it.

    >>> snake_case("CohenKappa"), snake_case("AUROC"), snake_case("BinaryF1Score"), snake_case("F1Score")
    ('cohen_kappa', 'auroc', 'binary_f1_score', 'f1_score')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-zA-Z0-9])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@functools.cache
def own_components(package: str) -> Mapping[str, str]:
    file = find_file(package)
    if file is None:
        return {}
    found = {}
    for path in sorted(file.parent.glob("*.py")):
        for node in _parse(path).body:
            if isinstance(node, ast.ClassDef) and node.name.lower() == path.stem.replace("_", ""):
                found[path.stem] = f"{package}.{path.stem}:{node.name}"
    return found


def about(module: str) -> str:
    """Return the first line of the docstring of a module."""
    file = find_file(module)
    return "" if file is None else (ast.get_docstring(_parse(file)) or "").partition("\n")[0]


@functools.cache
def declared_options(target: str, num_given: int) -> Mapping[str, Option] | None:
    """Return what the source of ``module:Name`` declares; None where it is not plain source, or takes any argument."""
    module, _, attribute = target.partition(":")
    function = _definition(module, attribute)
    if function is None or function.args.kwarg is not None or function.args.vararg is not None:
        return None
    own = 1 if function.name == "__init__" else 0
    declared = list(_arguments(function.args))[own + num_given :]
    return {key: option for key, option in declared if key not in FACTS}


def _definition(module: str, name: str, hops: int = 8) -> ast.FunctionDef | None:
    """Return what is called, found through the modules that only import it from one another."""
    file = find_file(module)
    if file is None or hops == 0:
        return None
    tree = _parse(file)
    if any(getattr(node, "name", None) == name for node in tree.body):
        return _function(tree, name)
    for node in (each for each in tree.body if isinstance(each, ast.ImportFrom)):
        for alias in node.names:
            if (alias.asname or alias.name) == name:
                # counted: two modules may import a name from each other
                return _definition(_source_module(node, module, file), alias.name, hops - 1)
    return None


def _source_module(node: ast.ImportFrom, module: str, file: Path) -> str:
    """Return the absolute name of the module that a statement of another one imports from."""
    above = module.split(".")[: None if file.stem == "__init__" else -1]
    base = above[: len(above) - node.level + 1] if node.level else []
    return ".".join([*base, *([node.module] if node.module else [])])


def _function(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    """Return what is called: a function of the module, or the constructor that a class of it has itself."""
    node = next((node for node in tree.body if getattr(node, "name", None) == name), None)
    body = node.body if isinstance(node, ast.ClassDef) else [node]
    functions = (each for each in body if isinstance(each, ast.FunctionDef))
    return next((each for each in functions if each.name in (name, "__init__")), None)


def _arguments(arguments: ast.arguments) -> Iterator[tuple[str, Option]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    missing = [None] * (len(positional) - len(arguments.defaults))
    defaults = [*missing, *arguments.defaults, *arguments.kw_defaults]
    for argument, default in zip([*positional, *arguments.kwonlyargs], defaults, strict=True):
        yield argument.arg, Option(annotation=_annotation(argument.annotation), default=_default(default))


def _default(node: ast.expr | None) -> Any:
    if node is None:
        return MISSING
    try:
        return ast.literal_eval(node)
    except ValueError:  # what somebody else's module computes
        return None


def _annotation(node: ast.expr | None) -> Any:
    try:
        found = None if node is None else _value(node)
    except (LookupError, TypeError):  # a word of somebody else's
        return None
    return None if isinstance(found, str) else found  # an annotation in quotes


def _value(node: ast.expr) -> Any:
    """Return what an expression of ``_WORDS`` and constants means.

    Raises:
        LookupError: it has another word, or another form.
        TypeError: the words do not go together.
    """
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name) | ast.Attribute(attr=name):
            return _WORDS[name]
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as value)):
            return -value
        case ast.Tuple(elements):
            return tuple(map(_value, elements))
        case ast.BinOp(left, ast.BitOr(), right):
            return _value(left) | _value(right)
        case ast.Subscript(word, inner):
            return _value(word)[_value(inner)]
        case ast.Call(word, arguments, keywords):
            return _value(word)(*map(_value, arguments), **{str(each.arg): _value(each.value) for each in keywords})
    raise LookupError(ast.unparse(node))


@functools.cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())
