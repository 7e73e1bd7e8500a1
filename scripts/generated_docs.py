"""Writes what docs/ repeats of the source: the tree, the options of each group, the keys, and the public names.

- docs/repository.md: every file with the first words of its own docstring
- docs/configuration.md: the options of each group; one that is new comes last in its row
- docs/keys.md: every key with its default, its meaning and the values it takes
- docs/names.md: every public name with its signature and its docstring

python scripts/generated_docs.py            writes them
python scripts/generated_docs.py --check    exits with 1 where one is not up to date
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import tabstep
from tabstep.config.help import defaults, meaning, settable_keys

ROOT = Path(__file__).resolve().parent.parent
WIDTH, COMMENT = 120, 32
NAMES = ("Hydra", "Optuna", "SageMaker", "AWS")
TREE = re.compile(r"(?<=<!-- scripts/generated_docs\.py -->\n```text\n).*?(?=^```$)", re.M | re.S)
OPTIONS = re.compile(r"^(?P<start>\| `(?P<group>\w+)` \| (?:none; )?)(?P<options>`\w+`(?:, `\w+`)*)(?= \|)", re.M)
OF_THE_READER = ("schema", "experiment", "launch", "local")  # groups that a reader adds to
RETURNED = {"Predictor": "tabstep.artifact.predictor", "Explanation": "tabstep.analysis.explanation"}
"""Classes that public names return."""
PAGE = "<!-- scripts/generated_docs.py writes this page -->\n"
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$", re.M)
WITHOUT_DOCSTRING = {
    "train.py": "the entry point: a run on this machine, a SageMaker job and a sweep are this one file",
    "pyproject.toml": "package, extras, and the settings of every tool",
    "constraints.txt": "the versions that are tested",
    "requirements": "the same with hashes: what scripts/setup installs",
    "conf": "the configuration: train.yaml, and a directory of options for each group",
    "docs": "the pages of the site, which scripts/docs builds",
    "mkdocs.yml": "the settings of the site",
    "examples": "a notebook, and a package with a model of its own",
    "policies": "IAM policies for the role of a job and for who launches it",
    "scripts": "what nobody imports",
    "src": "",
    "src/hydra_plugins": "what Hydra finds by itself",
    "src/tabstep": "the package",
    "tests": "the paths of src/ again, and tests/conf for every option of conf/",
    "scripts/check": "format, lint, types, import contracts, fast tests; --slow: the others",
    "scripts/docs": "setup, then builds the site of docs/ into site/",
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
        "docs",
        "tests",
        "mkdocs.yml",
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


def keys_page() -> str:
    """Return docs/keys.md: a table of keys for each group."""
    rows: dict[str, list[str]] = {}
    for path in settable_keys():
        group = path.partition(".")[0] if "." in path else ""
        default = ", ".join(defaults(path)) or "none: conf/ sets it"
        cells = (f"`{path}`", f"`{default}`", _cell(meaning(path, values=True)))
        rows.setdefault(group, []).append(f"| {' | '.join(cells)} |\n")
    intro = "Every key with its default, its meaning and the values it takes. [Configuration](configuration.md) says\n"
    intro += "how one is set; on the command line, `python train.py --help GROUP` shows the same.\n"
    head = "| key | default | meaning and values |\n|---|---|---|\n"
    groups = [f"\n## {group or 'Beside the groups'}\n\n{head}{''.join(found)}" for group, found in rows.items()]
    return f"{PAGE}# All keys\n\n{intro}{''.join(groups)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def names_page() -> str:
    """Return docs/names.md: each public name, then the classes that they return."""
    homes = {name: tabstep._HOMES[name] for name in sorted(tabstep._HOMES, key=str.lower)}
    intro = "The public names of the package; a module of it is private. [Python](python.md) has examples.\n"
    public = "".join(_name(f"tabstep.{name}", home) for name, home in homes.items())
    returned = "".join(_name(name, home, level="###") for name, home in RETURNED.items())
    return f"{PAGE}# Public names\n\n{intro}{public}\n## What they return\n{returned}"


def _name(name: str, home: str, *, level: str = "##") -> str:
    """Return the section of a function or a class that is defined in a module."""
    path = ROOT / "src" / Path(*home.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = Constants(file).body
    node = next(n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name.rpartition(".")[2])
    if isinstance(node, ast.FunctionDef):
        return f"\n{level} {name}\n\n{_signature(node)}\n{_docstring(node)}"
    own = [child for child in node.body if isinstance(child, ast.FunctionDef)]
    made = "".join(f"{_signature(child, node.name)}\n" for child in own if child.name == "__init__")
    fields = [
        f"- `{ast.unparse(child.target)}`: `{_type(child.annotation)}`"
        for child in node.body
        if isinstance(child, ast.AnnAssign)
    ]
    parts = [f"**Fields**\n\n{chr(10).join(fields)}\n"] if fields else []
    parts += [_member(child) for child in own if not child.name.startswith("_") and ast.get_docstring(child)]
    return f"\n{level} {name}\n\n{made}" + "\n".join([_docstring(node), *parts])


class Constants(ast.NodeTransformer):
    """The syntax tree of a module; where a default is the name of a number, the number stands there."""

    def __init__(self, file: Path) -> None:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assigned = [
            node for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant)
        ]
        self.values = {ast.unparse(node.target): node.value for node in assigned}
        self.body = self.visit(tree).body

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        """Replace the defaults of a function."""
        for given in (node.defaults, node.kw_defaults):
            given[:] = [self.values.get(ast.unparse(each), each) if each is not None else None for each in given]
        return node


def _type(annotation: ast.expr) -> str:
    """Return an annotation without the bounds and the meaning that ``Annotated`` adds."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        return ast.unparse(annotation.slice.elts[0])
    return ast.unparse(annotation)


