"""What git says about a directory; nothing where there is no git or no repository."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class State:
    """The commit of a checkout and the files that are not as it has them."""

    commit: str | None = None
    changed: tuple[str, ...] = ()


def files(root: Path) -> list[str]:
    """Return the files below ``root`` that git knows or would take in, relative to it."""
    found = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [] if found is None else [name for name in found.split("\0") if name]


def state(root: Path, names: Sequence[str]) -> State:
    """Return the commit of ``root``, and which of ``names`` differ from it or are not in it."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return State()
    same = (_git(root, "ls-files", "-z", "--cached") or "").split("\0")
    differing = (_git(root, "diff", "HEAD", "--name-only", "--relative", "-z") or "").split("\0")
    changed = {name for name in names if name not in set(same)} | (set(differing) & set(names))
    return State(commit=commit.strip(), changed=tuple(sorted(changed)))


def _git(root: Path, *arguments: str) -> str | None:
    """Run git without asking anyone anything; None where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
    except OSError:
        return None
    return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else None
