"""What the commands of ``tabstep`` share: a parser of one-line errors, and the arguments of a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from tabstep.errors import UserError

Namespace = argparse.Namespace


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print after the usage."""
        raise UserError(f"{self.prog}: {message}: see {self.prog} --help")


@dataclass(frozen=True)
class Command:
    """A command: what it does, in a phrase, its arguments and the function behind it."""

    about: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Namespace], None]


def add_reader(parser: argparse.ArgumentParser) -> None:
    """Add what says how a table is read that is neither parquet nor CSV."""
    parser.add_argument("--reader", metavar="NAME", help="package.module:Name that reads it, as data.reader.name")


@contextmanager
def table_of(options: Namespace) -> Iterator[str]:
    """Give the location of the table: of what a reader makes of it, in a file of its own until the end."""
    if options.reader is None:
        yield options.table
        return
    from tabstep.registry import PluginSettings
    from tabstep.run.foreign_reader import read_by

    reader = PluginSettings(name=options.reader)
    with TemporaryDirectory() as directory:
        yield str(read_by(reader, options.table, where="table", cache_dir=Path(directory)))


def count(text: str) -> int:
    """Read a whole number above zero, as the ``type`` of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {text!r}")
    return int(text)
