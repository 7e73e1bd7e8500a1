"""What tests share: small parquet tables, and settings of hypothesis that a busy machine cannot fail."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

from tests.commands import Commands, tables, write
from tests.hydra_files import read_once

# A slow machine is not a fault of the code, and a fault found in CI must be found there again.
# More examples: HYPOTHESIS_EXAMPLES=1000 scripts/test -k text.
EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "100" if os.environ.get("CI") else "40"))
settings.register_profile("tabstep", deadline=None, max_examples=EXAMPLES, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tabstep")

read_once()

# Started in the background by a shell, this process ignores Ctrl-C and so would every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = ("test_readme.py", "test_resume.py", "test_kills.py", "test_pruning.py", "test_ray_trials.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest tests begin first, so that none is left for one worker alone at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def make_table(rows: int, seed: int = 0) -> pa.Table:
    """A binary task with every common type: id, two numbers (one with nulls), a category, a flag and a day."""
    rng = np.random.default_rng(seed)
    age, income = rng.normal(40, 12, rows), rng.lognormal(10, 1, rows)
    city = rng.choice(["Bonn", "Köln", "Ulm", "New York"], rows, p=[0.4, 0.3, 0.2, 0.1])
    score = (age - 40) / 12 + (city == "Bonn") + rng.normal(0, 0.5, rows)
    return pa.table(
        {
            "row_id": pa.array([f"{seed}-{index}" for index in range(rows)]),
            "age": pa.array(age, mask=rng.random(rows) < 0.1),
            "income": pa.array(income.astype(np.float32)),
            "city": pa.array(city.tolist()),
            "member": pa.array(rng.random(rows) < 0.5),
            "joined": pa.array(rng.integers(10_000, 20_000, rows).astype(np.int32)).cast(pa.date32()),
            "label": pa.array(np.where(score > 0.8, "yes", "no").tolist()),
        }
    )


@pytest.fixture(scope="session")
def tiny_table() -> pa.Table:
    return make_table(200)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``data.path``: ``train/train.parquet`` (200 rows), ``val/val.parquet`` and ``test/test.parquet`` (60 each)."""
    root = tmp_path_factory.mktemp("tiny")
    for seed, (split, rows) in enumerate({"train": 200, "val": 60, "test": 60}.items()):
        (root / split).mkdir()
        pq.write_table(make_table(rows, seed), root / split / f"{split}.parquet", write_page_checksum=True)
    return root


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    started = Commands()
    yield started
    started.close()


@pytest.fixture(scope="session")
def finished(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``data`` and the run ``out`` on it; not to be changed."""
    root = tmp_path_factory.mktemp("finished")
    write(root / "data", tables())
    ended = commands.train(root, "schema.id=row_id", "trainer.max_epochs=2")
    assert ended.code == 0, ended.err
    return root


@pytest.fixture
def run_copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of ``finished`` that may be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Take back what Hydra and Lightning do to logging: a log file of one test must not be written by the next."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    yield
    for handler in {*root.handlers, *logging.getLogger("tabstep").handlers, *logging.getLogger("lightning").handlers}:
        if handler not in before[0]:
            handler.close()
    root.handlers, root.level = before
    for name in ("tabstep", "lightning"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
