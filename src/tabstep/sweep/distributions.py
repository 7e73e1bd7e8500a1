"""Search distributions of the swept keys: choices and ranges, as a sampler and as an override see them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from tabstep.errors import UserError


@dataclass(frozen=True)
class Values:
    """One of several values, each as it stands behind the ``=`` of an override."""

    texts: tuple[str, ...]

    def __str__(self) -> str:
        """Write it in Hydra's grammar."""
        return f"choice({','.join(self.texts)})"


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A number from ``low`` to ``high``, both included, in steps of ``step`` if it has one."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    integer: bool = False

    def __str__(self) -> str:
        """Write it in Hydra's grammar."""
        ends = f"{self.text(self.low)},{self.text(self.high)}"
        if self.step is None or (self.integer and self.step == 1):
            inner = f"int(interval({ends}))" if self.integer else f"interval({ends})"
        else:
            step = Decimal(repr(self.step))
            # A stop between two values: whether Hydra includes one that is a sum of binary fractions depends on them.
            stop = Decimal(repr(self.high)) + (1 if self.integer else step / 2)
            inner = f"range({self.text(self.low)},{stop},{step})"
        return f"tag(log,{inner})" if self.log else inner

    def text(self, value: float) -> str:
        """Write a value as it stands behind the ``=`` of an override: six digits, or a whole number of steps.

        >>> Numbers(low=0.1, high=0.5, step=0.1).text(0.30000000000000004)
        '0.3'
        >>> Numbers(low=1e-4, high=1e-2).text(0.00034599600269489693)
        '0.000345996'
        """
        if self.integer:
            return str(round(value))
        if self.step is None:
            # rounding may carry it out of the range
            return repr(min(max(float(f"{value:.6g}"), float(self.low)), float(self.high)))
        steps = round((value - self.low) / self.step)
        # in decimals: sums of binary fractions leave digits that nobody wrote
        return repr(float(Decimal(repr(self.low)) + steps * Decimal(repr(self.step))))


Dimension = Values | Numbers


def ends(dimension: Dimension) -> tuple[str, ...]:
    """Return the values that stand for all: every one of a list, the first and the last of numbers.

    >>> ends(Values(("a", "b", "c"))), ends(Numbers(low=1, high=4, step=1, integer=True))
    (('a', 'b', 'c'), ('1', '4'))
    """
    if isinstance(dimension, Values):
        return dimension.texts
    return dimension.text(dimension.low), dimension.text(dimension.high)


def enumerate_values(key: str, dimension: Dimension) -> tuple[str, ...]:
    """Return the values of a dimension as texts.

    Raises:
        UserError: it is an interval.
    """
    if isinstance(dimension, Values):
        return dimension.texts
    if dimension.step is None:
        raise UserError(
            f"{key}: {dimension} has no end of values: a grid needs choice(...) or range(...), or choose a sampler, "
            "as hparams_search=optuna does"
        )
    steps = round((dimension.high - dimension.low) / dimension.step)
    return tuple(dimension.text(dimension.low + index * dimension.step) for index in range(steps + 1))
