"""The pinned versions: complete, hashed, the same in all files, and above the floors of pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKED = sorted((ROOT / "requirements").glob("*.txt"))
ADVISORIES = {"lightning": "2.6.6", "torch": "2.10", "pyarrow": "23.0.1", "hydra-core": "1.3.8"}


def pins(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [re.match(r"([a-z0-9-]+)==([^ ;]+)", line) for line in lines if line[:1].isalpha()]
    assert all(found), f"{path.name}: not every package is pinned with =="
    return {match[1]: match[2] for match in found}


CONSTRAINTS = pins(ROOT / "constraints.txt")


def requirements(*extras: str) -> list[Requirement]:
    texts = PROJECT["dependencies"] + [text for extra in extras for text in PROJECT["optional-dependencies"][extra]]
    return [found for found in map(Requirement, texts) if found.name != PROJECT["name"]]


@pytest.mark.parametrize("requirement", requirements(*PROJECT["optional-dependencies"]), ids=lambda found: found.name)
def test_what_is_tested_is_what_is_allowed(requirement: Requirement) -> None:
    assert requirement.specifier.contains(CONSTRAINTS[requirement.name.lower()])


@pytest.mark.parametrize("path", LOCKED, ids=lambda path: path.name)
def test_locked_files_agree_with_the_constraints_and_have_hashes(path: Path) -> None:
    locked = pins(path)
    assert locked.items() <= CONSTRAINTS.items()
    assert "torch" not in locked
    blocks = re.split(r"\n(?=[a-z])", path.read_text(encoding="utf-8"))[1:]
    assert len(blocks) == len(locked)
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize(("name", "extras"), [("train", ()), ("test", ("dev", "tensorboard"))])
def test_locked_files_hold_what_the_commands_need(name: str, extras: tuple[str, ...]) -> None:
    needed = {requirement.name.lower() for requirement in requirements(*extras)} - {"torch"}
    assert needed <= pins(ROOT / "requirements" / f"{name}.txt").keys()


@pytest.mark.parametrize(("name", "floor"), ADVISORIES.items())
def test_floors_exclude_versions_with_known_holes(name: str, floor: str) -> None:
    (found,) = [requirement for requirement in requirements() if requirement.name == name]
    assert str(next(part for part in found.specifier if part.operator == ">=")) == f">={floor}"
