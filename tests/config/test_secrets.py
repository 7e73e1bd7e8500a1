from __future__ import annotations

import pytest

from tabstep.config.secrets import redacted, secret_problems

# In parts: the files of this project are searched for secrets, too.
SECRETS = [
    ("AKIA" + "IOSFODNN7EXAMPLE", "an AWS access key"),
    ("hf_" + "a" * 34, "a Hugging Face token"),
    ("s3://key:" + "pass/word@bucket/train.parquet", "a password in an address"),
    ("https://x/y.parquet?X-Amz-Signature=" + "0f0f0f", "a signed address"),
    ("api_key: " + "abcdef", "a password or key"),
]
HARMLESS = [
    "s3://bucket/a:b/c@2.parquet",
    "s3://bucket/token=1/x.parquet",
    "data/password.parquet",
    "secret",
    "12:30",
    "user@host",
    "arn:aws:iam::123456789012:role/name",
    "?token",
]


@pytest.mark.parametrize(("text", "what"), SECRETS)
def test_secrets_are_named_and_not_repeated(text: str, what: str) -> None:
    config = {"data": {"train": text}, "tags": ["a", f"x {text}"], "seed": 1}
    found = list(secret_problems(config))
    assert [line.partition(": it would")[0] for line in found] == [
        f"data.train: holds {what}",
        f"tags[1]: holds {what}",
    ]
    assert not any(text in line for line in found)


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_are_not(text: str) -> None:
    assert list(secret_problems({"a": [text]})) == []


def test_values_of_secret_variables_are_hidden() -> None:
    environment = {"MY_TOKEN": "abcdefgh", "HOME": "/home/me", "PIN_PASSWORD": "1234"}
    config = {"tags": ["by abcdefgh", "/home/me"], "data": {"path": "/abcdefgh/1234"}, "seed": 3, "x": None}
    assert redacted(config, environment) == {
        "tags": ["by ***", "/home/me"],
        "data": {"path": "/***/1234"},
        "seed": 3,
        "x": None,
    }
