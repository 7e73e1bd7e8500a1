"""The end of a sweep: leaderboard, report page, and the best trial as a command and an experiment."""

from __future__ import annotations

import shlex

from tabstep.errors import UserError
from tabstep.run_files import PAGE
from tabstep.sweep.best import command_line, command_to_go_on, write_best
from tabstep.sweep.compose_trials import Composer
from tabstep.sweep.html_report import write_report
from tabstep.sweep.importance import importances
from tabstep.sweep.leaderboard import CSV, best_trial
from tabstep.sweep.ledger import Ledger
from tabstep.sweep.progress_view import show_leaderboard
from tabstep.sweep.space import Space
from tabstep.system.atomic_write import write_durably

COMMAND = "best.sh"


def pause(ledger: Ledger, composer: Composer) -> None:
    """Show how far a sweep that was stopped has come, and how to go on with it."""
    if any(trial.finished for trial in ledger.trials):
        show_leaderboard(ledger, {})
    print(f"go on with:  {command_to_go_on(composer)}", flush=True)


def conclude(ledger: Ledger, space: Space, composer: Composer) -> None:
    """Show the leaderboard and how to run the best trial again.

    Raises:
        UserError: no trial came to a result.
    """
    best = best_trial(ledger)
    if best is None:
        failed = [trial for trial in ledger.trials if trial.state == "failed"]
        if not failed:
            print("no trial has ended: nothing to compare yet")
            return
        last = " ".join(failed[-1].error.split())
        raise UserError(f"none of {len(failed)} trials came to a result; trial {failed[-1].number}: {last}")
    shares = importances(ledger, space.dimensions)
    show_leaderboard(ledger, shares)
    print(f"leaderboard: {ledger.directory / CSV}")
    print(f"report:      {write_report(ledger, space.dimensions, shares)}")
    print(f"best trial:  {ledger.path(best)}")
    if not (ledger.path(best) / PAGE).is_file():
        print(f"its page:    tabstep report {shlex.quote(str(ledger.path(best)))}")
    command = command_line(best, composer)
    write_best(best, composer, ledger.directory)
    write_durably(ledger.directory / COMMAND, f"{command}\n".encode())
    print(f"again:       {command}")
    print(f"as a start:  --config-dir {ledger.directory} experiment=best")
