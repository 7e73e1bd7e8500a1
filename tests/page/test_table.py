"""Cells say what they are, and sort by what they mean."""

from __future__ import annotations

import math
import re

from tabstep.page.table import Link, Ranged, heat_table, table


def test_cells_sort_by_their_values() -> None:
    found = table(
        ["name", "score", "count", "link"],
        [["a<b", 0.51234, 1234, Link("tri&al", "a b/é.html")], ["c", None, 5, "plain"], ["d", math.nan, 0, "x"]],
        classes=["failed", "", ""],
    )
    rows = re.findall(r"<tr( class=\"\w+\")?>(<td.*?)</tr>", found)
    assert [kind for kind, _ in rows] == [' class="failed"', "", ""]
    assert re.findall(r'<td class="(\w+)"(?: data-v="([^"]*)")?>(.*?)</td>', rows[0][1]) == [
        ("text", "", "a&lt;b"),
        ("num", "0.51234", "0.5123"),
        ("num", "1234", "1,234"),
        ("text", "", '<a href="a%20b/%C3%A9.html">tri&amp;al</a>'),
    ]
    assert '<td class="num" data-v=""></td>' in rows[1][1]
    assert '<td class="num" data-v="">nan</td>' in rows[2][1]
    assert found.count("<th data-sort") == 4


def test_interval_stands_beside_its_value() -> None:
    found = table(["x"], [[Ranged(0.9, 0.85, 0.95)], [Ranged(0.9, math.nan, math.nan)]])
    assert "0.9000 <small>0.8500 – 0.9500</small>" in found
    assert found.count("<small>") == 1


def test_empty_table_is_nothing() -> None:
    assert table(["x"], []) == ""


def test_heat_is_the_share_of_the_row() -> None:
    found = heat_table(["a", "<b>"], [[3, 1], [0, 0]], "is / taken for")
    assert re.findall(r"/ ([0-9.]+)\)\">(\d+)<br><small>(\d+)%", found) == [
        ("0.413", "3", "75"),
        ("0.138", "1", "25"),
        ("0.000", "0", "0"),
        ("0.000", "0", "0"),
    ]
    assert "&lt;b&gt;" in found
