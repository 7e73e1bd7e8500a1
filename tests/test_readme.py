"""What README.md and docs/ tell a reader to do, done: every command and program, in order, in a copy of the checkout.

A page that begins with ``<!-- after README.md -->`` goes on where README.md ends, each in a copy of its own. A comment
above a block says what is special about it:

- ``<!-- not run: REASON -->``: it cannot be run here; each reason allows a few blocks
- ``<!-- needs MODULE, MODULE -->``: it is left out where a module of an extra is not installed
- ``<!-- exit N -->``: its exit code, which is 0 otherwise
- ``<!-- prints -->`` above a text block: lines that the block before has printed, where ``…`` stands for anything
"""

from __future__ import annotations

import fcntl
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from tabstep.config.conf_directory import group_options
from tabstep.config.overrides import check_overrides
from tabstep.config.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*DOCS, *sorted((ROOT / "examples").glob("*/README.md"))]
COPIED = ("train.py", "conf", "examples", "src", "policies", "scripts", "pyproject.toml", "constraints.txt")
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
REASONS = {
    ".ci/run runs it": 1,
    "needs AWS": 12,  # of which tests/launch and tests/serving send the requests to servers of their own
    "needs GPUs": 1,
    "needs Slurm": 1,
    "needs a cluster": 2,
    "needs a container engine": 1,  # tests/test_dockerfile.py reads the file
    "needs a package index": 1,
    "needs the price list": 1,
    "serves until it is stopped": 1,  # tests/serving/test_service.py runs it
}
CONFIGURATION = ROOT / "docs" / "configuration.md"
FIRST, AFTER = ROOT / "README.md", "<!-- after README.md -->\n"
SECONDS = 600


@dataclass(frozen=True)
class Block:
    """A fenced block, the page and the line that it begins at."""

    place: str
    mark: str
    language: str
    text: str

    @property
    def reason(self) -> str | None:
        """Why it is not run."""
        return self.mark.removeprefix("not run: ") if self.mark.startswith("not run: ") else None

    @property
    def missing(self) -> list[str]:
        """Modules that it needs and that are not installed."""
        names = self.mark.removeprefix("needs ").split(", ") if self.mark.startswith("needs ") else []
        return [name for name in names if find_spec(name) is None]

    @property
    def exit_code(self) -> int:
        """How it ends."""
        return int(self.mark.removeprefix("exit ")) if self.mark.startswith("exit ") else 0

    @property
    def command(self) -> list[str]:
        """What runs it."""
        shell = shutil.which("bash")
        assert shell is not None
        return (
            [sys.executable, "-c", self.text]
            if self.language == "python"
            else [shell, "-euo", "pipefail", "-c", self.text]
        )


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}",
            *(match[name] or "" for name in ("mark", "language", "text")),
        )
        for match in BLOCK.finditer(text)
    ]


def all_blocks() -> Iterator[Block]:
    for page in PAGES:
        yield from blocks(page)


def test_every_block_is_run_shown_or_left_out_for_a_known_reason() -> None:
    assert {block.language for block in all_blocks()} == {"bash", "python", "text"}
    for block in all_blocks():
        known = ("prints",) if block.language == "text" else ("not run: ", "needs ", "exit ")
        assert block.mark.startswith(("scripts/generated_docs.py", *known)) or not block.mark, (
            f"{block.place}: {block.mark}"
        )
    found = Counter(block.reason for block in all_blocks() if block.reason is not None)
    assert found == {reason: found[reason] for reason in REASONS}
    assert all(found[reason] <= most for reason, most in REASONS.items()), found


def test_what_ci_runs_is_there() -> None:
    commands = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    for block in all_blocks():
        if block.reason == ".ci/run runs it":
            for line in block.text.splitlines():
                command = line.partition("#")[0].strip()
                assert any(f" {command}" in each for each in commands), command


