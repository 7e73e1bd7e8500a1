"""Commands on the model directory of a run: ``predict``, ``serve``, ``export`` and ``explain``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tabstep.commands.arguments import Namespace, add_reader, count, table_of
from tabstep.errors import UserError


def predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", help="the directory model/ of a run")
    parser.add_argument("table", help="parquet or CSV: a file, a directory or a glob, with or without labels")
    parser.add_argument("-o", "--out", required=True, help="file to write: .parquet, .csv, .csv.gz or .csv.zst")
    parser.add_argument("--batch-rows", type=count, default=65_536, metavar="N", help="rows in memory at a time")
    add_reader(parser)


def predict_table(options: Namespace) -> None:
    from tabstep.artifact.load import load

    model = load(options.model_dir)
    with table_of(options) as table:
        rows = model.predict_file(table, options.out, batch_rows=options.batch_rows)
    print(f"{rows} {'row' if rows == 1 else 'rows'}: {options.out}")


def serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", help="the directory model/ of a run")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 answers other machines (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")


def serve_model(options: Namespace) -> None:
    from importlib.util import find_spec

    from tabstep.run_files import MANIFEST, model_hint

    # What can be wrong is looked at before torch is imported.
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UserError(f'serve: needs the packages {" and ".join(missing)}: pip install "tabstep[serve]"')
    if not (Path(options.model_dir) / MANIFEST).is_file():
        remedy = model_hint(Path(options.model_dir)) or "name that of a finished run"
        raise UserError(f"{options.model_dir}: is no model directory: {remedy}")
    from tabstep.serving.service import serve

    serve(Path(options.model_dir), host=options.host, port=options.port)


def export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", help="the directory model/ of a run or an ensemble")
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="ONNX file to write")


def export_model(options: Namespace) -> None:
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


def explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", help="the directory model/ of a run")
    parser.add_argument("table", help="parquet or CSV: a file, a directory or a glob; importance needs labels")
    parser.add_argument("-o", "--out", metavar="DIR", help="gets explanation.json and attributions.parquet")
    parser.add_argument("--rows", type=count, default=5_000, metavar="N", help="looked at (default: %(default)s)")
    parser.add_argument("--metric", default="auroc", help="that importance is the fall of (default: %(default)s)")
    parser.add_argument("--repeats", type=count, default=5, metavar="N", help="permutations (default: %(default)s)")
    parser.add_argument("--class", dest="class_name", help="explained class (default: the predicted or positive one)")
    parser.add_argument(
        "--reference",
        metavar="TABLE",
        help="usual rows, where attributions begin (default: the table, if it has 20 rows or more)",
    )
    parser.add_argument(
        "--id", action="append", default=[], metavar="ID", help="explain the row of this id; repeatable"
    )
    add_reader(parser)


def explain_table(options: Namespace) -> None:
    from tabstep.analysis.explain import explain
    from tabstep.analysis.explanation_tables import explanation_tables
    from tabstep.system.terminal import Terminal

    with table_of(options) as location:
        explanation = explain(
            options.model_dir,
            location,
            metric=options.metric,
            rows=options.rows,
            repeats=options.repeats,
            class_name=options.class_name,
            reference=options.reference,
            ids=options.id,
        )
    if explanation.no_importance:
        print(f"importance is left out: {explanation.no_importance}")
    console = Terminal() if sys.stdout.isatty() else Terminal(width=120)
    for table in explanation_tables(explanation):
        console.print(table)
    print(explanation.looked_at)
    if options.out is not None:
        explanation.write(options.out)
        print(f"explanation: {options.out}")
