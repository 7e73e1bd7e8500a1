"""The pictures of a run's page: its epochs, its curves, its probabilities, what its columns do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from tabstep.analysis.curves import Curve, Reliability, thinned
from tabstep.analysis.dependence import Dependence
from tabstep.analysis.permutation import Importance
from tabstep.page.pictures import LINE, MUTED, SERIES, axes
from tabstep.system.sanitize import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS: Final = 120
MOST_COLUMNS: Final = 20
MOST_CLASSES: Final = 8
_BINS: Final = 25
_NAME: Final = 22
Row = Mapping[str, float]


def history(rows: Sequence[Row], metric: str, best_epoch: float) -> Figure:
    """Draw one score of train and val by epoch, and where the exported epoch is."""
    from matplotlib.ticker import MaxNLocator

    figure, panel = axes()
    for color, split in zip(SERIES, ("train", "val"), strict=False):
        key = f"{split}_{metric}"
        some = [(row["epoch"], row[key]) for row in rows if key in row]
        if some:
            panel.plot(*zip(*some, strict=True), color=color, label=split, marker="." if len(some) < 30 else "")
    panel.axvline(best_epoch, color=MUTED, linewidth=0.8, linestyle="--", label="exported")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(rows) == 1:  # around which nothing is
        panel.set(xlim=(rows[0]["epoch"] - 1, rows[0]["epoch"] + 1))
    panel.set(xlabel="epoch", ylabel=metric.replace("_", " "))
    panel.legend()
    return figure


def roc(curves: Mapping[str, Curve]) -> Figure:
    """Draw the share of positives that are found against that of negatives that are not left alone."""
    figure, panel = axes(3.6)
    for color, (name, curve) in zip(SERIES, curves.items(), strict=False):
        panel.plot(*thinned(curve.fpr, curve.tpr, POINTS), color=color, label=short(name))
    panel.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle="--")
    panel.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    panel.legend(loc="lower right")
    return figure


def precision_recall(curves: Mapping[str, Curve]) -> Figure:
    """Draw precision against recall."""
    figure, panel = axes(3.6)
    for color, (name, curve) in zip(SERIES, curves.items(), strict=False):
        recall, precision = thinned(curve.tpr[1:], curve.precision[1:], POINTS)
        panel.plot(recall, precision, color=color, label=short(name))
    panel.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    panel.legend(loc="lower left")
    return figure


def calibration(found: Mapping[str, Reliability]) -> Figure:
    """Draw how often what is predicted with a probability comes true; a larger point stands for more rows."""
    figure, panel = axes(3.6)
    panel.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle="--")
    for color, (name, bins) in zip(SERIES, found.items(), strict=False):
        panel.plot(bins.predicted, bins.share, color=color, linewidth=1.0, label=printable(name))
        sizes = 60 * bins.rows / bins.rows.max() + 6
        panel.scatter(bins.predicted, bins.share, s=sizes, color=color, linewidths=0)
    panel.set(xlabel="mean probability", ylabel="share that comes true", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    panel.legend(loc="upper left")
    return figure


def score_histogram(groups: Mapping[str, NDArray[np.floating]], label: str) -> Figure:
    """Draw how probabilities are spread, for each group of rows."""
    figure, panel = axes()
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    for color, (name, values) in zip(SERIES, groups.items(), strict=False):
        counts = np.histogram(values, edges)[0]
        panel.stairs(counts, edges, color=color, fill=True, alpha=0.35)
        panel.stairs(counts, edges, color=color, label=f"{short(name)} ({len(values):,})")
    panel.set(xlabel=label, ylabel="rows", xlim=(0, 1))
    panel.legend()
    return figure


def importance(found: Sequence[Importance], metric: str) -> Figure:
    """Draw the mean fall of the score for the first columns, with the spread of the permutations."""
    some = found[:MOST_COLUMNS]
    longest = max(len(short(each.column)) for each in some)
    figure, panel = axes(0.7 + 0.24 * len(some), left=0.25 + 0.075 * longest)
    places = range(len(some))
    means, spreads = [each.mean for each in some], [each.std for each in some]
    panel.barh(places, means, xerr=spreads, color=SERIES[0], ecolor=MUTED, height=0.7)
    panel.set_yticks(places, [short(each.column) for each in some])
    panel.invert_yaxis()
    panel.grid(visible=False, axis="y")
    panel.set(xlabel=f"fall of {metric.replace('_', ' ')} when permuted")
    return figure


def dependence(found: Dependence, classes: Sequence[str], shown: Sequence[int]) -> Figure:
    """Draw the mean probability of some classes by the value of a column."""
    from matplotlib.ticker import MaxNLocator

    turned = not found.numeric and _turned(found)
    figure, panel = axes(3.1 if turned else 2.6, bottom=1.05 if turned else 0.45)
    for color, place in zip(SERIES, shown, strict=False):
        means = [row[place] for row in found.means]
        positions = [float(value) for value in found.values if isinstance(value, float)]
        if not found.numeric:
            positions = [float(index) for index in range(len(means))]
        panel.plot(positions, means, color=color, marker=".", linestyle="-" if found.numeric else "")
        panel.lines[-1].set_label(short(classes[place]))
    if found.numeric:
        panel.xaxis.set_major_locator(MaxNLocator(5))
    else:
        panel.set_xlim(-0.5, len(found.values) - 0.5)
        _name_places(panel, _value_names(found), turned=turned)
    # of one series its name stands at the axis: the dot of a legend would look like one more value
    of = f" of {short(classes[shown[0]], 16)}" if len(shown) == 1 else ""
    panel.set(xlabel=short(found.column, 40), ylabel=f"mean probability{of}")
    panel.margins(y=0.15)
    if len(shown) > 1:
        panel.legend()
    return figure


def _value_names(found: Dependence) -> list[str]:
    return ["missing" if value is None else short(str(value), 16) for value in found.values]


def _turned(found: Dependence) -> bool:
    return sum(map(len, _value_names(found))) > 36


def _name_places(panel: Axes, labels: Sequence[str], *, turned: bool) -> None:
    panel.set_xticks(
        range(len(labels)), labels, rotation=40 if turned else 0, ha="right" if turned else "center", fontsize=8
    )
    panel.grid(visible=True, axis="y", color=LINE)


def short(name: str, most: int = _NAME) -> str:
    """Return a name that fits beside a picture: names that begin alike differ at their ends.

    >>> short("curricular_units_2nd_sem_grade")
    'curricular_…_sem_grade'
    """
    name = printable(name)
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-((most - 1) // 2) :]}"
