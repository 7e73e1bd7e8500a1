"""A picture is an SVG element whose colours and font are the page's."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tabstep.page.pictures import SERIES, axes, styled, to_svg

pytest.importorskip("matplotlib")
HOSTILE = '$x_1</text><script>"&'


def draw() -> str:
    with styled():
        figure, panel = axes()
        panel.plot([0, 1], [0, 1], color=SERIES[1], label=HOSTILE)
        panel.set(xlabel=HOSTILE, ylabel="東京 🗼")
        panel.legend()
        return to_svg(figure, HOSTILE)


def test_picture_is_one_element_in_the_colours_of_the_theme() -> None:
    svg = draw()
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("aria-label") == HOSTILE
    assert root.get("width") is None
    assert root.get("viewBox") is not None
    assert "var(--c1)" in svg
    assert "var(--ink)" in svg
    assert "#0000" not in svg
    assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert HOSTILE in texts
    assert "東京 🗼" in texts


def test_ids_are_those_that_something_points_to() -> None:
    svg = draw()
    ids = {element.get("id") for element in ElementTree.fromstring(svg).iter() if element.get("id")}
    assert ids
    assert all(f"#{name}" in svg for name in ids)


def test_same_picture_is_the_same_text() -> None:
    assert draw() == draw()
