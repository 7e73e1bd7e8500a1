"""Commands on a table before it is trained on: ``schema`` and ``split``."""

from __future__ import annotations

import argparse
from pathlib import Path

from tabstep.commands.arguments import Namespace, add_reader, table_of
from tabstep.errors import UserError


def schema_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", help="parquet or CSV: a file, a directory or a glob")
    parser.add_argument("--name", required=True, help="of the option: schema=NAME selects the file")
    parser.add_argument("--conf-dir", default="conf", help="directory of the configuration (default: %(default)s)")
    parser.add_argument("--label", action="append", help="column to predict; once for each label of a multilabel task")
    parser.add_argument("--id", help="column that identifies a row")
    parser.add_argument("--weight", help="column that says how much a row counts")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    add_reader(parser)


def propose_schema(options: Namespace) -> None:
    from tabstep.config.conf_directory import config_dir
    from tabstep.system.terminal import Terminal
    from tabstep.tables.infer_schema import Declared, schema_table, values_table
    from tabstep.tables.schema_file import write_schema_file

    labels: list[str] | None = options.label
    label = labels[0] if labels is not None and len(labels) == 1 else labels
    stated = Declared(id=options.id, label=label, weight=options.weight)
    directory = Path(options.conf_dir) / "schema"
    with table_of(options) as table:
        path, rows = write_schema_file(table, options.name, directory, stated, overwrite=options.overwrite)
    Terminal().print(schema_table(rows), values_table(rows))
    own = "" if directory.parent.resolve() == config_dir() else f"--config-dir {directory.parent} "
    print(f"{path}: use it with {own}schema={options.name}")


def split_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", help="parquet or CSV: a file, a directory or a glob")
    parser.add_argument("-o", "--out", required=True, help="directory that gets train/, val/ and test/")
    parser.add_argument("--label", help="column whose values are to be equally frequent in all splits")
    parser.add_argument("--val", type=float, default=0.16, metavar="SHARE", help="(default: %(default)s)")
    parser.add_argument("--test", type=float, default=0.2, metavar="SHARE", help="(default: %(default)s)")
    parser.add_argument("--group", help="column whose equal values stay in one split, as customer")
    parser.add_argument("--time", help="column by which the latest rows are test, those before them val")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    add_reader(parser)


def split_rows(options: Namespace) -> None:
    from tabstep.tables.split_file import split_table
    from tabstep.tables.splits import Cut

    if options.group and options.time:
        raise UserError("--group and --time: choose one of them")
    label = () if options.label is None else (options.label,)
    with table_of(options) as table:
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
