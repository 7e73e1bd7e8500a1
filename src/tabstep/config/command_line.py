"""The command line before Hydra reads it: its flags apart from the overrides, and put before them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from tabstep.config.unknown_keys import unknown_key
from tabstep.config.values import shown
from tabstep.errors import ProblemsError, nearest

# Flags of hydra.main: those that take the next argument as their value, and the others. A test compares them with
# Hydra's own parser.
VALUE_FLAGS = {
    "--cfg": "-c",
    "--package": "-p",
    "--config-path": "-cp",
    "--config-name": "-cn",
    "--config-dir": "-cd",
    "--experimental-rerun": None,
}
SWITCHES = {
    "--help": "-h",
    "--hydra-help": None,
    "--version": None,
    "--resolve": None,
    "--run": "-r",
    "--multirun": "-m",
    "--shell-completion": "-sc",
    "--info": "-i",
}
CFG_CHOICES = ("job", "hydra", "all")
INFO_CHOICES = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def _meant(flag: str) -> str:
    """Return the hint for a flag that does not exist: the nearest one, or that settings have no dashes.

    >>> _meant("--multirn"), _meant("--learning-rate")
    ("did you mean '--multirun'?", "settings are written key=value: did you mean 'optimizer.lr'?")
    """
    if close := difflib.get_close_matches(flag, [*VALUE_FLAGS, *SWITCHES], n=1, cutoff=0.75):
        return f"did you mean {close[0]!r}?"
    return f"settings are written key=value: {unknown_key(flag.lstrip('-').replace('-', '_'))}"


@dataclass(frozen=True)
class Command:
    """A command line with Hydra's flags (by their long names) apart from the overrides.

    >>> Command.split(["a=1", "-m", "b=1,2", "--config-dir", "mine"])
    Command(flags={'--multirun': None, '--config-dir': 'mine'}, overrides=('a=1', 'b=1,2'))
    """

    flags: dict[str, str | None]
    overrides: tuple[str, ...]

    @classmethod
    def split(cls, argv: Sequence[str]) -> Command:
        """Read the arguments as Hydra's parser would, had it looked behind the first override too.

        Raises:
            ProblemsError: there is a flag that Hydra does not know, or one without its value.
        """
        flags: dict[str, str | None] = {}
        overrides: list[str] = []
        problems: list[str] = []
        rest = list(argv)
        while rest:
            argument = rest.pop(0)
            if not argument.startswith("-"):
                overrides.append(argument)
                continue
            flag, equals, value = argument.partition("=")
            long = _LONG.get(flag)
            if long is None:
                problems.append(f"{argument}: no such flag: {_meant(flag)}")
            elif not equals and not rest and long in VALUE_FLAGS:
                problems.append(f"{argument}: needs a value behind it")
            elif equals:
                flags[long] = value
            else:
                flags[long] = rest.pop(0) if long in VALUE_FLAGS or _is_info_choice(long, rest) else None
        if (part := flags.get("--cfg")) is not None and part not in CFG_CHOICES:
            problems.append(f"--cfg: no such choice, got {shown(part)}: {nearest(part, CFG_CHOICES)}")
        if problems:
            raise ProblemsError(problems)
        return cls(flags, tuple(overrides))

    @property
    def argv(self) -> list[str]:
        """The arguments in an order that Hydra accepts."""
        # --info without a choice would take an override behind it for one
        flags = {**self.flags, "--info": self.flags["--info"] or "all"} if "--info" in self.flags else self.flags
        return [flag if value is None else f"{flag}={value}" for flag, value in flags.items()] + list(self.overrides)

    @property
    def multirun(self) -> bool:
        """Whether a sweep is asked for."""
        return "--multirun" in self.flags or "hydra.mode=MULTIRUN" in self.overrides


def order_argv(argv: Sequence[str]) -> list[str]:
    """Put Hydra's flags before the overrides: Hydra's parser does not find them behind one.

    >>> order_argv(["a=1", "-m", "b=1,2"])
    ['--multirun', 'a=1', 'b=1,2']
    """
    return Command.split(argv).argv


_LONG = {short: long for long, short in (VALUE_FLAGS | SWITCHES).items() if short} | {
    long: long for long in VALUE_FLAGS | SWITCHES
}


def _is_info_choice(flag: str, rest: Sequence[str]) -> bool:
    return flag == "--info" and bool(rest) and rest[0] in INFO_CHOICES
