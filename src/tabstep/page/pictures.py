"""Pictures of matplotlib as SVG inside a page: its text stays text, and its colours are those of the page's theme."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from tabstep.page.document import text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The colours of the light theme. In a page they become names of the style sheet, which knows light from dark.
INK, MUTED, LINE, PAPER = "#1c2126", "#5d6873", "#d9dee3", "#ffffff"
SERIES: Final = ("#2f6fb0", "#cf5a36", "#2b8f58", "#8157bd", "#a67c00", "#bd3f77", "#2a8794", "#6b7278")
_NAMES: Final = {INK: "ink", "#000000": "ink", MUTED: "muted", LINE: "line", PAPER: "paper"} | {
    color: f"c{place}" for place, color in enumerate(SERIES)
}
_STYLE: Final[dict[Any, Any]] = {
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "font.size": 9,
    "patch.edgecolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "tabstep",  # ids by this and not by chance: the same picture is the same text
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a name is no formula
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}
DPI: Final = 110
_MAGNIFIED: Final = 1.3
WIDTH: Final = 4.6
"""Inches: as wide as a phone, where the text of a wider picture would shrink."""


def can_draw() -> bool:
    """Tell whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save in the style of the page."""
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the page's own font may have what matplotlib's lacks
        yield


def axes(height: float = 3.0, *, left: float = 0.62, bottom: float = 0.45) -> tuple[Figure, Axes]:
    """Return an empty picture of the page's width; margins are in inches.

    They are given, since matplotlib would find them by drawing everything twice.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    figure.subplots_adjust(left=left / WIDTH, right=1 - 0.1 / WIDTH, bottom=bottom / height, top=1 - 0.1 / height)
    return figure, figure.add_subplot()


def to_svg(figure: Figure, words: str) -> str:
    """Return a picture as an SVG element; ``words`` say what it shows to those who do not see it."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    svg = out.getvalue()[out.getvalue().index("<svg") :]
    svg = re.sub(r"<!--.*?-->\n?|<metadata>.*?</metadata>\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[a-zA-Z0-9_.]+">', "<g>", svg)  # the same in every picture, and nothing points to them
    svg = re.sub("|".join(_NAMES), lambda found: f"var(--{_NAMES[found[0]]})", svg)
    # without a size of its own, the picture takes that of the page
    svg = re.sub(r' (?:width|height)="[0-9.]+pt"', "", svg, count=2)
    widest = f"max-width: {_MAGNIFIED * figure.get_figwidth():.1f}in"
    return svg.replace("<svg", f'<svg role="img" aria-label="{text(words)}" style="{widest}"', 1).strip()


def to_png(figure: Figure) -> bytes:
    """Return a picture as a PNG file, in the light theme."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI)
    return out.getvalue()
