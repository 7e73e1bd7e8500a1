"""Axes of the sweep plots: values of trials as numbers, as magnitudes or as a list of names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tabstep.sweep.distributions import Dimension, Numbers
from tabstep.sweep.leaderboard import plain_value
from tabstep.sweep.ledger import Trial
from tabstep.system.sanitize import printable

_LABELS: Final = 12
_TICKS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Where each trial stands for one key: at a number or, with ``labels``, at the index of its label."""

    key: str
    positions: Sequence[float]
    labels: Sequence[str] = ()
    log: bool = False
    integer: bool = False

    def heights(self) -> list[float]:
        """Return the positions between 0 and 1; all at one half where they are equal.

        >>> Axis(key="lr", positions=(1, 100, 10), log=True).heights()
        [0.0, 1.0, 0.5]
        """
        low, high = self._ends()
        return [self._height(position, low, high) for position in self.positions]

    def ticks(self) -> list[tuple[float, str]]:
        """Return a few heights with what they stand for; whole numbers where there are no others.

        >>> Axis(key="depth", positions=(1, 4, 2), integer=True).ticks()[1]
        (0.3333333333333333, '2')
        """
        low, high = self._ends()
        if self.labels:
            return [(self._height(place, low, high), text) for place, text in self.shown_labels().items()]
        if low == high:
            return [(0.5, f"{low:.4g}")]
        shares = [index / (_TICKS - 1) for index in range(_TICKS)]
        # at equal distances of the logarithm
        values = [low ** (1 - share) * high**share if self.log else low + share * (high - low) for share in shares]
        if self.integer:
            return [
                (self._height(whole, low, high), str(whole)) for whole in sorted({round(value) for value in values})
            ]
        return [(share, f"{value:.{3 if self.log else 4}g}") for share, value in zip(shares, values, strict=True)]

    def shown_labels(self) -> dict[int, str]:
        """Return the labels that there is room for, by index."""
        step = -(-len(self.labels) // _LABELS)
        return {index: shorten(label, 16) for index, label in enumerate(self.labels) if index % step == 0}

    def _ends(self) -> tuple[float, float]:
        return (0.0, len(self.labels) - 1.0) if self.labels else (min(self.positions), max(self.positions))

    def _height(self, position: float, low: float, high: float) -> float:
        if low == high:
            return 0.5
        if self.log:
            low, high, position = math.log(low), math.log(high), math.log(position)
        return (position - low) / (high - low)


def axis_of(key: str, dimension: Dimension, trials: Sequence[Trial]) -> Axis:
    """Return the axis of a key; numbers of a list are sorted and stand at equal distances.

    >>> from tabstep.sweep.distributions import Values
    >>> trials = [
    ...     Trial(number=index, state="complete", params={"width": text}, overrides=(), directory="")
    ...     for index, text in enumerate(["16", "256", "32"])
    ... ]
    >>> axis = axis_of("width", Values(("256", "16", "32")), trials)
    >>> axis.labels, axis.positions
    (('16', '32', '256'), (0.0, 2.0, 1.0))
    """
    texts = [trial.params[key] for trial in trials]
    if isinstance(dimension, Numbers):
        return Axis(key=key, positions=tuple(map(float, texts)), log=dimension.log, integer=dimension.integer)
    names = list(dict.fromkeys([*dimension.texts, *texts]))
    values: list[Any] = [plain_value(name) for name in names]
    if all(isinstance(value, int | float) for value in values):
        names = [name for _, name in sorted(zip(values, names, strict=True))]
    places = {name: float(index) for index, name in enumerate(names)}
    labels = tuple(printable(str(plain_value(name))) for name in names)
    return Axis(key=key, positions=tuple(places[text] for text in texts), labels=labels)


def shorten(text: str, length: int) -> str:
    """Return a text of at most ``length`` characters, without its middle.

    >>> shorten("callbacks.checkpoint.every_n_steps", 20)
    'callbacks.…y_n_steps'
    """
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]}…{text[half + 1 - length :]}"
