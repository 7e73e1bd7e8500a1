from __future__ import annotations

from pathlib import Path

import pytest

from tabstep.launch.source.secrets import found_secrets, looks_secret

ROOT = Path(__file__).resolve().parents[3]
SECRETS = {  # written in two parts, for this file is a source file too
    "an AWS access key": "AKIA" + "ABCDEFGHIJKLMNOP",
    "an AWS secret key": "aws_secret_access_key = " + "a1B2" * 10,
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "a GitHub token": "ghp_" + "a1B2" * 9,
    "a GitLab token": "glpat-" + "a1B2" * 5,
    "a Hugging Face token": "hf_" + "a1B2c" * 8,
    "a Slack token": "xoxb-" + "1234567890-abcdefghijkl",
    "an API key": "sk-proj-" + "a1B2" * 10,
    "a password in an address": "https://me:" + "hunter22@packages.example.com/simple",
}


@pytest.mark.parametrize(("what", "text"), SECRETS.items(), ids=list(SECRETS))
def test_a_secret_is_named_by_line_and_never_shown(what: str, text: str) -> None:
    (problem,) = found_secrets("conf/data/mine.yaml", f"path: x\nvalue: {text}\n".encode())
    assert problem == f"conf/data/mine.yaml:2 looks like {what}"


@pytest.mark.parametrize(
    "name", [".env", "src/.env.production", "conf/key.pem", "id_rsa", ".netrc", "credentials", "src/x.key"]
)
def test_a_file_of_secrets_is_known_by_its_name(name: str) -> None:
    assert list(found_secrets(name, b"")) == [f"{name} looks like a file of secrets"]


@pytest.mark.parametrize(
    "text", ["password: ???", "https://user@example.com/x", "s3://bucket/key", "AKIA", "task-force-" * 9, ""]
)
def test_what_only_resembles_a_secret_is_sent(text: str) -> None:
    assert list(found_secrets("conf/x.yaml", text.encode())) == []
    assert list(found_secrets(".env.example", text.encode())) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("conf/local/default.yaml", "hf_token: " + "abcdef"),
        ("conf/local/default.yaml", "db: {user: me, password: " + "'correct horse'}"),
        ("conf/x.yaml", 'DB_PASSWORD = "' + 'hunter22"'),
        ("conf/x.yaml", "password: " + "12345678"),
        ("conf/x.yaml", "password: " + "'#12345678'"),
        ("conf/x.yaml", "passphrase: " + "hunter22"),
        ("conf/x.yaml", "dbPassword: " + "hunter22"),
        ("conf/x.json", '"clientSecret": ' + '"hunter22"'),
        ("conf/x.json", '"api_key": "' + 'abcdef"'),
        ("setup.cfg", "password=" + "hunter22"),
    ],
)
def test_a_key_with_the_name_of_a_secret_is_one_in_a_file_of_keys(name: str, line: str) -> None:
    (problem,) = found_secrets(name, f"a: 1\n{line}\n".encode())
    assert problem.startswith(f"{name}:2 looks like a secret (")
    assert list(found_secrets("src/x.py", line.encode())) == []


@pytest.mark.parametrize(
    "line",
    ["# password: set it there", "token: ${oc.env:TOKEN}", "password: null", "tokens: 2048", "secret: arn:aws:x",
     "password:", "passwords: no", "monkey: banana"],
)  # fmt: skip
def test_a_key_that_refers_to_a_secret_is_none(line: str) -> None:
    assert list(found_secrets("conf/x.yaml", line.encode())) == []


def test_no_source_file_is_refused() -> None:
    files = [
        path
        for part in ("src", "conf")
        for path in (ROOT / part).rglob("*")
        if path.suffix in (".py", ".yaml", ".json")
    ]
    assert [problem for path in files for problem in found_secrets(path.name, path.read_bytes())] == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("DB_PASSWORD", "hunter22", "its name"),
        ("HF_TOKEN", "x", "its name"),
        ("launch.api-key", "x", "its name"),
        ("X", SECRETS["an AWS access key"], "an AWS access key"),
        ("TOKEN_ARN", "arn:aws:secretsmanager:eu-west-1:111122223333:secret:x", None),
        ("tokenizer", "bert", None),
        ("schema.token", "null", None),
        ("max_tokens", "12", None),
        ("optimizer.lr", "0.0003", None),
    ],
)
def test_a_value_of_a_job_is_judged_by_name_and_text(name: str, text: str, expected: str | None) -> None:
    assert looks_secret(name, text) == expected
