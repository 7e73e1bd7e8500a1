"""Progress of a sweep: a live table on a terminal, one line a change in a log, the leaderboard at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tabstep.log_lines import duration, number
from tabstep.sweep.leaderboard import Standing, plain_value, standings
from tabstep.sweep.ledger import Ledger, Trial
from tabstep.sweep.trial import read_progress
from tabstep.system.terminal import Terminal

SHOWN_ROWS = 30
STYLES = {"running": "cyan", "complete": "green", "pruned": "yellow", "failed": "red", "interrupted": "magenta"}


class Lines:
    """One line for each trial that starts and ends."""

    def __init__(self, ledger: Ledger, total: int) -> None:
        self.ledger, self.total = ledger, total

    def started(self, trial: Trial) -> None:
        """Print what is run."""
        print(f"trial {trial.number}: {described(trial)}", flush=True)

    def ended(self, trial: Trial) -> None:
        """Print its result."""
        print(f"trial {trial.number}: {result(self.ledger, trial)}", flush=True)

    def note(self, text: str) -> None:
        """Print it."""
        print(text, flush=True)

    def refresh(self) -> None:
        """Do nothing: a log is not written twice."""


class LiveTable(Lines):
    """One table of all trials, for trials that do not print themselves."""

    def __init__(self, ledger: Ledger, total: int, console: Console | None = None) -> None:
        super().__init__(ledger, total)
        self.began: dict[int, float] = {}
        # drawn when the loop looks: each drawing reads the files of the running trials
        self.live = Live(console=console or Terminal(), get_renderable=self.table, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveTable:
        """Take the lower part of the terminal."""
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self.live.stop()

    def started(self, trial: Trial) -> None:
        """Show the trial as running."""
        self.began[trial.number] = time.monotonic()
        self.live.refresh()

    def ended(self, trial: Trial) -> None:
        """Show its result."""
        self.began.pop(trial.number, None)
        self.live.refresh()

    def note(self, text: str) -> None:
        """Print it above the table."""
        self.live.console.print(escape(text))

    def refresh(self) -> None:
        """Read how far the running trials are."""
        self.live.refresh()

    def table(self) -> Group:
        """Draw the newest trials."""
        done = sum(trial.finished for trial in self.ledger.trials)
        title = f"{done} of {self.total} trials"
        if (best := next(iter(standings(self.ledger)), None)) and best.rank:
            title += f", best: trial {best.trial.number} with {scores(self.ledger, best.trial)}"
        columns = trial_table(self.ledger)
        for trial in self.ledger.trials[-SHOWN_ROWS:]:
            columns.add_row(*self._cells(trial))
        return Group(Text(title), columns)

    def _cells(self, trial: Trial) -> list[Any]:
        if trial.number not in self.began:
            return cells(self.ledger, Standing(trial, None), running="interrupted")
        curve = read_progress(self.ledger.path(trial))["curve"]
        best = curve[-1] if curve and curve[-1] is not None else None
        shown = [Text("" if best is None else number(best), style="dim")]
        shown += [Text("")] * (len(self.ledger.header.objectives) - 1)
        seconds = trial.seconds + time.monotonic() - self.began[trial.number]
        return [
            str(trial.number),
            Text("running", style=STYLES["running"]),
            *(short(trial.params[key]) for key in self.ledger.header.space),
            *shown,
            str(len(curve)),
            duration(seconds),
            "",
        ]


def trial_table(ledger: Ledger, title: str | None = None) -> Table:
    """Return an empty table of trials."""
    table = Table(title=title, title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column("state")
    for name in short_names(list(ledger.header.space)):
        table.add_column(escape(name), overflow="fold")
    for name in ledger.header.objectives:
        table.add_column(name, justify="right")
    for name in ("epochs", "time", "cost"):
        table.add_column(name, justify="right")
    return table


def short_names(keys: Sequence[str]) -> list[str]:
    """Return the last parts of keys, and the whole of those that share theirs: a table has little room.

    >>> short_names(["model", "optimizer.lr", "model.dropout", "loss.dropout"])
    ['model', 'lr', 'model.dropout', 'loss.dropout']
    """
    plain = [key.lstrip("+") for key in keys]
    last = [key.rpartition(".")[2] for key in plain]
    return [short if last.count(short) == 1 else whole for short, whole in zip(last, plain, strict=True)]


def cells(ledger: Ledger, standing: Standing, *, running: str = "running") -> list[Any]:
    """Return the row of a trial."""
    trial = standing.trial
    state = trial.state if trial.finished else running
    values = [number(value) for value in trial.values] or [""] * len(ledger.header.objectives)
    return [
        str(trial.number),
        Text(state, style=STYLES[state]),
        *(short(trial.params.get(key, "")) for key in ledger.header.space),
        *values,
        str(trial.epochs),
        duration(trial.seconds),
        "" if trial.usd is None else f"${trial.usd:.2f}",
    ]


def described(trial: Trial) -> str:
    """Return what a trial has of its own.

    >>> described(Trial(number=0, state="running", params={"seed": "1"}, overrides=["seed=1"], directory="0"))
    'seed=1'
    """
    return " ".join(f"{key}={short(text)}" for key, text in trial.params.items()) or "the only one"


def short(text: str) -> str:
    """Return a value for a table: a long number in four digits, and no markup.

    >>> short("0.000345996"), short("128"), short("mlp")
    ('0.000346', '128', 'mlp')
    """
    value = plain_value(text)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > 6 else escape(text)


def scores(ledger: Ledger, trial: Trial) -> str:
    """Return the objectives of a trial with their names."""
    pairs = zip(ledger.header.objectives, trial.values, strict=False)
    return ", ".join(f"{name} {number(value)}" for name, value in pairs)


def result(ledger: Ledger, trial: Trial) -> str:
    """Return the end of a trial as a line."""
    if trial.state == "failed":
        return f"failed: {' '.join(trial.error.split())}"
    word = "epoch" if trial.epochs == 1 else "epochs"
    return f"{trial.state}, {scores(ledger, trial)} ({trial.epochs} {word}, {duration(trial.seconds)})"


def show_leaderboard(ledger: Ledger, shares: Mapping[str, float], console: Console | None = None) -> None:
    """Print the best trials and the importance of each key."""
    console = console or (Terminal() if sys.stdout.isatty() else Terminal(width=200))
    ranked = standings(ledger)
    table = trial_table(ledger, title="leaderboard")
    for standing in ranked[:SHOWN_ROWS]:
        table.add_row(*cells(ledger, standing, running="interrupted"))
    console.print(table)
    if len(ranked) > SHOWN_ROWS:
        console.print(f"… and {len(ranked) - SHOWN_ROWS} more in the file")
    if shares:
        console.print(importance_table(shares, ledger.header.objectives))


def importance_table(shares: Mapping[str, float], objectives: Sequence[str]) -> Table:
    """Return the importances as bars."""
    table = Table(title=f"importance for {objectives[0]}", title_justify="left", show_header=False)
    for key, share in shares.items():
        table.add_row(escape(key.lstrip("+")), f"{share:.0%}", "█" * round(30 * share))
    return table
