"""The source bundle of a job: train.py, conf/, src/ and a requirements.txt that never moves torch.

The same files give the same bytes, on any day and for any user: a pipeline's step cache and the upload that is skipped
hang on that.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from tabstep.config.conf_directory import config_dir
from tabstep.errors import UserError
from tabstep.launch.source.requirements import REQUIREMENTS, job_requirements
from tabstep.launch.source.secrets import found_secrets
from tabstep.system import git

MAX_BYTES: Final = 10 * 2**20
_OURS: Final = ("conf", "src", REQUIREMENTS)
_PACKAGE: Final = "src/tabstep"
_NEVER: Final = (
    ".git", ".hg", ".svn", "__pycache__", ".venv", "venv", "node_modules", ".ipynb_checkpoints", ".idea", ".vscode",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache", ".tox", "logs", "outputs",
    "multirun", "dist", "build", "*.egg-info", "*.pyc", "*.pyo", ".DS_Store",
)  # fmt: skip
ENTRY_POINT: Final = "entry_point.txt"
"""File beside this module: what train.py is where tabstep is installed without its checkout."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A packed source directory and where its files come from.

    Attributes:
        data: the bytes of ``sourcedir.tar.gz``.
        files: size of each file by name.
        digest: of names and contents: equal for equal files, whatever packed them.
        commit: of the checkout, or None where there is none.
        changed: files that are not as the commit has them.
        deleted: files of the commit that are gone.
    """

    data: bytes
    files: Mapping[str, int]
    digest: str
    commit: str | None
    changed: tuple[str, ...]
    deleted: tuple[str, ...] = ()
    changes_digest: str | None

    def tags(self) -> dict[str, str]:
        """Return what a job has to say about its source."""
        if self.commit is None:
            return {"tabstep:source": self.digest[:16]}
        return {"tabstep:commit": self.commit, "tabstep:changes": self.changes_digest or "none"}

    def listing(self) -> str:
        """List the files with their sizes, for a person."""
        lines = [
            f"{size:>10,}  {name}{' (changed)' if name in self.changed else ''}" for name, size in self.files.items()
        ]
        lines += [f"{'-':>10}  {name} (deleted)" for name in self.deleted]
        return "\n".join([*lines, f"{sum(self.files.values()):>10,}  in all, {len(self.data):,} packed"])


def build_bundle(
    root: Path | None = None,
    *,
    entry_point: str = "train.py",
    extra_files: Mapping[str, bytes] | None = None,
    packages: Sequence[str] = (),
    installs: bool = True,
    max_bytes: int = MAX_BYTES,
) -> Bundle:
    """Pack what a job needs.

    Args:
        root: the source directory; None is the checkout of this package, or the package itself where it is installed.
            A directory of the user's own is sent whole, as far as git does not ignore it.
        extra_files: contents by name, besides those of the directory.
        packages: distributions that the job needs besides those that it always does.
        installs: whether the job can install anything; without a network its image has all that it needs, and a
            requirements.txt would have pip look for an index.
        max_bytes: budget of all files together.

    Raises:
        UserError: the entry point is missing, something looks like a secret, the budget is exceeded, or a file would
            change what the job runs on.
    """
    directory = checkout() if root is None else root
    contents = _read(directory, entry_point) if directory is not None else {}
    given_names = set(contents) if installs else set(contents) - {REQUIREMENTS}
    _complete(contents, entry_point)
    _check(contents, entry_point, directory)
    given = contents.pop(REQUIREMENTS, b"").decode("utf-8", "replace")
    if installs:
        contents[REQUIREMENTS] = job_requirements(given, packages).encode()
    contents |= extra_files or {}
    _check_size(contents, max_bytes)
    _check_secrets(contents)
    state = git.state(directory, sorted(given_names)) if directory is not None else git.State()
    deleted = [name for name in state.deleted if directory is not None and _is_wanted(directory, name, entry_point)]
    changes = {name: contents[name] for name in state.changed} | {f"{name} (deleted)": b"" for name in deleted}
    return Bundle(
        # no time in it: equal files are equal bytes
        data=gzip.compress(_packed(contents), compresslevel=9, mtime=0),
        files={name: len(contents[name]) for name in sorted(contents)},
        digest=_digest(contents),
        commit=state.commit,
        changed=state.changed,
        deleted=tuple(deleted),
        changes_digest=_digest(changes)[:16] if changes else None,
    )


def checkout() -> Path | None:
    """Return the checkout that this package lies in, or None where it is installed."""
    directory = Path(__file__).resolve().parents[4]
    return directory if (directory / "train.py").is_file() and (directory / "conf").is_dir() else None


def extra_conf(directory: Path, prefix: str) -> dict[str, bytes]:
    """Return the options below the directory of ``--config-dir`` as files of the bundle."""
    files = sorted(path for path in directory.rglob("*.yaml") if path.is_file())
    return {f"{prefix}/{path.relative_to(directory).as_posix()}": path.read_bytes() for path in files}


def _read(root: Path, entry_point: str) -> dict[str, bytes]:
    if not root.is_dir():
        raise UserError(f"launch.source_dir: no such directory: {str(root)!r}")
    names = git.files(root) or _walk(root)
    # not in git, but what it says is part of a run
    local = [path.relative_to(root).as_posix() for path in (root / "conf" / "local").glob("*.yaml")]
    wanted = sorted(name for name in {*names, *local} if _is_wanted(root, name, entry_point))
    return {name: _content(root, name) for name in wanted if (root / name).is_file()}


def _is_wanted(root: Path, name: str, entry_point: str) -> bool:
    """Tell whether a file is one of a job's: of a checkout of this package its source, of any other directory all."""
    ours = (root / _PACKAGE / "__init__.py").is_file()
    path = PurePosixPath(name)
    return (not ours or path.parts[0] in _OURS or name == entry_point) and not _is_never(path)


