"""The console script ``tabstep``: its commands by name; what each does stands in ``commands``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from tabstep.commands import models, runs, tables
from tabstep.commands.arguments import Command, Namespace, Parser
from tabstep.system.exits import exit_code
from tabstep.system.plain_messages import plain_messages


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
    with plain_messages():
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


def _config_schema_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--experiment", action="store_true", help="of a file in conf/experiment, which sets some keys")


def _config_schema(options: Namespace) -> None:
    from tabstep.config.json_schema import experiment_schema, json_schema

    print(json.dumps(experiment_schema() if options.experiment else json_schema(), indent=2))


def _completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh"], help="the script is the same for both")


def _completion(options: Namespace) -> None:
    from tabstep.config.completion import completion_script
    from tabstep.config.conf_directory import config_dir

    flags = {}
    for name, command in COMMANDS.items():
        parser = Parser(prog=name)
        command.arguments(parser)
        flags[name] = sorted(parser._option_string_actions)
    print(completion_script(flags, [config_dir()]), end="")


COMMANDS = {
    "predict": Command(
        "predict the rows of a table with a trained model", models.predict_arguments, models.predict_table
    ),
    "serve": Command("answer requests over HTTP with a trained model", models.serve_arguments, models.serve_model),
    "schema": Command("propose a schema file from a table", tables.schema_arguments, tables.propose_schema),
    "split": Command("split one table into train, val and test", tables.split_arguments, tables.split_rows),
    "compare": Command("show how runs differ in configuration and scores", runs.compare_arguments, runs.compare_runs),
    "ensemble": Command("average the best runs of a sweep into one model", runs.ensemble_arguments, runs.average_runs),
    "export": Command("write a trained model as an ONNX file", models.export_arguments, models.export_model),
    "explain": Command(
        "show which columns matter to a model, how, and why a row is so", models.explain_arguments, models.explain_table
    ),
    "report": Command("make the page of a run or a sweep, report.html", runs.report_arguments, runs.write_report),
    "open": Command("show the page of a run or a sweep in a browser", runs.open_page_arguments, runs.open_page),
    "completion": Command("print a script that completes commands and keys", _completion_arguments, _completion),
    "config-schema": Command("print the JSON Schema of the configuration", _config_schema_arguments, _config_schema),
}

if __name__ == "__main__":
    sys.exit(main())
