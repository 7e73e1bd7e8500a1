"""The frame of a page: its head, style and script, and its sections. Texts are escaped here and in ``table``."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any, Final

from tabstep.system.sanitize import printable

_STYLE: Final = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
_SCRIPT: Final = files(__package__).joinpath("page.js").read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page with a heading; ``parts`` are HTML."""

    title: str
    parts: Sequence[str]

    @property
    def anchor(self) -> str:
        """What a link in the page points to."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


def text(value: Any) -> str:
    r"""Return a text of others as HTML: neither a tag nor a control character of it survives.

    >>> text("<b>\x1b&") == "&lt;b&gt;\N{REPLACEMENT CHARACTER}&amp;"
    True
    """
    return escape(printable(str(value)))


def document(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """Return a whole page; the browser is told to run its one script and nothing else, and to load nothing.

    Args:
        lead: HTML below the heading.
    """
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    some = [section for section in sections if any(section.parts)]
    links = " ".join(f'<a href="#{section.anchor}">{text(section.title)}</a>' for section in some)
    body = [
        f'<section id="{section.anchor}"><h2>{text(section.title)}</h2>\n' + "\n".join(section.parts) + "\n</section>"
        for section in some
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{text(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{text(title)}</h1>",
            *lead,
            f"<nav>{links}</nav>",
            *body,
            f"<script>{_SCRIPT}</script>",
            "</body></html>",
            "",
        ]
    )


def paragraph(words: str, *, kind: str = "") -> str:
    """Return a paragraph of plain text; ``kind`` is a class of the style sheet."""
    return f'<p class="{kind}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>"


def command(words: str) -> str:
    """Return a command to copy."""
    return f"<pre><code>{text(words)}</code></pre>"


def figure(picture: str, caption: str, *, wide: bool = False) -> str:
    """Return a picture, HTML or SVG, with a caption below."""
    return f"<figure{' class=wide' if wide else ''}>{picture}<figcaption>{text(caption)}</figcaption></figure>"


def grid(parts: Sequence[str]) -> str:
    """Return parts beside each other where there is room, else below each other."""
    return f'<div class="grid">{"".join(parts)}</div>' if parts else ""


def folded(title: str, parts: Sequence[str]) -> str:
    """Return parts that open with a click."""
    return f"<details><summary>{text(title)}</summary>{''.join(parts)}</details>"


def data_attribute(values: Any) -> str:
    """Return JSON as the value of an attribute, in quotes."""
    return f'"{escape(json.dumps(values, separators=(",", ":"), allow_nan=False))}"'
