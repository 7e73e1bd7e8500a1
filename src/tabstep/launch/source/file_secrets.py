"""What looks like a secret in a file that is about to be sent."""

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
_PATTERNS = {what: re.compile(pattern.encode()) for what, pattern in _CONTENTS.items()}


def found_secrets(name: str, content: bytes) -> Iterator[str]:
    """Say which secret a file seems to be or to hold, and in which line; never the secret itself."""
    path = PurePosixPath(name)
    if any(path.match(pattern) for pattern in _FILES) and not any(path.match(pattern) for pattern in _HARMLESS):
        yield f"{name} looks like a file of secrets"
        return
    if found := secret_in(content):
        yield f"{name}:{found[1]} looks like {found[0]}"


def secret_in(content: bytes) -> tuple[str, int] | None:
    r"""Return what the first secret is, and its line.

    >>> secret_in(b"a: 1\n-----BEGIN " + b"PRIVATE KEY-----")
    ('a private key', 2)
    """
    for what, pattern in _PATTERNS.items():
        match = pattern.search(content[:MAX_SCANNED])
        if match is not None:
            return what, content.count(b"\n", 0, match.start()) + 1
    return None
