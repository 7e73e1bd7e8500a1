"""What the parts of a run cost, in CPU time of one thread, each beside what it is measured against.

    OMP_NUM_THREADS=1 python scripts/benchmark_parts.py [step] [prepare] [predict] [handler] [onnx]

Two things alternate in one process, so that both see the same machine, and each pair gives one ratio: the table has the
median and the range. Without a name, all parts are measured. Tables are generated.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyarrow import csv
from rich.console import Console
from rich.table import Table
from torch import nn

from tabstep.api.train import train
from tabstep.checks import check_splits
from tabstep.encoding.column_fits import EncoderOptions
from tabstep.encoding.encoded_table import encode_table
from tabstep.encoding.encoder import Encoder
from tabstep.models import build_model, embeddings
from tabstep.registry import MODELS
from tabstep.schema import Schema
from tabstep.system import ordered_map
from tabstep.tables.source import ParquetSource, open_source
from tabstep.training.optimizers import build_optimizer

NUMBERS, FLAGS = 30, 30
CARDINALITIES = (8, 23, 53, 103, 303, 1_003, 2_003, 3_003, 5_003, 10_003)
ROWS = 300_000
Row = tuple[str, str, str, str]


def paired(one: Callable[[], object], other: Callable[[], object], *, pairs: int = 9) -> tuple[float, float, str]:
    """Return the median seconds of both and the ratio of the first to the second."""
    one(), other()
    taken = [(_seconds(one), _seconds(other)) for _ in range(pairs)]
    ratios = sorted(first / second for first, second in taken)
    first, second = (statistics.median(column) for column in zip(*taken, strict=True))
    return first, second, f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def _seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def make_step(name: str, rows: int, *, flags: bool = True) -> Callable[[], None]:
    """Return one step of a model over 30 numbers with missing values and 10 categories."""
    torch.manual_seed(0)
    options = dict(vars(MODELS.defaults(name)))
    options.pop("name")
    places = range(NUMBERS, NUMBERS + FLAGS) if flags else ()
    model: nn.Module = build_model(
        name, num_numeric=NUMBERS + FLAGS, cardinalities=CARDINALITIES, num_outputs=1, flags=places, **options
    )
    optimizer = build_optimizer("adamw", model, lr=1e-3, weight_decay=1e-4, betas=[0.9, 0.999])
    x_num = torch.cat([torch.randn(rows, NUMBERS), (torch.rand(rows, FLAGS) < 0.1).float()], dim=1)
    x_cat = torch.stack([torch.randint(0, size, (rows,)) for size in CARDINALITIES], dim=1).int()
    y = (torch.rand(rows) < 0.3).float()

    def step() -> None:
        logits = model(x_num, x_cat).flatten(1).mean(dim=1)
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(logits, y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


@contextmanager
def whole_batches() -> Iterator[None]:
    """Make embeddings of the whole batch at once."""
    before = embeddings.PIECE_ROWS
    embeddings.PIECE_ROWS = 2**31
    try:
        yield
    finally:
        embeddings.PIECE_ROWS = before


def steps() -> Iterator[Row]:
    """Measure a step as it was, with all columns in bins and the batch in one piece, and as it is."""
    for rows in (256, 1_024, 8_192):
        repeat = max(1, 2_048 // rows)
        now, before = make_step("mlp", rows), make_step("mlp", rows, flags=False)

        def old(before: Callable[[], None] = before, repeat: int = repeat) -> None:
            with whole_batches():
                for _ in range(repeat):
                    before()

        def new(now: Callable[[], None] = now, repeat: int = repeat) -> None:
            for _ in range(repeat):
                now()

        first, second, ratio = paired(old, new)
        what = f"step of the MLP, batch {rows:,}: all in bins, one piece / as it is"
        yield what, f"{first / repeat * 1e3:.1f} ms", f"{second / repeat * 1e3:.1f} ms", ratio
    first, second, ratio = paired(make_step("tabm", 256), make_step("mlp", 256))
    yield "step of TabM (16) / of the MLP, batch 256", f"{first * 1e3:.1f} ms", f"{second * 1e3:.1f} ms", ratio


def make_table(directory: Path) -> tuple[dict[str, ParquetSource], Schema]:
    """Write and open 300,000 rows of 30 numbers, a third of them with missing values, and 10 categories."""
    rng = np.random.default_rng(0)
    columns = {
        f"n{place}": pa.array(rng.standard_normal(ROWS), mask=rng.random(ROWS) < 0.1 * (place % 3 == 0))
        for place in range(NUMBERS)
    }
    for place, size in enumerate(CARDINALITIES):
        codes = np.minimum((rng.pareto(1.0, ROWS) * size / 20).astype(np.int32), size - 1)
        columns[f"c{place}"] = pa.array(codes.astype(str))
    columns["y"] = pa.array((rng.random(ROWS) < 0.3).astype(np.int64))
    pq.write_table(pa.table(columns), directory / "train.parquet", row_group_size=2**17)
    schema = Schema(
        label=("y",),
        numeric=tuple(name for name in columns if name.startswith("n")),
        categorical=tuple(name for name in columns if name.startswith("c")),
    )
    return {"train": open_source(str(directory / "train.parquet"), split="train")}, schema


def preparations(directory: Path) -> Iterator[Row]:
    """Measure checks, fit and encoding beside nothing but reading the table."""
    sources, schema = make_table(directory)
    options = EncoderOptions(scaling="quantile", max_categories=10_000, min_frequency=2)

    def read() -> None:
        for _ in sources["train"].batches(schema.columns):
            pass

    def prepare() -> None:
        with tempfile.TemporaryDirectory(dir=directory) as cache:
            check_splits(sources, schema)
            encoder = Encoder.fit(sources["train"], schema, options=options)
            encode_table(sources["train"], encoder, Path(cache), fitted_on=True)

    first, second, ratio = paired(prepare, read, pairs=3)
    yield f"checks, fit and encoding of {ROWS:,} rows / one pass of reading", f"{first:.2f} s", f"{second:.2f} s", ratio
    started = time.perf_counter()
    prepare()
    many = time.perf_counter() - started
    usable, ordered_map.usable_cores = ordered_map.usable_cores, lambda: 1
    started = time.perf_counter()
    prepare()
    one = time.perf_counter() - started
    ordered_map.usable_cores = usable
    yield "the same, wall time on one core / on all", f"{one:.2f} s", f"{many:.2f} s", f"{one / many:.2f}"


def predictions(directory: Path) -> Iterator[Row]:
    """Measure a prediction into a file beside decoding and the forward pass alone."""
    from tabstep.tables.builtin import generate

    table, _ = generate(rows=60_000, seed=0)
    pq.write_table(table, directory / "rows.parquet")
    overrides = {"trainer.max_epochs": 1, "paths.output_dir": str(directory / "run"), "report": "none"}
    model = train(table.slice(0, 20_000), label="churned", overrides=overrides, quiet=True).model
    member = model.members[0]
    encoded = [member.encoder.transform(batch) for batch in table.to_batches(65_536)]

    def bare() -> None:
        for _ in open_source(str(directory / "rows.parquet"), split="train").batches(member.encoder.schema.features):
            pass
        for arrays in encoded:
            member.logits(*arrays)

    def predict() -> None:
        model.predict_file(directory / "rows.parquet", directory / "out.parquet")

    first, second, ratio = paired(predict, bare)
    yield "tabstep predict of 60,000 rows / decoding and forward", f"{first:.2f} s", f"{second:.2f} s", ratio


def requests(directory: Path) -> Iterator[Row]:
    """Measure what the handler takes beyond the forward pass, each the least of many: other programs only add."""
    from tabstep.serving.handler import model_fn
    from tabstep.serving.transform import transform_fn
    from tabstep.tables.builtin import generate

    table, _ = generate(rows=9_000, seed=0)
    for name in ("tabm", "mlp"):
        run = directory / name
        overrides = {"trainer.max_epochs": 1, "paths.output_dir": str(run), "report": "none", "model": name}
        train(table.slice(1_000), label="churned", overrides=overrides, quiet=True)
        served = model_fn(str(run / "model"))
        (member,) = served.predictor.members
        for rows, repeat in ((1, 1_000), (1_000, 40)):
            (batch,) = table.slice(0, rows).combine_chunks().to_batches()
            arrays = member.encoder.transform(batch)
            forward = _least(partial(member.logits, *arrays), repeat)
            for media, body in _bodies(batch.drop_columns(["churned"])).items():
                whole = _least(partial(transform_fn, served, body, media, media), repeat)
                first, second, beyond = (f"{1e3 * seconds:.2f} ms" for seconds in (whole, forward, whole - forward))
                yield f"{name}: {rows:,} rows of {media} / forward alone, difference", first, second, beyond


def _least(call: Callable[[], object], repeat: int) -> float:
    call()
    return min(_seconds(call) for _ in range(repeat))


def _bodies(batch: pa.RecordBatch) -> dict[str, bytes]:
    """Return rows as JSON and as CSV with a line of names."""
    out = io.BytesIO()
    csv.write_csv(batch, out)
    rows = json.dumps(batch.to_pylist(), default=lambda value: value.isoformat())
    return {"application/json": rows.encode(), "text/csv": out.getvalue()}


def answers(directory: Path) -> Iterator[Row]:
    """Measure the answers of the model beside those of its ONNX file, for raw rows that lie in memory."""
    import onnxruntime

    from tabstep.artifact.onnx_file import graph_inputs
    from tabstep.tables.builtin import generate

    table, _ = generate(rows=41_000, seed=0)
    overrides = {"trainer.max_epochs": 1, "paths.output_dir": str(directory / "onnx"), "report": "none"}
    model = train(table.slice(1_000), label="churned", overrides={**overrides, "export": "onnx"}, quiet=True).model
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(directory / "onnx" / "model" / "model.onnx"), options)
    for rows, repeat in ((1, 200), (1_000, 10)):
        (batch,) = table.slice(0, rows).combine_chunks().to_batches()
        inputs = graph_inputs(model.encoder, batch)

        def torch_answers(batch: pa.RecordBatch = batch, repeat: int = repeat) -> None:
            for _ in range(repeat):
                model.probabilities_of(batch)

        def onnx_answers(inputs: dict[str, np.ndarray] = inputs, repeat: int = repeat) -> None:
            for _ in range(repeat):
                session.run(None, inputs)

        first, second, ratio = paired(torch_answers, onnx_answers)
        times = (f"{1e3 * seconds / repeat:.2f} ms" for seconds in (first, second))
        yield f"answer of {rows:,} rows / its ONNX file, from numbers and codes", *times, ratio


def main(wanted: list[str]) -> None:
    """Measure what is named, or all, and print a table."""
    torch.set_num_threads(1)
    table = Table("what", "first", "second", "ratio", title="CPU time of one thread")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        parts = {
            "step": steps,
            "prepare": lambda: preparations(directory),
            "predict": lambda: predictions(directory),
            "handler": lambda: requests(directory),
            "onnx": lambda: answers(directory),
        }
        for part in wanted or list(parts):
            for row in parts[part]():
                table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
