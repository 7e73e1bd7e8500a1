"""What git says about a directory; nothing where there is no git or no repository."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class State:
    """The commit of a checkout, the files that are not as it has them, and those of it that are gone."""

    commit: str | None = None
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


def files(root: Path) -> list[str]:
    """Return the files below ``root`` that git knows or would take in, relative to it."""
    found = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [] if found is None else [name for name in found.split("\0") if name]


def state(root: Path, names: Sequence[str]) -> State:
    """Return the commit of ``root``, which of ``names`` differ from it or are not in it, and what it has besides."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return State()
    # those of the index: a file that git does not know yet is a change too
    same = (_git(root, "ls-files", "-z", "--cached") or "").split("\0")
    # below root alone, by names as they are now: a renamed file is one gone and one that is new
    differing = (_git(root, "diff", "HEAD", "--name-only", "--no-renames", "--relative", "-z") or "").split("\0")
    changed = {name for name in names if name not in set(same)} | (set(differing) & set(names))
    deleted = (name for name in differing if name and not os.path.lexists(root / name))
    return State(commit=commit.strip(), changed=tuple(sorted(changed)), deleted=tuple(sorted(deleted)))


def _git(root: Path, *arguments: str) -> str | None:
    """Run git without asking anyone anything; None where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
    except OSError:
        return None
    return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else None
