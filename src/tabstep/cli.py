"""The console script ``tabstep``: one small function a command, each importing only what it needs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from tabstep.errors import UserError
from tabstep.system.exits import exit_code

Namespace = argparse.Namespace


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print after the usage."""
        raise UserError(f"{self.prog}: {message}: see {self.prog} --help")


@dataclass(frozen=True)
class Command:
    """A command: what it does, in a phrase, its arguments and the function behind it."""

    about: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code (see ``tabstep.errors``)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exit_code(lambda: _dispatch(arguments))


def _dispatch(arguments: list[str]) -> None:
    if arguments[:1] == ["train"]:  # its arguments are Hydra's, not argparse's
        from tabstep.entry import train

        train(arguments[1:])
        return
    options = build_parser().parse_args(arguments)
    options.run(options)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands from ``COMMANDS``."""
    from tabstep import __version__

    parser = Parser(prog="tabstep", description="Train, test and serve classifiers of tables.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)
    commands.add_parser("train", help="train, test and save a classifier; the same as python train.py", add_help=False)
    for name, command in COMMANDS.items():
        below = commands.add_parser(name, help=command.about, description=command.about)
        command.arguments(below)
        below.set_defaults(run=command.run)
    return parser


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", help="the directory model/ of a run")
    parser.add_argument("table", help="parquet or CSV: a file, a directory or a glob, with or without labels")
    parser.add_argument("-o", "--out", required=True, help="file to write: .parquet, .csv, .csv.gz or .csv.zst")
    parser.add_argument("--batch-rows", type=_count, default=65_536, metavar="N", help="rows in memory at a time")
    _reader_argument(parser)


def _predict(options: Namespace) -> None:
    from tabstep.artifact.load import load

    model = load(options.model_dir)
    with _table(options) as table:
        rows = model.predict_file(table, options.out, batch_rows=options.batch_rows)
    print(f"{rows} rows: {options.out}")


def _reader_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reader", metavar="NAME", help="package.module:Name that reads it, as data.reader.name")


@contextmanager
def _table(options: Namespace) -> Iterator[str]:
    """Give the location of the table: of what a reader makes of it, in a file of its own until the end."""
    if options.reader is None:
        yield options.table
        return
    from tabstep.registry import PluginSettings
    from tabstep.run.foreign_reader import read_by

    reader = PluginSettings(name=options.reader)
    with TemporaryDirectory() as directory:
        yield str(read_by(reader, options.table, where="table", cache_dir=Path(directory)))


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", help="the directory model/ of a run")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 answers other machines (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")


def _serve(options: Namespace) -> None:
    from importlib.util import find_spec

    from tabstep.run_files import MANIFEST

    # What can be wrong is looked at before torch is imported.
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UserError(f'serve: needs the packages {" and ".join(missing)}: pip install "tabstep[serve]"')
    if not (Path(options.model_dir) / MANIFEST).is_file():
        raise UserError(f"{options.model_dir}: is no model directory: name the directory model/ of a finished run")
    from tabstep.serving.service import serve

    serve(Path(options.model_dir), host=options.host, port=options.port)


def _schema_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", help="parquet or CSV: a file, a directory or a glob")
    parser.add_argument("--name", required=True, help="of the option: schema=NAME selects the file")
    parser.add_argument("--conf-dir", default="conf", help="directory of the configuration (default: %(default)s)")
    parser.add_argument("--label", action="append", help="column to predict; once for each label of a multilabel task")
    parser.add_argument("--id", help="column that identifies a row")
    parser.add_argument("--weight", help="column that says how much a row counts")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    _reader_argument(parser)


def _schema(options: Namespace) -> None:
    from tabstep.config.overrides import config_dir
    from tabstep.system.terminal import Terminal
    from tabstep.tables.infer_schema import Declared, schema_table, values_table
    from tabstep.tables.schema_file import write_schema_file

    labels: list[str] | None = options.label
    label = labels[0] if labels is not None and len(labels) == 1 else labels
    stated = Declared(id=options.id, label=label, weight=options.weight)
    directory = Path(options.conf_dir) / "schema"
    with _table(options) as table:
        path, rows = write_schema_file(table, options.name, directory, stated, overwrite=options.overwrite)
    Terminal().print(schema_table(rows), values_table(rows))
    own = "" if directory.parent.resolve() == config_dir() else f"--config-dir {directory.parent} "
    print(f"{path}: use it with {own}schema={options.name}")


def _split_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", help="parquet or CSV: a file, a directory or a glob")
    parser.add_argument("-o", "--out", required=True, help="directory that gets train/, val/ and test/")
    parser.add_argument("--label", help="column whose values are to be equally frequent in all splits")
    parser.add_argument("--val", type=float, default=0.16, metavar="SHARE", help="(default: %(default)s)")
    parser.add_argument("--test", type=float, default=0.2, metavar="SHARE", help="(default: %(default)s)")
    parser.add_argument("--group", help="column whose equal values stay in one split, as customer")
    parser.add_argument("--time", help="column by which the latest rows are test, those before them val")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    _reader_argument(parser)


def _split(options: Namespace) -> None:
    from tabstep.tables.split_file import split_table
    from tabstep.tables.splits import Cut

    if options.group and options.time:
        raise UserError("--group and --time: choose one of them")
    label = () if options.label is None else (options.label,)
    with _table(options) as table:
        counts = split_table(
            table,
            options.out,
            cut=Cut(label=label, group=options.group, time=options.time, seed=options.seed),
            val_share=options.val,
            test_share=options.test,
            overwrite=options.overwrite,
        )
    rows = ", ".join(f"{count} rows of {split}" for split, count in counts.items())
    print(f"{rows}: use them with data.path={options.out}")


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="directory of a run, finished or not, or of a sweep")
    parser.add_argument("--csv", metavar="FILE", help="also write the comparison to this file, in full precision")


def _compare(options: Namespace) -> None:

    from tabstep.analysis.comparison import compare, comparison_tables, write_comparison
    from tabstep.system.terminal import Terminal

    comparison = compare(options.runs)
    console = Terminal() if sys.stdout.isatty() else Terminal(width=120)
    for table in comparison_tables(comparison, console.width):
        console.print(table)
    if not comparison.config:
        print("no key of the configuration differs")
    if options.csv is not None:
        write_comparison(Path(options.csv), comparison)
        print(f"comparison: {options.csv}")


def _ensemble_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="SWEEP_DIR", help="directory with finished runs in it")
    parser.add_argument("-o", "--out", metavar="DIR", help="gets model/ and the rest (default: SWEEP_DIR/ensemble)")
    parser.add_argument("--objective", metavar="METRIC", help="score of val to select by (default: that of the runs)")
    parser.add_argument("--rounds", type=_count, default=50, metavar="N", help="of selection (default: %(default)s)")


def _ensemble(options: Namespace) -> None:

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


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", help="the directory model/ of a run or an ensemble")
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="ONNX file to write")


def _export(options: Namespace) -> None:
    from pathlib import Path

    from tabstep.artifact.load import golden_rows, load
    from tabstep.artifact.onnx_file import check_installed, write_onnx
    from tabstep.system.atomic_write import publishing
    from tabstep.system.exits import writing

    check_installed("export")
    directory, out = Path(options.model_dir), Path(options.out)
    model = load(directory)
    with writing("--out: cannot be written"), publishing(out) as temporary:
        write_onnx(temporary, model, golden_rows(directory), what="export")
    print(f"model: {out}")


def _explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", help="the directory model/ of a run")
    parser.add_argument("table", help="parquet or CSV: a file, a directory or a glob; importance needs labels")
    parser.add_argument("-o", "--out", metavar="DIR", help="gets explanation.json and attributions.parquet")
    parser.add_argument("--rows", type=_count, default=5_000, metavar="N", help="looked at (default: %(default)s)")
    parser.add_argument("--metric", default="auroc", help="that importance is the fall of (default: %(default)s)")
    parser.add_argument("--repeats", type=_count, default=5, metavar="N", help="permutations (default: %(default)s)")
    parser.add_argument("--class", dest="class_name", help="explained class (default: the predicted or positive one)")
    parser.add_argument(
        "--reference", metavar="TABLE", help="usual rows, where attributions begin (default: the table)"
    )
    _reader_argument(parser)


def _explain(options: Namespace) -> None:

    from tabstep.analysis.explain import explain, explanation_tables
    from tabstep.system.terminal import Terminal

    with _table(options) as location:
        found = explain(
            options.model_dir,
            location,
            metric=options.metric,
            rows=options.rows,
            repeats=options.repeats,
            class_name=options.class_name,
            reference=options.reference,
        )
    console = Terminal() if sys.stdout.isatty() else Terminal(width=120)
    for table in explanation_tables(found):
        console.print(table)
    print(found.looked_at)
    if options.out is not None:
        found.write(options.out)
        print(f"explanation: {options.out}")


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="directory of a run or a sweep, which gets report.html")
    parser.add_argument("--rows", type=_count, default=1_000, metavar="N", help="of val for importance and dependence")
    parser.add_argument("--seconds", type=float, default=600.0, metavar="S", help="what is left by then is left out")


def _report(options: Namespace) -> None:
    from tabstep.analysis.sweep_report import is_sweep, report_sweep

    directory = Path(options.directory)
    if is_sweep(directory):
        print(f"report: {report_sweep(directory)}")
        return
    from tabstep.analysis.run_analysis import Limits
    from tabstep.analysis.run_report import report_again

    print(f"report: {report_again(directory, Limits(rows=options.rows, seconds=options.seconds), print)}")


def _open_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="directory of a run or a sweep with a report.html")
    parser.add_argument("--port", type=int, default=0, help="on this machine alone (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")


def _open(options: Namespace) -> None:
    import webbrowser

    from tabstep.analysis.open_page import page_address, page_server

    with page_server(Path(options.directory), options.port) as server:
        print(f"page: {page_address(server)} (Ctrl-C ends it)", flush=True)
        if not options.no_browser:
            webbrowser.open(page_address(server))
        server.serve_forever()


def _config_schema_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--experiment", action="store_true", help="of a file in conf/experiment, which sets some keys")


def _config_schema(options: Namespace) -> None:
    from tabstep.config.json_schema import experiment_schema, json_schema

    print(json.dumps(experiment_schema() if options.experiment else json_schema(), indent=2))


def _completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh"], help="the script is the same for both")


def _completion(options: Namespace) -> None:
    from tabstep.config.completion import completion_script
    from tabstep.config.overrides import config_dir

    flags = {}
    for name, command in COMMANDS.items():
        parser = Parser(prog=name)
        command.arguments(parser)
        flags[name] = sorted(parser._option_string_actions)
    print(completion_script(flags, [config_dir()]), end="")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {text!r}")
    return int(text)


COMMANDS = {
    "predict": Command("predict the rows of a table with a trained model", _predict_arguments, _predict),
    "serve": Command("answer requests over HTTP with a trained model", _serve_arguments, _serve),
    "schema": Command("propose a schema file from a table", _schema_arguments, _schema),
    "split": Command("split one table into train, val and test", _split_arguments, _split),
    "compare": Command("show how runs differ in configuration and scores", _compare_arguments, _compare),
    "ensemble": Command("average the best runs of a sweep into one model", _ensemble_arguments, _ensemble),
    "export": Command("write a trained model as an ONNX file", _export_arguments, _export),
    "explain": Command("show which columns matter to a model, how, and why a row is so", _explain_arguments, _explain),
    "report": Command("make the page of a run or a sweep, report.html", _report_arguments, _report),
    "open": Command("show the page of a run or a sweep in a browser", _open_arguments, _open),
    "completion": Command("print a script that completes commands and keys", _completion_arguments, _completion),
    "config-schema": Command("print the JSON Schema of the configuration", _config_schema_arguments, _config_schema),
}

if __name__ == "__main__":
    sys.exit(main())