@pytest.fixture(scope="module")
def first_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a checkout in which README.md was followed, and the blocks that were left out.

    Workers of pytest-xdist share it: the first that needs it makes it, and another one waits for it.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    directory, followed = shared / "first", shared / "first.json"
    with open(shared / "first.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not followed.exists():
            shutil.rmtree(directory, ignore_errors=True)  # of a worker where it failed
            directory.mkdir()
            make_checkout(directory)
            followed.write_text(json.dumps(follow(FIRST, directory)))
    return directory, json.loads(followed.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_does_what_the_page_says(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if page == FIRST:
        _, left_out = request.getfixturevalue("first_page")
    else:
        if page.read_text(encoding="utf-8").startswith(AFTER):
            shutil.copytree(request.getfixturevalue("first_page")[0], tmp_path, dirs_exist_ok=True)
        else:
            make_checkout(tmp_path)
        left_out = follow(page, tmp_path)
    if left_out:
        pytest.skip(f"the others ran; not installed: {'; '.join(left_out)}")


def follow(page: Path, directory: Path) -> list[str]:
    """Run the blocks of a page; return those that need what is not installed."""
    environment = environment_in(directory)
    left_out: list[str] = []
    printed = ""
    for block in blocks(page):
        if block.language == "text":
            if block.mark == "prints" and printed:
                check_lines(block, printed)
        elif block.reason is not None or block.missing:
            left_out += [f"{block.place} ({', '.join(block.missing)})"] if block.missing else []
            printed = ""
        else:
            printed = run(block, directory, environment)
    return left_out


def make_checkout(directory: Path) -> None:
    """Copy what a reader has and what is compiled of it, with a ``python`` and a ``tabstep`` of this Python."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("local", "*.pyc.*"))
        else:
            shutil.copy2(source, directory / name)
    programs = directory / ".programs"
    programs.mkdir()
    for name, arguments in {"python": "", "tabstep": "-m tabstep.cli"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (programs / name).chmod(0o755)


def environment_in(directory: Path) -> dict[str, str]:
    """Return the environment of a reader's shell in a checkout."""
    ours = ("AWS_", "SAGEMAKER_", "SM_", "HYDRA_", "TABSTEP_", "PYTHON", "CA_REPOSITORY_ARN")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
        "PATH": os.pathsep.join([str(directory / ".programs"), os.environ["PATH"]]),
        "PYTHONPATH": str(directory / "src"),
        "XDG_CACHE_HOME": str(directory / ".cache"),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "OMP_NUM_THREADS": "1",  # several tests at a time would wait for each other's threads
    }


def run(block: Block, directory: Path, environment: dict[str, str]) -> str:
    """Run a block and return what it printed."""
    done = subprocess.run(
        block.command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == block.exit_code, (
        f"{block.place}: exit code {done.returncode}\n{block.text}\n{done.stdout}"
    )
    return done.stdout


def check_lines(block: Block, printed: str) -> None:
    """Find each line in what was printed, whatever the spaces; the table of a narrow terminal may be cut."""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    for expected in block.text.splitlines():
        pattern = ".*".join(re.escape(part) for part in " ".join(expected.split()).split("…"))
        assert any(re.fullmatch(pattern, line) for line in lines), (
            f"{block.place}: nothing like {expected!r} in\n{printed}"
        )


def test_groups_and_options_are_those_of_conf() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", CONFIGURATION.read_text(encoding="utf-8"), re.M)
    named = {group: set(re.findall(r"`(\w+)`", options)) for group, options in rows}
    found = group_options([ROOT / "conf"])
    for group, options in found.items():
        own = group in ("schema", "experiment", "launch", "local")  # a reader adds to these
        assert named[group] <= {*options, "default"} if own else named[group] == set(options), group


def test_overrides_within_sentences_and_tables_exist() -> None:
    roots = {*inspect.get_annotations(Settings), "hydra"}
    for page in PAGES:
        for span in re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text(encoding="utf-8"))):
            texts = re.findall(r"'[^']+'|[^\s']+", span)
            overrides = [text.strip("'") for text in texts if re.match(r"'?[\w.]+=[^…]+$", text)]
            known = [text for text in overrides if re.split(r"[.=]", text)[0] in roots]
            if not known:
                continue  # a thousand spans, and a check reads the options of every group
            problems, _ = check_overrides(known, [ROOT / "conf"], multirun=True)
            assert not [problem for problem in problems if "schema: no such option" not in problem], span


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_links_have_a_target(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """Return the anchors that a heading gets."""
    without = BLOCK.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", without, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_what_is_generated_is_up_to_date() -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "generated_docs.py"), "--check"], check=True)
