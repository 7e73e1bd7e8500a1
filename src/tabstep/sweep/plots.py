"""Pictures of a sweep: its history, each key against the objective, and all keys at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from tabstep.errors import UserError
from tabstep.page.pictures import INK, MUTED, PAPER, SERIES, can_draw, styled
from tabstep.sweep.distributions import Dimension
from tabstep.sweep.leaderboard import best_trial, standings
from tabstep.sweep.ledger import Ledger, Trial
from tabstep.sweep.plot_axes import Axis, axis_of, shorten
from tabstep.sweep.seeds import varied
from tabstep.system.sanitize import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_KEYS: Final = 12
"""Keys that are drawn, the most important ones."""
_BLUE, _RED, _MAP = SERIES[0], SERIES[1], "viridis"


def figures(ledger: Ledger, dimensions: Mapping[str, Dimension], shares: Mapping[str, float]) -> dict[str, Figure]:
    """Return the pictures that a sweep has the trials for, by name.

    Args:
        shares: importance of each key; empty where nothing is known of it.

    Raises:
        UserError: matplotlib is not installed.
    """
    if not can_draw():
        raise UserError("plots need the package matplotlib: pip install 'tabstep[report]'")
    scored = [trial for trial in ledger.trials if trial.finished and trial.values]
    if not scored:
        return {}
    varying = [key for key in varied(dimensions) if len({trial.params[key] for trial in scored}) > 1]
    keys = sorted(varying, key=lambda key: -shares.get(key, 0.0))[:MOST_KEYS]
    axes = [axis_of(key, dimensions[key], scored) for key in keys]
    with styled():
        drawn = {"history": history(ledger)}
        # one epoch is no curve
        if sum(len(trial.curve) > 1 for trial in ledger.trials) > 0:
            drawn["curves"] = curves(ledger)
        if len(ledger.header.objectives) > 1:
            drawn["front"] = front(ledger)
        if axes:
            drawn |= {"slices": slices(ledger, scored, axes), "parallel": parallel(ledger, scored, axes)}
        if shares:
            drawn["importance"] = importance(ledger, shares)
    return drawn


def best_so_far(trials: Sequence[Trial], sign: float) -> list[float]:
    """Return the best first objective up to each of the trials; ``sign`` is -1 where smaller is better."""
    best: list[float] = []
    for trial in trials:
        value = trial.values[0]
        best.append(value if not best or sign * value > sign * best[-1] else best[-1])
    return best


def history(ledger: Ledger) -> Figure:
    """Draw the objective of each trial in their order, with the best up to each."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(5.6, 3.4)
    axes = figure.add_subplot()
    scored = [trial for trial in ledger.trials if trial.finished and trial.values]
    for state, marker, color in (("complete", "o", _BLUE), ("pruned", "x", MUTED)):
        some = [trial for trial in scored if trial.state == state]
        if some:
            numbers, values = [trial.number for trial in some], [trial.values[0] for trial in some]
            axes.scatter(numbers, values, marker=marker, color=color, s=28, label=state, zorder=3)
    axes.step(
        [trial.number for trial in scored],
        best_so_far(scored, ledger.sign),
        where="post",
        color=_RED,
        label="best so far",
    )
    failed = [trial.number for trial in ledger.trials if trial.state == "failed"]
    if failed:
        # at the lower edge: a failed trial has no value
        axes.plot(failed, [0.02] * len(failed), "^", color=_RED, transform=axes.get_xaxis_transform(), label="failed")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel=ledger.header.objectives[0])
    axes.legend(fontsize=8)
    return figure


