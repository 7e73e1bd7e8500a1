"""Writes the tree at the end of README.md, and the options of each group of conf/ into its table of them.

The tree has every file with the first words of its own docstring. An option that is new comes last in its row.

python scripts/readme_tree.py            writes it
python scripts/readme_tree.py --check    exits with 1 where it is not up to date
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH, COMMENT = 120, 32
NAMES = ("Hydra", "Optuna", "SageMaker", "AWS")
TREE = re.compile(r"(?<=<!-- scripts/readme_tree\.py -->\n```text\n).*?(?=^```$)", re.M | re.S)
OPTIONS = re.compile(r"^(?P<start>\| `(?P<group>\w+)` \| (?:none; )?)(?P<options>`\w+`(?:, `\w+`)*)(?= \|)", re.M)
OF_THE_READER = ("schema", "experiment", "launch", "local")  # groups that a reader adds to
WITHOUT_DOCSTRING = {
    "train.py": "the entry point: a run on this machine, a SageMaker job and a sweep are this one file",
    "pyproject.toml": "package, extras, and the settings of every tool",
    "constraints.txt": "the versions that are tested",
    "requirements": "the same with hashes: what scripts/setup installs",
    "conf": "the configuration: train.yaml, and a directory of options for each group",
    "examples": "a notebook, and a package with a model of its own",
    "policies": "IAM policies for the role of a job and for who launches it",
    "scripts": "what nobody imports",
    "src": "",
    "src/hydra_plugins": "what Hydra finds by itself",
    "src/tabstep": "the package",
    "tests": "the paths of src/ again, and tests/conf for every option of conf/",
    "scripts/check": "format, lint, types, import contracts, fast tests; --slow: the others",
    "scripts/lock": "resolves pyproject.toml into constraints.txt and requirements/",
    "scripts/setup": "brings the virtual environment up to date",
    "scripts/test": "setup, then check",
    "scripts/train": "setup, then train.py",
}


def tree() -> str:
    """Return the lines of the tree."""
    names = [
        "train.py",
        "conf",
        "src",
        "scripts",
        "policies",
        "examples",
        "tests",
        "pyproject.toml",
        "constraints.txt",
        "requirements",
    ]
    return "".join(line for name in names for line in _lines(ROOT / name))


def options(row: re.Match[str]) -> str:
    """Return the beginning of a row of the table of groups with the options that the group has."""
    group = ROOT / "conf" / row["group"]
    if not group.is_dir() or row["group"] in OF_THE_READER:
        return row[0]
    there = {file.stem for file in group.glob("*.yaml")}
    named = re.findall(r"\w+", row["options"])
    names = [name for name in named if name in there] + sorted(there.difference(named))
    return row["start"] + ", ".join(f"`{name}`" for name in names)


def _lines(path: Path, depth: int = 0) -> Iterator[str]:
    name = path.relative_to(ROOT).as_posix()
    yield _line("  " * depth + path.name + "/" * path.is_dir(), _comment(path, name))
    if name in ("src", "src/tabstep", "scripts") or name.startswith("src/"):
        for child in sorted(_children(path), key=lambda child: (child.is_dir(), child.name)):
            yield from _lines(child, depth + 1)


def _children(path: Path) -> Iterator[Path]:
    for child in path.iterdir() if path.is_dir() else ():
        hidden = child.name.startswith((".", "__")) or child.suffix in (".pyc", ".typed")
        if not hidden and (child.is_file() or any(child.rglob("*.py"))):  # of a folder that has gone, caches may stay
            yield child


def _comment(path: Path, name: str) -> str:
    if name in WITHOUT_DOCSTRING:
        return WITHOUT_DOCSTRING[name]
    file = path / "__init__.py" if path.is_dir() else path
    if file.suffix == ".py" and file.is_file():
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        return text.partition("\n")[0]
    return next((line[2:] for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("# ")), "")


def _line(entry: str, comment: str) -> str:
    """Return a line that is not too long: the comment ends at a full stop, else where a part of it ends."""
    text = comment.partition(". ")[0].rstrip(".").replace("``", "")
    ends = [len(text), *(match.start() for match in re.finditer(r"[:;] | \(", text))]
    fitting = [end for end in ends if COMMENT + end <= WIDTH]
    text = text[: max(fitting)] if fitting else text[: WIDTH - COMMENT].rpartition(", ")[0]
    if text[:2].istitle() and not text.startswith(NAMES):
        text = text[0].lower() + text[1:]
    return f"{entry:<{COMMENT - 1}} {text}".rstrip() + "\n"


def main(arguments: list[str]) -> int:
    """Write the tree, or compare it with the one that is there."""
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = OPTIONS.sub(options, TREE.sub(lambda _: tree(), before))
    if "--check" not in arguments:
        readme.write_text(after, encoding="utf-8")
        return 0
    if before != after:
        print(
            "README.md: its tree or its options are not those of the repository: run python scripts/readme_tree.py",
            file=sys.stderr,
        )
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
