"""Propose a schema file for conf/schema/ from a table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tabstep.errors import UserError
from tabstep.schema import Schema, Task
from tabstep.system.atomic_write import write_durably
from tabstep.system.exits import writing
from tabstep.tables.column_types import kind_of
from tabstep.tables.describe import ColumnFacts, describe
from tabstep.tables.infer_schema import Declared, Row, infer_schema
from tabstep.tables.readers import open_rows
from tabstep.tables.typed_table import TypedTable

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# What PyYAML refuses in a document or reads as the end of a line.
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def write_schema_file(
    location: str, name: str, directory: str | Path, stated: Declared, *, overwrite: bool = False
) -> tuple[Path, list[Row]]:
    """Write ``directory/name.yaml`` from the table at ``location``; return its path and the rows to show.

    ``stated`` holds what the user has declared already; the rest is inferred.

    Raises:
        UserError: the name cannot be a configuration option, the file exists, or inference fails.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"schema name {name!r}: use letters, digits, '_' and '-', as in `schema=my_table`")
    path = Path(directory) / f"{name}.yaml"
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already: choose another name, or replace it with --overwrite")
    table = open_rows(location, where=location)
    schema, task, rows = infer_schema(table, stated)
    schema, rows = proposed(schema, rows, describe(table, [row.column for row in rows if _has_text(table, row.column)]))
    text = schema_yaml(schema, rows, task=task, classes=stated.classes)
    with writing(f"{path}: cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, text.encode())
    return path, rows


def _has_text(table: TypedTable, column: str) -> bool:
    """Tell whether the values of a column have a text; nested and binary ones have none."""
    try:
        kind_of(table.arrow_schema.field(column).type)
    except UserError:
        return False
    return True


def proposed(schema: Schema, rows: Sequence[Row], facts: Mapping[str, ColumnFacts]) -> tuple[Schema, list[Row]]:
    """Return the schema and the rows with what the values say: text of a format is read, unique text is no feature.

    Roles that were declared stay, as does the label.
    """
    found_id = schema.id
    result = []
    for row in rows:
        known = facts.get(row.column)
        row = replace(row, facts=known)
        if known is not None and row.role == "categorical" and row.why.startswith("type "):
            row = _by_values(row, known, has_id=found_id is not None)
        found_id = row.column if row.role == "id" else found_id
        result.append(row)
    role = {row.column: row.role for row in result}
    numeric = (*schema.numeric, *(name for name in schema.categorical if role[name] == "numeric"))
    categorical = tuple(name for name in schema.categorical if role[name] == "categorical")
    forms = ((name, facts[name].form) for name in numeric[len(schema.numeric) :])
    parse = (*schema.parse, *((name, form) for name, form in forms if form is not None))
    return replace(schema, id=found_id, numeric=numeric, categorical=categorical, parse=parse), result


def _by_values(row: Row, facts: ColumnFacts, *, has_id: bool) -> Row:
    """Return a row with the role that the values of an inferred category ask for."""
    if facts.form is not None:
        return replace(row, role="numeric", why=f"text of the format {facts.form}: schema.parse reads it")
    if not facts.unique:
        return row
    if has_id:
        return replace(row, role="left out", why="every value differs, and there is an id")
    return replace(row, role="id", why="every value differs")


def schema_yaml(schema: Schema, rows: Sequence[Row], *, task: Task | None, classes: list[str | int] | None) -> str:
    """Return a file of the group ``schema`` whose lists are exact, with each column's Arrow type as a comment."""
    types = {row.column: row.type for row in rows}
    label = schema.label[0] if len(schema.label) == 1 else list(schema.label)
    dropped = [row.column for row in rows if row.role == "left out"]
    lines = [f"id: {_scalar(schema.id)}"]
    lines.append(f"label: {_scalar(label)}" if isinstance(label, str) else _block("label", label, types))
    lines.append(f"weight: {_scalar(schema.weight)}")
    lines.append(_block("numeric", schema.numeric, types))
    lines.append(_block("categorical", schema.categorical, types))
    lines.append(_block("drop", dropped, types))
    lines.append(_parse_block(schema.parse))
    lines.append(f"task: {task or 'auto'}")
    lines.append(f"classes: {json.dumps(classes, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _parse_block(parse: Sequence[tuple[str, str]]) -> str:
    if not parse:
        return "parse: {}"
    return "\n".join(["parse:", *(f"  {_scalar(name)}: {_scalar(form)}" for name, form in parse)])


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
