"""A page holds what it is given, harmless, and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.page.document import Section, command, data_attribute, document, folded, grid, paragraph, text

HOSTILE = "</script><script>alert(1)</script>\x1b[2J"


class Page(HTMLParser):
    """Collects the tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_cannot_leave_their_place() -> None:
    section = Section(title=HOSTILE, parts=[paragraph(HOSTILE), command(HOSTILE), folded(HOSTILE, [grid(["x"])])])
    page = document(HOSTILE, [paragraph(HOSTILE)], [section])
    assert "\x1b" not in page
    parsed = Page(page)
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert "<script>alert(1)</script>" in parsed.text


@given(st.text())
def test_any_text_stays_text(words: str) -> None:
    parsed = Page(f"<p>{text(words)}</p>")
    assert [tag for tag, _ in parsed.tags] == ["p"]


@given(st.recursive(st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)))
def test_data_in_an_attribute_goes_round(data: object) -> None:
    parsed = Page(f"<div data-x={data_attribute(data)}>")
    assert json.loads(str(parsed.tags[0][1]["data-x"])) == data


def test_policy_allows_the_one_script_and_no_address() -> None:
    page = document("t", [], [Section(title="a b", parts=["<p>x</p>"]), Section(title="empty", parts=["", ""])])
    parsed = Page(page)
    policy = next(attrs["content"] for tag, attrs in parsed.tags if attrs.get("http-equiv"))
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert not {"link", "img", "iframe"} & {tag for tag, _ in parsed.tags}
    assert "http" not in page.replace("http-equiv", "")
    anchors = [attrs["href"] for tag, attrs in parsed.tags if tag == "a"]
    assert anchors == ["#a-b"]
    assert [attrs["id"] for tag, attrs in parsed.tags if tag == "section"] == ["a-b"]


def test_dark_and_narrow_have_their_styles() -> None:
    page = document("t", [], [])
    assert "@media (prefers-color-scheme: dark)" in page
    assert "@media (max-width" in page
    assert 'name="viewport"' in page


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_lacks_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        data_attribute([value])
