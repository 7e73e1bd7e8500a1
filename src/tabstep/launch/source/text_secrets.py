"""What looks like a secret among the texts of a job: everyone who may see the job can read them."""

from __future__ import annotations

from tabstep.launch.source.file_secrets import REFERENCE, SECRET_NAME, secret_in


def looks_secret(name: str, text: str) -> str | None:
    """Return why a value seems to be a secret, or None; what refers to one, as an ARN does, is none.

    >>> looks_secret("DB_PASSWORD", "hunter22"), looks_secret("TOKEN_ARN", "arn:aws:ssm:eu-west-1:1:parameter/x")
    ('its name', None)
    """
    if what := secret_in(text.encode()):
        return what[0]
    return "its name" if SECRET_NAME.search(name) and not REFERENCE.fullmatch(text) else None
