"""A storage that fails below Python, in whatever library reads or writes: the commands run over ``storage.c``."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import Commands, Ended

SHIM = Path(__file__).with_name("storage.c")
TRAIN = ("schema.id=row_id", "trainer.max_epochs=2")
WEIGHTS = Path("out", "model", "model.safetensors")
HALF = "half"
READ, WRITE = ("EIO", "ESTALE", "ETIMEDOUT"), ("EIO", "ENOSPC", "ESTALE")
Ends = Callable[[str], None]
Fault = tuple[str, str, str]


@pytest.fixture(scope="session")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands whose calls of the file system may fail."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler: cc")
    library = tmp_path_factory.mktemp("shim") / "storage.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
    started = Commands(LD_PRELOAD=str(library))
    yield started
    started.close()


def named(call: str, part: str, error: str) -> dict[str, str]:
    """Return the variables of ``storage.c`` for one fault."""
    number = 0 if error == HALF else getattr(errno, error)
    return {"FAULT_CALL": call, "FAULT_PATH": part, "FAULT_ERRNO": str(number)}


def check(ended: Ended, error: str, ends: Ends) -> None:
    """Half of what was asked for is no error; else there is one line, without a traceback, that may be tried again."""
    assert ended.code == (0 if error == HALF else 75), ended.err
    assert len(ended.said) == (error != HALF), ended.err
    ends("works" if error == HALF else "75")


def over(points: tuple[tuple[str, str], ...]) -> list[Fault]:
    """Return the points, each with the errors that its call may end with."""
    return [
        (call, part, error)
        for call, part in points
        for error in (*(READ if call in ("open", "read") else WRITE), *([HALF] if call in ("read", "write") else []))
    ]


PREDICT = over(
    (
        *(("open", "test.parquet"), ("read", "test.parquet"), ("open", "manifest.json")),
        *(("read", "manifest.json"), ("read", "model.json"), ("read", "encoder.json"), ("read", "model.safetensors")),
        *(("write", "p.parquet"), ("fsync", "p.parquet"), ("rename", "p.parquet")),
    )
)


@pytest.mark.parametrize(("call", "part", "error"), PREDICT)
def test_prediction(
    call: str, part: str, error: str, failing: Commands, finished: Path, tmp_path: Path, ends: Ends
) -> None:
    (tmp_path / "out").symlink_to(finished / "out")
    ended = failing.predict(tmp_path, str(finished / "data" / "test"), **named(call, part, error))
    assert (tmp_path / "p.parquet").exists() == (error == HALF)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", *["p.parquet"] * (error == HALF)]
    check(ended, error, ends)


@pytest.mark.parametrize(
    ("call", "error", "code"),
    [
        *((call, error, 75) for call in ("open", "read") for error in READ),
        *(("open", error, 2) for error in ("EACCES", "EPERM")),
    ],
)
def test_a_file_without_an_ending(
    call: str, error: str, code: int, failing: Commands, finished: Path, tmp_path: Path, ends: Ends
) -> None:
    """Nobody knows whether it is parquet, and its rows may lack: the others are not read without it."""
    shutil.copytree(finished / "data", tmp_path / "data")
    shutil.copy(tmp_path / "data/train/train.parquet", tmp_path / "data/train/part-00001")
    ended = failing.train(tmp_path, *TRAIN, **named(call, "data/train/part-00001", error))
    assert ended.code == code, ended.err
    (said,) = ended.said
    assert said.startswith("data.train: part-00001: cannot be read"), said
    assert not (tmp_path / "out").exists()
    ends(str(code))


RUN = over(
    (
        *(("read", "data/train/"), ("open", "data/val/"), ("read", "/cache/"), ("open", "/cache/")),
        *(("write", "/cache/"), ("fsync", "/cache/"), ("rename", "/cache/")),
        *(("write", "/checkpoints/"), ("fsync", "/checkpoints/"), ("rename", "/checkpoints/")),
        *(("open", "/out/.model"), ("write", "/out/.model"), ("read", "/out/model/")),
        *(("write", "/predictions/"), ("rename", "/predictions/"), ("fsync", ".report.json")),
        *(("write", ".metrics.csv"), ("rename", "metrics.csv"), ("rename", "DONE"), ("write", "/out/.lock")),
    )
)


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        pytest.param(number, fault, marks=[] if number % 12 == 0 else pytest.mark.slow)
        for number, fault in enumerate(RUN)
    ],
)
def test_run(number: int, fault: Fault, failing: Commands, finished: Path, tmp_path: Path, ends: Ends) -> None:
    """It may be tried again, or is complete where the place can wait; the same command then ends with equal weights."""
    (tmp_path / "data").symlink_to(finished / "data")
    since = str(1 + number % 4)  # what fails goes on failing
    ended = failing.train(tmp_path, *TRAIN, **named(*fault), FAULT_FROM=since)
    assert ended.code in (0, 75), ended.err
    assert len(ended.said) == (ended.code == 75), ended.err
    again = failing.train(tmp_path, *TRAIN)
    assert (again.code, again.said) == (0, []), again.err
    assert (tmp_path / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
    ends("75" if ended.code else "works")
