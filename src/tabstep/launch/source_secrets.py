"""What looks like a secret in a file that is about to be sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

MAX_SCANNED: Final = 2 * 2**20
_FILES: Final = (
    ".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519",
    ".netrc", ".pypirc", ".npmrc", ".pgpass", "credentials", "credentials.json", "service_account*.json", "*.kdbx",
)  # fmt: skip
_HARMLESS: Final = ("*.example", "*.sample", "*.template")
_CONTENTS: Final = {
    "an AWS access key": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "an AWS secret key": rb"(?i)aws_?(?:secret|session)\w{0,20}['\"]?\s*[:=]\s*['\"]?[A-Za-z0-9/+]{40}",
    "a private key": rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a GitHub token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22,})",
    "a GitLab token": rb"\bglpat-[\w-]{20}",
    "a Hugging Face token": rb"\bhf_[A-Za-z0-9]{34}\b",
    "a Slack token": rb"\bxox[abprs]-[0-9]{8,}-[\w-]{10,}",
    "an API key": rb"\bsk-(?:[a-z]+-)?[A-Za-z0-9_-]{32,}",
    "a password in an address": rb"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"{}<>$]+:[^\s/:@'\"{}<>$]{3,}@[\w.-]+\.\w",
}
_PATTERNS = {what: re.compile(pattern) for what, pattern in _CONTENTS.items()}


def found_secrets(name: str, content: bytes) -> Iterator[str]:
    """Say which secret a file seems to be or to hold, and in which line; never the secret itself."""
    path = PurePosixPath(name)
    if any(path.match(pattern) for pattern in _FILES) and not any(path.match(pattern) for pattern in _HARMLESS):
        yield f"{name} looks like a file of secrets"
        return
    if found := secret_in(content):
        yield f"{name}:{found[1]} looks like {found[0]}"


def secret_in(content: bytes) -> tuple[str, int] | None:
    """Return what the first secret is, and its line.

    >>> secret_in(b"a: 1\n-----BEGIN " + b"PRIVATE KEY-----")
    ('a private key', 2)
    """
    for what, pattern in _PATTERNS.items():
        match = pattern.search(content[:MAX_SCANNED])
        if match is not None:
            return what, content.count(b"\n", 0, match.start()) + 1
    return None
