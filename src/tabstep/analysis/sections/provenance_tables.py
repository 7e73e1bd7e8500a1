"""What was trained: command, tables, schema, configuration, versions, and the findings of the data checks."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tabstep.analysis.sections.facts import MOST_ROWS, RunFacts
from tabstep.analysis.stored_runs import flat
from tabstep.encoding.encoder import Encoder
from tabstep.page.document import (
    command,
    folded,
    paragraph,
)
from tabstep.page.table import Cell, table
from tabstep.run_files import VERSIONS


def training_section(facts: RunFacts) -> Iterator[str]:
    if facts.command:
        yield command(facts.command)
    data = facts.analysis.get("data") or {}
    rows: list[list[Cell]] = [
        [split, *(contents[key] for key in ("rows", "files", "columns", "digest"))] for split, contents in data.items()
    ]
    yield table(["split", "rows", "files", "columns", "digest of the content"], rows)
    if facts.encoder is not None:
        yield paragraph(_schema_line(facts.encoder))
        yield folded("Columns", [_schema_table(facts.encoder)])
    keys = flat(facts.run.config)
    config: list[list[Cell]] = [[key, json.dumps(value, ensure_ascii=False)] for key, value in keys.items()]
    yield folded("Configuration", [table(["key", "value"], config)])
    yield folded("Versions", [table(["package", "version"], list(map(list, _versions(facts).items())))])


def _versions(facts: RunFacts) -> dict[str, str]:
    file = facts.run.model / VERSIONS
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _schema_line(encoder: Encoder) -> str:
    schema, classes = encoder.schema, [str(name) for name in encoder.classes]
    few = ", ".join(classes[:12]) + (f", … ({len(classes)} in all)" if len(classes) > 12 else "")
    return (
        f"Label {', '.join(schema.label[:12])} ({encoder.task}: {few}); {len(schema.numeric):,} numeric and "
        f"{len(schema.categorical):,} categorical columns."
    )


def _schema_table(encoder: Encoder) -> str:
    schema = encoder.schema
    roles = {"id": [schema.id] if schema.id else [], "label": schema.label}
    roles |= {"numeric": schema.numeric, "categorical": schema.categorical}
    rows: list[list[Cell]] = [[name, role] for role, names in roles.items() for name in names]
    return table(["column", "role"], rows[:MOST_ROWS])


def check_section(facts: RunFacts) -> Iterator[str]:
    findings = facts.analysis.get("checks") or []
    rows: list[list[Cell]] = [
        [finding["check"], finding["split"], finding["severity"], finding["message"]] for finding in findings
    ]
    yield table(
        ["check", "split", "result", "finding"], rows, classes=[str(finding["severity"]) for finding in findings]
    )
