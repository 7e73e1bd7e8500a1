"""What IAM answers: the policies in policies/ as an account has them, and whether they allow a call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.launch.conftest import BUCKET

POLICIES = Path(__file__).resolve().parents[2] / "policies"
FILLED = {"ACCOUNT": "123456789012", "BUCKET": BUCKET, "PIPELINE": "pipelines", "ROLE": "job", "KEY": "key-1"}


@dataclass(frozen=True)
class Need:
    """An action on a resource, with what its conditions look at."""

    action: str
    resource: str = "*"
    context: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.action} on {self.resource} {dict(self.context) or ''}".strip()


def policy(name: str) -> dict[str, Any]:
    """Return a policy as it stands in its file."""
    found: dict[str, Any] = json.loads((POLICIES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def filled(name: str) -> list[dict[str, Any]]:
    """Return the statements with the names of an account, filled in as docs/sagemaker.md says."""
    text = json.dumps(policy(name)["Statement"])
    for placeholder, value in FILLED.items():
        text = text.replace(placeholder, value)
    found: list[dict[str, Any]] = json.loads(text)
    return found


def denied(needs: Iterable[Need], *names: str) -> list[str]:
    """Return what the policies of these names together do not allow."""
    statements = [statement for name in names for statement in filled(name)]
    return sorted({str(need) for need in needs if not any(_allows(each, need) for each in statements)})


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _allows(statement: Mapping[str, Any], need: Need) -> bool:
    assert statement["Effect"] == "Allow", "an evaluation of Deny is not needed here"
    return (
        any(fnmatchcase(need.action.lower(), each.lower()) for each in listed(statement["Action"]))
        and any(fnmatchcase(need.resource, each) for each in listed(statement["Resource"]))
        and all(_holds(kind, keys, need.context) for kind, keys in statement.get("Condition", {}).items())
    )


def _holds(kind: str, keys: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    assert kind in ("StringEquals", "StringLike", "Bool"), kind
    match = fnmatchcase if kind == "StringLike" else str.__eq__
    return all(
        key in context and any(match(context[key], wanted) for wanted in listed(values)) for key, values in keys.items()
    )
