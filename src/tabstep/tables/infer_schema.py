"""Infers the schema: each column's role from its Arrow type and what the user declared, with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table
from rich.text import Text

from tabstep.config.grammar import quoted
from tabstep.errors import ProblemsError, UserError, nearest
from tabstep.schema import Schema, Task
from tabstep.system.sanitize import printable
from tabstep.tables.column_types import is_text, kind_of, value_type
from tabstep.tables.describe import ColumnFacts
from tabstep.tables.typed_table import TypedTable

Role = Literal["id", "label", "weight", "numeric", "categorical", "left out"]

LABEL_NAMES: Final = ("label", "target", "y", "class")
ID_NAME: Final = re.compile(r"id|row_?id|uuid|guid|index|.*_id|__index_level_0__", re.IGNORECASE)
_ROW_NUMBER: Final = re.compile(r"|Unnamed: \d+(\.\d+)*")
"""What pandas calls the row numbers that it writes into a CSV, and those that it has read from one."""
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ID_SAMPLE: Final = 65_536
_ROWS_SHOWN: Final = 60


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What the user says of the columns; None is inferred. ``classes`` are the labels in the order of the outputs."""

    id: str | None = None
    label: str | list[str] | None = None
    weight: str | None = None
    numeric: list[str] | None = None
    categorical: list[str] | None = None
    drop: list[str] = field(default_factory=list)
    parse: Mapping[str, str] = field(default_factory=dict)
    task: Task | Literal["auto"] = "auto"
    classes: list[str | int] | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table that is shown before training, or with a proposal, which knows what the column holds."""

    column: str
    type: str
    role: Role
    why: str
    facts: ColumnFacts | None = None


def infer_schema(source: TypedTable, stated: Declared) -> tuple[Schema, Task | None, list[Row]]:
    """Return the schema, the task where it is declared or follows from several labels, and a row for each column.

    A declared role wins. ``numeric`` or ``categorical`` given as a list is exact; where only one of them is given, the
    other takes the remaining columns of its kind. A label that is not declared is recognised by a well-known name, an
    id by its name and distinct values; of several such columns the first is the id, and none is a feature.

    Raises:
        UserError: a declared column is missing or of a type that its role cannot use, there is no label, or a column
            without a declared role has a type without a meaning. All problems at once.

    >>> import tempfile, pyarrow.parquet as pq
    >>> from tabstep.tables.source import open_source
    >>> path = tempfile.mkdtemp() + "/train.parquet"
    >>> pq.write_table(pa.table({"age": [1, 2], "job": ["a", "b"], "target": [0, 1]}), path)
    >>> infer_schema(open_source(path, split="train"), Declared())[0]
    Schema(label=('target',), numeric=('age',), categorical=('job',), id=None, parse=(), weight=None)
    """
    types = dict(zip(source.arrow_schema.names, source.arrow_schema.types, strict=True))
    roles = _declared(source, stated, types)
    _refuse_conflicts(source, stated)
    label = _label(stated, types, roles)
    ids = _ids(source, types, roles)
    found_id = ids[0] if ids and stated.id is None else None
    for name in ids:
        roles[name] = ("id" if name == found_id else "left out", "its name, and every value differs")
    roles |= _rest(stated, types, roles)
    by_role: dict[Role, list[str]] = {"numeric": [], "categorical": []}
    for name, (role, _) in roles.items():
        by_role.setdefault(role, []).append(name)
    schema = Schema(
        id=stated.id if stated.id is not None else found_id,
        label=label,
        numeric=_in_order(stated.numeric, by_role["numeric"]),
        categorical=_in_order(stated.categorical, by_role["categorical"]),
        parse=tuple(stated.parse.items()),
        weight=stated.weight,
    )
    rows = [Row(column=name, type=str(types[name]), role=roles[name][0], why=roles[name][1]) for name in types]
    return schema, _task(stated, label), rows


_Roles = dict[str, tuple[Role, str]]


def _in_order(declared: list[str] | None, found: Sequence[str]) -> tuple[str, ...]:
    return tuple(found if declared is None else declared)


def _label_list(stated: Declared) -> list[str]:
    return [stated.label] if isinstance(stated.label, str) else list(stated.label or [])


def _declared(source: TypedTable, stated: Declared, types: dict[str, pa.DataType]) -> _Roles:
    """Return the declared roles, in the order of the table, once every name and type has been checked."""
    lists: list[tuple[str, Role, Sequence[str]]] = [
        ("id", "id", [] if stated.id is None else [stated.id]),
        ("label", "label", _label_list(stated)),
        ("weight", "weight", [] if stated.weight is None else [stated.weight]),
        ("numeric", "numeric", stated.numeric or []),
        ("categorical", "categorical", stated.categorical or []),
        ("drop", "left out", stated.drop),
    ]
    declared: _Roles = {}
    problems: list[str] = []
    for key, role, names in lists:
        for name in names:
            if name in source.conflicts:
                # what is left out may differ between files
                problems += [] if key == "drop" else [f"{source.where}: column {name!r} {source.conflicts[name]}"]
            elif name not in types:
                help_ = nearest(name, [*types, *source.conflicts])
                problems.append(f"schema.{key}: {source.where} has no column {name!r}: {help_}")
            elif name in declared:
                problems.append(f"schema.{key}: column {name!r} is {declared[name][0]} already: name it once")
            else:
                declared[name] = (role, f"schema.{key}")
                problems += _type_problem(key, name, types[name])
    if problems:
        raise ProblemsError(problems)
    return {name: declared[name] for name in types if name in declared}


def _refuse_conflicts(source: TypedTable, stated: Declared) -> None:
    """Raise for columns that differ between files, unless they are dropped or the declared features are exact."""
    if stated.numeric is not None and stated.categorical is not None:
        return
    names = [name for name in source.conflicts if name not in stated.drop]
    if names:
        problems = [f"{source.where}: column {name!r} {source.conflicts[name]}" for name in names]
        problems[-1] += f", or leave out what differs with 'schema.drop=[{_override_list(names)}]'"
        raise ProblemsError(problems)


def _type_problem(key: str, name: str, dtype: pa.DataType) -> list[str]:
    if key == "drop":
        return []
    try:
        kind = kind_of(dtype)
    except UserError as error:
        return [f"schema.{key}: column {name!r}: {error}"]
    # a time is numeric, and no weight
    if key == "weight" and (kind != "numeric" or pa.types.is_temporal(value_type(dtype))):
        return [f"schema.weight: column {name!r} holds {dtype}: the weight of a row is a number"]
    if key == "numeric" and is_text(value_type(dtype)):
        return [
            f"schema.numeric: column {name!r} holds text ({dtype}): "
            "name it in schema.categorical, or write it as numbers"
        ]
    return []


def _label(stated: Declared, types: dict[str, pa.DataType], roles: _Roles) -> tuple[str, ...]:
    declared = _label_list(stated)
    if declared:
        return tuple(declared)
    known = [name for name in types if name.lower() in LABEL_NAMES and name not in roles]
    if len(known) == 1:
        roles[known[0]] = ("label", "its name; schema.label is not set")
        return (known[0],)
    shown = known or [name for name in types if name not in roles]
    some = shown if len(shown) <= 12 else [*shown[:6], "…", *shown[-6:]]  # a label is often the last column
    more = f" ({len(shown)} in all)" if len(shown) > 12 else ""
    cause = "several columns could be it" if known else "choose from"
    raise UserError(f"schema.label: is missing: name the column to predict; {cause}: {', '.join(some)}{more}")


def _ids(source: TypedTable, types: dict[str, pa.DataType], roles: _Roles) -> list[str]:
    """Return the columns without a role that name rows: by their own names, and since no value comes twice."""
    named = [
        name
        for name, dtype in types.items()
        if name not in roles and ID_NAME.fullmatch(name) and (is_text(dtype) or pa.types.is_integer(dtype))
    ]
    if not named:
        return []
    # the first rows say enough: a value that comes twice in them is no id, and the name has to fit besides
    batch = next(source.batches(named, _ID_SAMPLE))
    return [name for name in named if _all_distinct(batch.column(named.index(name)))]


def _all_distinct(array: pa.Array) -> bool:
    return array.null_count == 0 and len(array) > 1 and pc.count_distinct(array).as_py() == len(array)


def _rest(stated: Declared, types: dict[str, pa.DataType], roles: _Roles) -> _Roles:
    """Return the roles of the columns that nothing has claimed."""
    rest: _Roles = {}
    refused: dict[str, str] = {}
    exact = {"numeric": stated.numeric is not None, "categorical": stated.categorical is not None}
    for name, dtype in types.items():
        if name in roles:
            continue
        if all(exact.values()):
            rest[name] = ("left out", "schema.numeric and schema.categorical do not name it")
        elif pa.types.is_null(dtype):
            rest[name] = ("left out", "every value is null")
        elif pa.types.is_integer(dtype) and _ROW_NUMBER.fullmatch(name):
            rest[name] = ("left out", "the row numbers of a DataFrame")
        else:
            try:
                kind = kind_of(dtype)
            except UserError as error:
                refused[name] = str(error)
                continue
            rest[name] = ("left out", f"schema.{kind} does not name it") if exact[kind] else (kind, f"type {dtype}")
    if refused:
        raise UserError(_refusal(refused))
    return rest


def _refusal(refused: dict[str, str]) -> str:
    name, why = next(iter(refused.items()))
    others = f" ({len(refused)} columns are like it)" if len(refused) > 1 else ""
    names = _override_list(refused)
    return f"schema: column {name!r}: {why.rpartition(': ')[0]}{others}: leave out with 'schema.drop=[{names}]'"


def _override_list(names: Iterable[str]) -> str:
    r"""Return names as the elements of a list in a Hydra override.

    >>> print(_override_list(["age", "a.b", 'c"']))
    age,"a.b","c\""
    """
    return ",".join(name if _PLAIN.fullmatch(name) else quoted(name, '"') for name in names)


def _task(stated: Declared, label: tuple[str, ...]) -> Task | None:
    if stated.task == "auto":
        return "multilabel" if len(label) > 1 else None
    if len(label) > 1 and stated.task != "multilabel":
        raise UserError(f"schema.task: {stated.task} has one label column, and schema.label names {len(label)}")
    return stated.task


def schema_table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table for the terminal; of a very wide table, the first columns of each role."""
    table = Table(title="Columns", title_justify="left")
    for header in ("column", "type", "role", "why"):
        table.add_column(header, overflow="ellipsis", max_width=48)
    few = max(1, _ROWS_SHOWN // 5)
    shown: dict[str, int] = {}
    for row in rows:
        shown[row.role] = shown.get(row.role, 0) + 1
        if len(rows) <= _ROWS_SHOWN or shown[row.role] <= few:
            table.add_row(*(Text(printable(cell)) for cell in (row.column, row.type, row.role, row.why)))
    if len(rows) > _ROWS_SHOWN:
        for role, count in shown.items():
            if count > few:
                table.add_row("…", "", role, f"and {count - few} more")
    return table


def values_table(rows: Sequence[Row]) -> Table:
    """Return what the columns hold as a table for the terminal; of a very wide table, the first columns."""
    table = Table(title="Values", title_justify="left")
    table.add_column("column", overflow="ellipsis", max_width=24)
    table.add_column("missing", justify="right", no_wrap=True)
    table.add_column("distinct", justify="right", no_wrap=True)
    table.add_column("examples", overflow="ellipsis", no_wrap=True, max_width=36)
    described = [row for row in rows if row.facts is not None]
    for row in described[:_ROWS_SHOWN]:
        assert row.facts is not None
        table.add_row(*(Text(printable(cell)) for cell in (row.column, *_cells(row.facts))))
    if len(described) > _ROWS_SHOWN:
        table.add_row("…", "", "", f"and {len(described) - _ROWS_SHOWN} more")
    return table


def _cells(facts: ColumnFacts) -> tuple[str, str, str]:
    missing = f"{100 * facts.missing:.3g} %" if facts.missing else ""
    return missing, f"{'over ' if facts.more else ''}{facts.distinct:,}", ", ".join(facts.examples)
