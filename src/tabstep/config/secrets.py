"""What looks like a secret: a configuration is stored with each run, so it must hold none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

PATTERNS: Final = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "an AWS secret key": r"(?i)aws_?(?:secret|session)\w{0,20}['\"]?\s*[:=]\s*['\"]?[A-Za-z0-9/+]{40}",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22,})",
    "a GitLab token": r"\bglpat-[\w-]{20}",
    "a Hugging Face token": r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}",
    "a Slack token": r"\bxox[abprs]-[0-9]{8,}-[\w-]{10,}",
    "an API key": r"\bsk-(?:[a-z]+-)?[A-Za-z0-9_-]{32,}",
}
"""By what it is; also of files that are sent. Nothing but a secret looks like one of these."""

_IN_VALUES: Final = PATTERNS | {
    "a password in an address": r"://[^\s/:@]+:[^\s@]{3,}@",
    "a signed address": r"(?i)[?&](?:x-amz-(?:signature|security-token)|sig(?:nature)?|token|secret|password)=[^&\s]+",
    "a password or key": r"(?i)(?:^|[\s_.-])(?:password|passwd|secret|token|api[ _-]?key)\s*[:=]\s*\S{6,}",
}
_COMPILED: Final = {what: re.compile(pattern) for what, pattern in _IN_VALUES.items()}
_NAME: Final = re.compile(r"(?i)(?:^|_)(?:password|passwd|secret|token|key|credentials?)(?:_|$)")
_SHORTEST: Final = 6  # a shorter value stands in other words, too
_HIDDEN: Final = "***"


def secret_problems(config: Any, path: str = "") -> Iterator[str]:
    """Yield one line for each text that looks like a secret, without the text.

    >>> list(secret_problems({"data": {"train": "s3://me:pass@bucket/a"}}))[0].partition(": it")[0]
    'data.train: holds a password in an address'
    """
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from secret_problems(value, f"{path}.{key}".lstrip("."))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from secret_problems(value, f"{path}[{index}]")
    elif isinstance(config, str):
        what = next((what for what, pattern in _COMPILED.items() if pattern.search(config)), None)
        if what is not None:
            yield f"{path}: holds {what}: it would be stored with the run: leave it to the environment of the process"


def redacted(config: Any, environment: Mapping[str, str]) -> Any:
    """Return a copy in which the values of environment variables with a secret's name are hidden.

    >>> redacted({"tags": ["by hunter22"]}, {"DB_PASSWORD": "hunter22"})
    {'tags': ['by ***']}
    """
    secrets = [text for name, text in environment.items() if _NAME.search(name) and len(text) >= _SHORTEST]
    return _without(config, secrets) if secrets else config


def hidden(config: Any) -> Any:
    """Return a copy in which what looks like a secret is hidden, by its form or by the name of its key.

    >>> hidden({"tags": ["s3://me:hunter22@bucket"], "api_key": "x", "lr": 0.1})
    {'tags': ['s3***bucket'], 'api_key': '***', 'lr': 0.1}
    """
    if isinstance(config, Mapping):
        return {key: _HIDDEN if _NAME.search(str(key)) else hidden(value) for key, value in config.items()}
    if isinstance(config, list):
        return [hidden(item) for item in config]
    if isinstance(config, str):
        for pattern in _COMPILED.values():
            config = pattern.sub(_HIDDEN, config)
    return config


def _without(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, secrets) for item in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, _HIDDEN)
    return value
