"""The images can be built as far as a checkout tells: what is copied exists, what is installed and run is there."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tabstep.cli import build_parser
from tabstep.launch.source.secrets import found_secrets

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
KNOWN = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
DOCS = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


@dataclass
class Stage:
    """A stage, what it is made from, and its instructions."""

    name: str
    parent: str
    steps: list[tuple[str, str]]

    def all(self, word: str) -> list[str]:
        return [rest for found, rest in self.steps if found == word]

    def last(self, word: str) -> str:
        return self.all(word)[-1]


def parse() -> dict[str, Stage]:
    """Join lines that go on, leave comments out, and cut what is left into stages."""
    lines = [line for line in TEXT.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: dict[str, Stage] = {}
    stage = None
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        assert word in KNOWN, line
        if word == "FROM":
            match = re.fullmatch(r"(\S+) AS (\S+)", rest)
            assert match, line
            stage = found[match[2]] = Stage(match[2], match[1], [])
        else:
            assert stage is not None, line
            stage.steps.append((word, rest.strip()))
    return found


STAGES = parse()
TARGETS = ("train", "serve")


def ignored(name: str) -> bool:
    """Tell whether .dockerignore leaves a path out: the last line that fits it, or a folder above it, counts."""
    answer = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            above = ["/".join(name.split("/")[: depth + 1]) for depth in range(name.count("/") + 1)]
            if any(fnmatch(path, pattern) or fnmatch(f"x/{path}", pattern) for path in above):
                answer = not line.startswith("!")
    return answer


def test_stages_stand_on_earlier_ones_and_one_pinned_image() -> None:
    seen: list[str] = []
    for stage in STAGES.values():
        copied = re.findall(r"--from=(\S+)", " ".join(stage.all("COPY")))
        assert {*copied} <= {*seen}
        assert stage.parent in seen or stage.parent == "python:3.12-slim", stage
        seen.append(stage.name)
    assert seen[-2:] == list(TARGETS)
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert STAGES["base"].parent.partition(":")[2].removesuffix("-slim") in versions


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    names = [
        name
        for stage in STAGES.values()
        for rest in stage.all("COPY")
        if "--from" not in rest
        for name in shlex.split(rest)[:-1]
    ]
    assert {"constraints.txt", "pyproject.toml", "conf", "src"} <= {*names}
    for name in names:
        assert (ROOT / name).exists(), name
        assert not ignored(name), name
    built = PROJECT["license-files"] + [PROJECT["readme"]]
    assert {*built} <= {*names}


@pytest.mark.parametrize(
    "name", [".git", ".venv", "logs", "conf/local", "conf/local/default.yaml", "src/tabstep/__pycache__", "tests"]
)
def test_what_is_no_source_stays_outside(name: str) -> None:
    assert ignored(name)
    assert not ignored("src/tabstep/cli.py")
    assert not ignored("conf/train.yaml")


def test_everything_is_installed_by_the_constraints() -> None:
    (values,) = STAGES["build"].all("ENV")
    variables = dict(part.split("=", 1) for part in shlex.split(values))
    assert variables["PIP_CONSTRAINT"] == variables["PIP_BUILD_CONSTRAINT"] == "/source/constraints.txt"
    first = STAGES["build"].steps.index(("COPY", "constraints.txt ./"))
    assert STAGES["build"].last("WORKDIR") == "/source"
    assert all(place > first for place, (word, _) in enumerate(STAGES["build"].steps) if word == "RUN")
    commands = [rest for stage in STAGES.values() for rest in stage.all("RUN") if "pip" in rest]
    extras = {name for rest in commands for found in re.findall(r"\.\[([\w,-]+)\]", rest) for name in found.split(",")}
    assert {"onnx", "serve"} <= extras
    assert extras <= PROJECT["optional-dependencies"].keys()
    assert "torch==" in (ROOT / "constraints.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_a_command_as_a_user_without_rights(target: str) -> None:
    stage = STAGES[target]
    words = [word for word, _ in stage.steps]
    (user,) = stage.all("USER")
    assert f"--uid 1000 {user}" in " ".join(STAGES["base"].all("RUN"))
    assert words.index("USER") > max(place for place, word in enumerate(words) if word in ("COPY", "RUN"))
    assert json.loads(stage.last("ENTRYPOINT")) == ["tabstep"]
    assert PROJECT["scripts"]["tabstep"] == "tabstep.cli:main"
    build_parser().parse_args(json.loads(stage.last("CMD")))
    assert f"--target {target} --tag tabstep-{target} ." in DOCS
    assert stage.last("WORKDIR") == "/work"
    assert "/work" in STAGES["base"].last("RUN")


def test_the_service_is_asked_where_it_listens() -> None:
    stage = STAGES["serve"]
    options = build_parser().parse_args(json.loads(stage.last("CMD")))
    assert options.host == "0.0.0.0"
    assert stage.last("EXPOSE") == str(options.port)
    check = stage.last("HEALTHCHECK")
    command = json.loads(check[check.index("CMD") + len("CMD") :])
    assert command[:2] == ["python", "-c"]
    ast.parse(command[2])
    assert f"http://127.0.0.1:{options.port}/health" in command[2]
    assert f":{options.model_dir}:ro tabstep-serve" in DOCS.replace('"', "")
    assert f"127.0.0.1:{options.port}:{options.port}" in DOCS


def test_no_image_holds_a_secret() -> None:
    assert list(found_secrets("Dockerfile", TEXT.encode())) == []
    declared = [rest for stage in STAGES.values() for word in ("ARG", "ENV") for rest in stage.all(word)]
    assert not re.search(r"(?i)token|secret|passw|_key|credential", " ".join(declared))
