"""Commands on runs and sweeps that have ended: ``compare``, ``ensemble``, ``report`` and ``open``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tabstep.commands.arguments import Namespace, count


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="directory of a run, finished or not, or of a sweep")
    parser.add_argument("--csv", metavar="FILE", help="also write the comparison to this file, in full precision")


def compare_runs(options: Namespace) -> None:
    from tabstep.analysis.comparison import compare, comparison_tables, write_comparison
    from tabstep.analysis.differences import difference_lines
    from tabstep.system.terminal import Terminal

    comparison = compare(options.runs)
    console = Terminal() if sys.stdout.isatty() else Terminal(width=120)
    for table in comparison_tables(comparison, console.width):
        console.print(table)
    if not comparison.config:
        print("no key of the configuration differs")
    for line in difference_lines(comparison.differences):
        print(line)
    if options.csv is not None:
        write_comparison(Path(options.csv), comparison)
        print(f"comparison: {options.csv}")


def ensemble_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="SWEEP_DIR", help="directory with finished runs in it")
    parser.add_argument("-o", "--out", metavar="DIR", help="gets model/ and the rest (default: SWEEP_DIR/ensemble)")
    parser.add_argument("--objective", metavar="METRIC", help="score of val to select by (default: that of the runs)")
    parser.add_argument("--rounds", type=count, default=50, metavar="N", help="of selection (default: %(default)s)")


def average_runs(options: Namespace) -> None:
    from tabstep.analysis.ensemble import build_ensemble, ensemble_tables, summary
    from tabstep.system.terminal import Terminal

    directory = Path(options.directory)
    out = directory / "ensemble" if options.out is None else Path(options.out)
    ensemble = build_ensemble(directory, out, objective=options.objective, rounds=options.rounds)
    console = Terminal() if sys.stdout.isatty() else Terminal(width=120)
    for table in ensemble_tables(ensemble):
        console.print(table)
    print(summary(ensemble))
    print(f"model:       {out / 'model'}")


def report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="directory of a run or a sweep, which gets report.html")
    parser.add_argument("--rows", type=count, default=1_000, metavar="N", help="of val for importance and dependence")
    parser.add_argument("--seconds", type=float, default=600.0, metavar="S", help="what is left by then is left out")


def write_report(options: Namespace) -> None:
    from tabstep.analysis.sweep_report import is_sweep, report_sweep

    directory = Path(options.directory)
    if is_sweep(directory):
        print(f"report: {report_sweep(directory)}")
        return
    from tabstep.analysis.run_analysis import Limits
    from tabstep.analysis.run_report import report_again

    print(f"report: {report_again(directory, Limits(rows=options.rows, seconds=options.seconds), print)}")


def open_page_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="directory of a run or a sweep with a report.html")
    parser.add_argument("--port", type=int, default=0, help="on this machine alone (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")


def open_page(options: Namespace) -> None:
    import webbrowser

    from tabstep.analysis.open_page import page_address, page_server

    with page_server(Path(options.directory), options.port) as server:
        print(f"page: {page_address(server)} (Ctrl-C ends it)", flush=True)
        if not options.no_browser:
            webbrowser.open(page_address(server))
        server.serve_forever()