def _member(node: ast.FunctionDef) -> str:
    """Return a method with its call, or a property with its type."""
    if {ast.unparse(decorator) for decorator in node.decorator_list} & {"property", "cached_property"}:
        return f"**{node.name}**: `{ast.unparse(node.returns) if node.returns else 'Any'}`\n\n{_docstring(node)}"
    return f"**{node.name}**\n\n{_signature(node)}\n{_docstring(node)}"


def _signature(node: ast.FunctionDef, called: str | None = None) -> str:
    """Return a block with the call of a function, one argument a line where they do not fit into one."""
    arguments = node.args
    arguments.args = [each for each in arguments.args if each.arg not in ("self", "cls")]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None and called is None else ""
    name, text = called or node.name, ast.unparse(arguments)
    call = f"{name}({text}){returns}"
    if len(call) > 100:
        lines = re.split(r", (?=[\w*]+(?:[:,=]|$))", text)
        call = f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f"){returns}"
    return f"```text\n{call}\n```\n"


def _docstring(node: ast.FunctionDef | ast.ClassDef) -> str:
    """Return a docstring as Markdown: its sections as lists, its examples as blocks."""
    text = (ast.get_docstring(node) or "").replace("``", "`")
    text = re.sub(r"((?:^ *(?:>>>|\.\.\.) .*\n?(?:^(?! *$).*\n?)*)+)", _example, text, flags=re.M)
    first, *sections = SECTION.split(text)
    found = [first.strip("\n")]
    for title, section in zip(sections[::2], sections[1::2], strict=True):
        found.append(_section(title, section))
    return "\n\n".join(filter(None, found)) + "\n"


def _section(title: str, text: str) -> str:
    """Return a section of a docstring; what follows its indented lines is a paragraph again."""
    indented, rest = re.fullmatch(r"\n((?:    [^\n]*\n?|\n(?=    ))*)\n*(.*)", text, re.S).groups()  # type: ignore[union-attr]
    items = re.split(r"\n(?=\S)", textwrap.dedent(indented).strip("\n"))
    lines = [" ".join(item.split()) for item in items]
    if title != "Returns":
        lines = [f"- `{name}`:{about}" for name, _, about in (line.partition(":") for line in lines)]
    return f"**{title}**\n\n" + "\n".join(lines) + (f"\n\n{rest.strip()}" if rest.strip() else "")


def _example(match: re.Match[str]) -> str:
    return f"```text\n{textwrap.dedent(match[1]).rstrip()}\n```\n"


def generated() -> dict[Path, str]:
    """Return the pages as they ought to be."""
    repository, configuration = ROOT / "docs" / "repository.md", ROOT / "docs" / "configuration.md"
    return {
        repository: TREE.sub(lambda _: tree(), repository.read_text(encoding="utf-8")),
        configuration: OPTIONS.sub(options, configuration.read_text(encoding="utf-8")),
        ROOT / "docs" / "keys.md": keys_page(),
        ROOT / "docs" / "names.md": names_page(),
    }


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them with those that are there."""
    stale = 0
    for page, text in generated().items():
        if page.is_file() and page.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if "--check" in arguments:
            print(f"docs/{page.name} is not up to date: run python scripts/generated_docs.py", file=sys.stderr)
        else:
            page.write_text(text, encoding="utf-8")
    return int("--check" in arguments and stale > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
