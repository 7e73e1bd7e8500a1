"""CONTRIBUTING.md's recipe for a model, followed literally in a copy of the checkout: three files, and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STEP = re.compile(r"^\d\. `(?P<file>[^`]+)`: .*?^   ```\w+\n(?P<text>.*?)^   ```$", re.M | re.S)
COPIED = (
    "train.py",
    "conf",
    "src",
    "pyproject.toml",
    "tests/__init__.py",
    "tests/conftest.py",
    "tests/commands.py",
    "tests/hydra_files.py",
    "tests/models",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the three files of the recipe."""
    directory = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        source, target = ROOT / name, directory / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("local", "*.pyc.*"))
        else:
            shutil.copyfile(source, target)
    _, _, section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## A new model in three files\n")
    files = {step["file"]: textwrap.dedent(step["text"]) for step in STEP.finditer(section)}
    assert list(files) == ["src/tabstep/models/maxout.py", "conf/model/maxout.yaml", "tests/models/test_maxout.py"]
    for name, text in files.items():
        assert not (directory / name).exists()
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def python(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )


def test_three_files_are_a_model_that_trains(checkout: Path) -> None:
    options = ["model=maxout", "model.width=4", "debug=fast", "trainer=cpu", "data.builtin_rows=1000", "report=none"]
    done = python(checkout, "train.py", *options, "paths.output_dir=run", "paths.cache_dir=cache")
    assert done.returncode == 0, done.stdout + done.stderr
    architecture = json.loads((checkout / "run" / "model" / "model.json").read_text(encoding="utf-8"))
    assert architecture["name"] == "maxout"
    assert architecture["options"] == {"width": 4, "pieces": 3, "num_bins": 32, "embedding_dim": 16}
    assert (checkout / "run" / "model" / "code" / "tabstep" / "models" / "maxout.py").is_file()


def test_its_options_are_typed(checkout: Path) -> None:
    done = python(checkout, "train.py", "model=maxout", "model.pieces=0", "--cfg=job")
    assert (done.returncode, done.stderr) == (2, "model.pieces: expected a whole number >= 1, got 0\n")
    done = python(checkout, "train.py", "--help", "model")
    assert re.search(r"^  model\.pieces=3\n +linear units of which a hidden one is the largest", done.stdout, re.M)


@pytest.mark.slow
def test_its_test_and_those_of_every_model_pass(checkout: Path) -> None:
    arguments = ["-p", "no:cacheprovider", "-p", "no:xdist", "-q", "tests/models/test_maxout.py"]
    done = python(checkout, "-m", "pytest", *arguments, "tests/models/test_models.py", "-k", "maxout")
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout


def test_the_files_of_the_recipe_are_as_ruff_formats_them(checkout: Path) -> None:
    files = ["src/tabstep/models/maxout.py", "tests/models/test_maxout.py"]
    for command in (["format", "--check"], ["check"]):
        done = python(checkout, "-m", "ruff", *command, *files)
        assert done.returncode == 0, done.stdout
