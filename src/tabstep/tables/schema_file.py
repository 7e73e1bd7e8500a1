"""Propose a schema file for conf/schema/ from a table."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tabstep.config.settings import SchemaSettings
from tabstep.errors import UserError
from tabstep.schema import Schema, Task
from tabstep.system.atomic_write import write_durably
from tabstep.system.exits import writing
from tabstep.tables.infer_schema import Row, infer_schema
from tabstep.tables.readers import open_rows

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# What PyYAML refuses in a document or reads as the end of a line.
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def write_schema_file(
    location: str, name: str, directory: str | Path, settings: SchemaSettings, *, overwrite: bool = False
) -> tuple[Path, list[Row]]:
    """Write ``directory/name.yaml`` from the table at ``location``; return its path and the rows to show.

    ``settings`` holds what the user has declared already; the rest is inferred.

    Raises:
        UserError: the name cannot be a configuration option, the file exists, or inference fails.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"schema name {name!r}: use letters, digits, '_' and '-', as in `schema=my_table`")
    path = Path(directory) / f"{name}.yaml"
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already: choose another name, or replace it with --overwrite")
    schema, task, rows = infer_schema(open_rows(location, where=location), settings)
    text = schema_yaml(schema, rows, task=task, classes=settings.classes)
    with writing(f"{path}: cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, text.encode())
    return path, rows


def schema_yaml(schema: Schema, rows: Sequence[Row], *, task: Task | None, classes: list[str | int] | None) -> str:
    """Return a file of the group ``schema`` whose lists are exact, with each column's Arrow type as a comment."""
    types = {row.column: row.type for row in rows}
    label = schema.label[0] if len(schema.label) == 1 else list(schema.label)
    dropped = [row.column for row in rows if row.role == "left out"]
    lines = [f"id: {_scalar(schema.id)}"]
    lines.append(f"label: {_scalar(label)}" if isinstance(label, str) else _block("label", label, types))
    lines.append(_block("numeric", schema.numeric, types))
    lines.append(_block("categorical", schema.categorical, types))
    lines.append(_block("drop", dropped, types))
    lines.append(f"task: {task or 'auto'}")
    lines.append(f"classes: {json.dumps(classes, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _block(key: str, names: Sequence[str], types: dict[str, str]) -> str:
    if not names:
        return f"{key}: []"
    return "\n".join([f"{key}:", *(f"  - {_scalar(name)}  # {_one_line(types[name])}" for name in names)])


def _one_line(text: str) -> str:
    return _UNPRINTABLE.sub("?", " ".join(text.split()))


def _scalar(name: str | None) -> str:
    r"""Return a double-quoted YAML scalar, so that NO, 12:30 and 010 stay names; ``${`` is escaped for OmegaConf.

    >>> print(_scalar("on"), _scalar("${x}"), _scalar(None))
    "on" "\\${x}" null
    """
    if name is None:
        return "null"
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", name)  # backslashes count only before what they escape
    quoted = json.dumps(escaped, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)