def _content(root: Path, name: str) -> bytes:
    target = (root / name).resolve()
    if not target.is_relative_to(root.resolve()):
        raise UserError(f"launch.source_dir: {name} is a link to {target}, outside of the directory: copy it there")
    return target.read_bytes()


def _walk(root: Path) -> list[str]:
    names: list[str] = []
    for directory, below, files in os.walk(root):
        # in place, for os.walk goes down into what is left
        below[:] = [name for name in below if not _is_never(PurePosixPath(name))]
        names += [(Path(directory) / name).relative_to(root).as_posix() for name in files]
    return names


def _is_never(path: PurePosixPath) -> bool:
    return any(PurePosixPath(part).match(pattern) for part in path.parts for pattern in _NEVER)


def _complete(contents: dict[str, bytes], entry_point: str) -> None:
    """Add the package, its conf/ and train.py where the directory has none of its own."""
    package, conf = Path(__file__).resolve().parents[2], config_dir()
    if f"{_PACKAGE}/__init__.py" not in contents:
        for path in sorted(package.rglob("*")):
            name = path.relative_to(package)
            if path.is_file() and name.parts[0] != "conf" and not _is_never(PurePosixPath(name)):
                contents[f"{_PACKAGE}/{name.as_posix()}"] = path.read_bytes()
        for path in sorted((package.parent / "hydra_plugins").glob("tabstep_*.py")):
            contents[f"src/hydra_plugins/{path.name}"] = path.read_bytes()
    if "conf/train.yaml" not in contents:
        files = [path for path in sorted(conf.rglob("*.yaml")) if path.parent != conf / "local"]
        contents |= {f"conf/{path.relative_to(conf).as_posix()}": path.read_bytes() for path in files}
    if entry_point == "train.py":
        contents.setdefault(entry_point, Path(__file__).with_name(ENTRY_POINT).read_bytes())


def _check(contents: Mapping[str, bytes], entry_point: str, root: Path | None) -> None:
    if entry_point not in contents:
        raise UserError(f"launch.entry_point: {root} has no {entry_point}")
    if "setup.py" in contents:
        raise UserError(
            "launch.source_dir: setup.py at its top makes SageMaker install it and run `python -m train`: "
            "use pyproject.toml, or move it"
        )


def _check_size(contents: Mapping[str, bytes], max_bytes: int) -> None:
    total = sum(map(len, contents.values()))
    if total <= max_bytes:
        return
    largest = sorted(contents, key=lambda name: -len(contents[name]))[:5]
    named = ", ".join(f"{name} ({len(contents[name]):,})" for name in largest)
    raise UserError(
        f"launch.source_dir: {total:,} bytes in {len(contents)} files are more than {max_bytes:,}: name in .gitignore "
        f"what is not source; the largest: {named}"
    )


def _check_secrets(contents: Mapping[str, bytes]) -> None:
    lines = [
        f"launch.source_dir: {problem}: take it out, or {_remedy(name)}"
        for name, content in contents.items()
        for problem in found_secrets(name, content)
    ]
    if lines:
        raise UserError("\n".join(lines))


def _remedy(name: str) -> str:
    if name.startswith("conf/local/"):  # it is sent although git ignores it
        return "let the job's role fetch it from Secrets Manager"
    return "name it in .gitignore"


def _packed(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(contents):
            entry = tarfile.TarInfo(name)  # no owner, no time
            entry.size, entry.mode = len(contents[name]), 0o644
            tar.addfile(entry, io.BytesIO(contents[name]))
    return buffer.getvalue()


def _digest(contents: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(contents):
        # with the length, so that no two lists of files look alike
        digest.update(f"{name}\0{len(contents[name])}\0".encode() + contents[name])
    return digest.hexdigest()
