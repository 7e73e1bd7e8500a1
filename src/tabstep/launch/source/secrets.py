"""What looks like a secret in a file that is about to be sent, or in a text that all may read who may see the job."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from tabstep.config.secrets import PATTERNS

MAX_SCANNED: Final = 2 * 2**20
_FILES: Final = (
    ".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519",
    ".netrc", ".pypirc", ".npmrc", ".pgpass", "credentials", "credentials.json", "service_account*.json", "*.kdbx",
)  # fmt: skip
_HARMLESS: Final = ("*.example", "*.sample", "*.template")
_CONTENTS: Final = PATTERNS | {
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"{}<>$]+:[^\s/:@'\"{}<>$]{3,}@[\w.-]+\.\w",
}
_NAME: Final = re.compile(
    r"(?i:(?:^|[_.-])(?:password|passwd|passphrase|pwd|secret|token|(?:api|access|private)[_-]?key|credentials?)"
    r"(?:$|[_.-]))|[a-z0-9](?:Password|Passwd|Passphrase|Secret|Token|(?:Api|Access|Private)Key|Credentials?)(?![a-z])"
)
"""Name of a key whose value is a secret, unless it only refers to one."""
_REFERENCE: Final = re.compile(r"(?i)arn:.*|s3://.*|\$\{.*|\?\?\?|true|false|null|none|~|[0-9.]{0,5}")
"""A value that refers to a secret, or is none."""
_KEYED: Final = ("*.yaml", "*.yml", "*.json", "*.toml", "*.ini", "*.cfg", "*.conf", "*.properties")
"""Files of keys and values; in a program, ``password: str`` is a type."""
_PAIR = re.compile(r"""(?:^|[\s{,])["']?(?P<name>[A-Za-z_][\w.-]*)["']?\s*[:=]\s*["']?(?P<value>[^\s"',}\]]+)""")
_COMMENT = re.compile(r"(?:^|\s)#")
_PATTERNS = {what: re.compile(pattern.encode()) for what, pattern in _CONTENTS.items()}


def found_secrets(name: str, content: bytes) -> Iterator[str]:
    """Say which secret a file seems to be or to hold, and in which line; never the secret itself."""
    path = PurePosixPath(name)
    if any(path.match(pattern) for pattern in _FILES) and not any(path.match(pattern) for pattern in _HARMLESS):
        yield f"{name} looks like a file of secrets"
        return
    keyed = any(path.match(pattern) for pattern in _KEYED)
    if secret := _secret_in(content) or (_named_secret(content) if keyed else None):
        yield f"{name}:{secret[1]} looks like {secret[0]}"


def looks_secret(name: str, text: str) -> str | None:
    """Return why a value of a job seems to be a secret, or None; what refers to one, as an ARN does, is none.

    >>> looks_secret("DB_PASSWORD", "hunter22"), looks_secret("TOKEN_ARN", "arn:aws:ssm:eu-west-1:1:parameter/x")
    ('its name', None)
    """
    if what := _secret_in(text.encode()):
        return what[0]
    return "its name" if _is_secret(name, text) else None


def _secret_in(content: bytes) -> tuple[str, int] | None:
    """Return what the first secret is, and its line."""
    for what, pattern in _PATTERNS.items():
        match = pattern.search(content[:MAX_SCANNED])
        if match is not None:
            return what, content.count(b"\n", 0, match.start()) + 1
    return None


def _named_secret(content: bytes) -> tuple[str, int] | None:
    """Return what the first key is whose name says that its value is a secret, and its line; comments do not count."""
    lines = content[:MAX_SCANNED].decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        for pair in _PAIR.finditer(_COMMENT.split(line)[0]):
            if _is_secret(pair["name"], pair["value"]):
                return f"a secret ({pair['name']})", number
    return None


def _is_secret(name: str, value: str) -> bool:
    return _NAME.search(name) is not None and _REFERENCE.fullmatch(value) is None
