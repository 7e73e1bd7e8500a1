from __future__ import annotations

import pytest

from tabstep.launch.source.text_secrets import looks_secret


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("DB_PASSWORD", "hunter22", "its name"),
        ("API_TOKEN", "x", "its name"),
        ("TOKEN_ARN", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x", None),
        ("COLOR", "blue", None),
        ("optimizer.lr", "0.001", None),
    ],
)
def test_names_tell_and_references_are_none(name: str, text: str, why: str | None) -> None:
    assert looks_secret(name, text) == why


def test_a_known_form_tells_under_any_name() -> None:
    assert looks_secret("COLOR", "AKIA" + "IOSFODNN7EXAMPLF") not in (None, "its name")