def curves(ledger: Ledger) -> Figure:
    """Draw the best first objective up to each epoch, a line a trial; the best trial is drawn thick."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(5.6, 3.4)
    axes = figure.add_subplot()
    best = best_trial(ledger)
    for trial in ledger.trials:
        known = [(epoch, value) for epoch, value in enumerate(trial.curve, start=1) if value is not None]
        if known and trial is not best:
            style = "--" if trial.state == "pruned" else "-"
            axes.plot(*zip(*known, strict=True), color=MUTED, linewidth=0.9, alpha=0.6, linestyle=style)
    if best is not None and best.curve:
        values = [float("nan") if value is None else value for value in best.curve]
        epochs = range(1, len(values) + 1)
        axes.plot(epochs, values, color=_RED, linewidth=2.2, label=f"best: trial {best.number}", zorder=4)
        axes.legend(fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=f"best {ledger.header.objectives[0]} so far")
    return figure


def front(ledger: Ledger) -> Figure:
    """Draw the first two objectives against each other, with the trials that none other beats in both."""
    figure = _figure(6.0, 4.4)
    axes = figure.add_subplot()
    found = [standing for standing in standings(ledger) if standing.rank is not None]
    points = [tuple(standing.trial.values[:2]) for standing in found]
    unbeaten = sorted(point for point, standing in zip(points, found, strict=True) if standing.front == 1)
    axes.scatter([x for x, _ in points], [y for _, y in points], color=MUTED, s=22)
    axes.plot([x for x, _ in unbeaten], [y for _, y in unbeaten], "o-", color=_RED, label="beaten by none")
    axes.set(xlabel=ledger.header.objectives[0], ylabel=ledger.header.objectives[1])
    axes.legend(fontsize=8)
    return figure


def slices(ledger: Ledger, trials: Sequence[Trial], scales: Sequence[Axis]) -> Figure:
    """Draw each key against the objective; later trials are lighter."""
    from matplotlib.ticker import MaxNLocator

    columns = min(3, len(scales))
    rows = -(-len(scales) // columns)
    figure = _figure(1.5 + 3.0 * columns, 0.6 + 2.6 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    values = [trial.values[0] for trial in trials]
    for index, panel in enumerate(panels.flat):
        if index >= len(scales):
            panel.set_visible(False)
            continue
        scale = scales[index]
        points = panel.scatter(
            scale.positions,
            values,
            c=[trial.number for trial in trials],
            cmap=_MAP,
            s=22,
            marker="o",
            edgecolors="#00000055",
            linewidths=0.5,
        )
        _mark_scale(panel, scale)
        panel.set_xlabel(_name(scale.key))
        if index % columns == 0:
            panel.set_ylabel(ledger.header.objectives[0])
    figure.colorbar(points, ax=panels, label="trial", shrink=0.8, ticks=MaxNLocator(integer=True))
    return figure


def _mark_scale(panel: Axes, scale: Axis) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if scale.labels:
        shown = scale.shown_labels()
        turned = sum(len(label) for label in shown.values()) > 24
        panel.set_xticks(
            list(shown), list(shown.values()), rotation=35 if turned else 0, ha="right" if turned else "center"
        )
        panel.set_xlim(-0.5, len(scale.labels) - 0.5)
    elif scale.log:
        panel.set_xscale("log")
        if max(scale.positions) < 100 * min(scale.positions):  # else a single power of ten would have a label
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # the usual one writes formulas
        panel.xaxis.set_minor_formatter(NullFormatter())
    elif scale.integer:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def parallel(ledger: Ledger, trials: Sequence[Trial], scales: Sequence[Axis]) -> Figure:
    """Draw each trial as a line through its values, coloured by its objective; the best one is drawn thick."""
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    values = [trial.values[0] for trial in trials]
    columns = [*scales, Axis(key=ledger.header.objectives[0], positions=tuple(values))]
    figure = _figure(2.0 + 1.5 * len(columns), 4.4)
    axes = figure.add_subplot()
    norm, colors = Normalize(min(values), max(values)), matplotlib.colormaps[_MAP]
    lines = list(zip(*(column.heights() for column in columns), strict=True))
    # Bad trials first, so that the good ones lie above them.
    for index in sorted(range(len(trials)), key=lambda index: ledger.sign * values[index]):
        axes.plot(lines[index], color=colors(norm(values[index])), linewidth=1.0, alpha=0.7)
    best = best_trial(ledger)
    if best is not None:
        line = lines[[trial.number for trial in trials].index(best.number)]
        axes.plot(line, color=_RED, linewidth=2.4, label=f"best: trial {best.number}")
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False)
    _draw_columns(axes, columns)
    figure.colorbar(ScalarMappable(norm, _MAP), ax=axes, label=columns[-1].key, shrink=0.85)
    return figure


def _draw_columns(axes: Axes, columns: Sequence[Axis]) -> None:
    box = {"facecolor": PAPER, "alpha": 0.7, "linewidth": 0, "pad": 0.6}
    for place, column in enumerate(columns):
        axes.axvline(place, color=INK, linewidth=0.8)
        for height, text in column.ticks():
            axes.annotate(
                text, (place, height), (4, 0), textcoords="offset points", fontsize=7, va="center", bbox=box, zorder=4
            )
    axes.set(xlim=(-0.15, len(columns) - 0.55), ylim=(-0.04, 1.04), yticks=[])
    axes.set_xticks(range(len(columns)), [_name(column.key) for column in columns], rotation=20, ha="right")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def importance(ledger: Ledger, shares: Mapping[str, float]) -> Figure:
    """Draw the share of each key as a bar."""
    some = dict(list(shares.items())[:MOST_KEYS])
    figure = _figure(6.5, 0.9 + 0.34 * len(some))
    axes = figure.add_subplot()
    places = range(len(some))
    bars = axes.barh(places, list(some.values()), color=_BLUE)
    axes.bar_label(bars, [f"{share:.0%}" for share in some.values()], padding=3)
    axes.set_yticks(places, [_name(key) for key in some])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.12 * max(some.values())), xlabel=f"importance for {ledger.header.objectives[0]}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _name(key: str) -> str:
    return shorten(printable(key.lstrip("+")), 32)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
