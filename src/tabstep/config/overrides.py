"""Checks overrides before Hydra composes them: every mistake in one pass, each override by itself."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tabstep.config import key_types
from tabstep.config.parse import check_value
from tabstep.config.unknown_keys import unknown_key
from tabstep.config.values import one_line, shown
from tabstep.errors import UserError, nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

from tabstep.config.conf_directory import options_of

_KEY = re.compile(r"[+~]{0,2}[\w./@\[\]$-]+", re.ASCII)
_QUOTED_NAME = re.compile(r"""[{,]\s*(?P<mark>["'])[^"']*(?P=mark)\s*:""")
_FOREIGN_NAME = re.compile(r"""^name:\s*["']?[\w.]+:\w""", re.M)
MOST_VALUES = 1000  # of a sweep that are checked


def check_overrides(
    overrides: Sequence[str], conf_dirs: Sequence[Path], *, multirun: bool = False
) -> tuple[list[str], list[str]]:
    """Check each override by itself, before anything is composed.

    Returns:
        The problems: keys that do not exist, options that a group lacks, text that Hydra's grammar cannot read, wrong
        values in a sweep. And the sound overrides, with the first value of each sweep: ``parse`` judges what they
        compose.
    """
    searched = any(text.startswith("hydra.searchpath=") for text in overrides)
    checker = _Checker(tuple(conf_dirs), multirun, searched, _open_groups(overrides, conf_dirs))
    problems: list[str] = []
    sound: list[str] = []
    for text in overrides:
        found = [one_line(problem) for problem in checker.problems(text)]
        problems += found
        sound += [] if found else _first_of_sweep(text)
    return problems, sound


@dataclass(frozen=True)
class _Checker:
    conf_dirs: tuple[Path, ...]
    multirun: bool
    searched: bool  # Hydra looks for options in more places, which only Hydra knows
    open_groups: frozenset[str]  # may have keys that only a component of another package knows

    def problems(self, text: str) -> Iterator[str]:
        try:
            override = _read(text)
        except UserError as error:
            yield str(error)
            return
        # Hydra takes a[b] and a.b for one key
        key = re.sub(r"\[(\w+)\]", r".\1", override.key_or_group)
        # these are Hydra's own to judge
        if override.is_hydra_override() or override.package is not None or "/" in key:
            return
        if override.is_delete():
            yield from _deletion(key, text, is_group=self._is_group(key))
        elif override.is_sweep_override():
            yield from self._sweep(text, key, override)
        elif self._is_group(key):
            yield from self._option(key, override.value())
        elif (
            override.is_add()
            and key in key_types.common_keys()
            and not key_types.is_mapping(key_types.key_paths()[key][0])
        ):
            yield f"{text}: the key is there already: leave out the '+'"
        else:
            yield from self._unknown(key, override.value())

    def _sweep(self, text: str, key: str, override: Override) -> Iterator[str]:
        if not self.multirun:
            yield f"{text}: several values need -m, a list needs brackets, and a comma in a text needs quotes"
        elif key == "paths.output_dir":
            yield f"{text}: give one directory: each run of a sweep has its own below it"
        elif not self._is_group(key) and (missing := list(self._unknown(key, _first_value(override)))):
            yield from missing  # once, not for each value
        else:
            for single in _singles(override):
                yield from self.problems(single)
                yield from self._wrong_value(key, single)

    def _is_group(self, key: str) -> bool:
        return key.isidentifier() and any((directory / key).is_dir() for directory in self.conf_dirs)

    def _option(self, group: str, chosen: object) -> Iterator[str]:
        if isinstance(chosen, dict):
            yield f"{group}: expected the name of an option, got {shown(chosen)}: set single keys as {group}.key=value"
            return
        for option in chosen if isinstance(chosen, list) else [chosen]:
            if not isinstance(option, str):  # Hydra takes no name that YAML reads as something else
                yield f"{group}: expected the name of an option, got {shown(option)}{_named(group, option)}"
                continue
            if "${" in option:  # known when all is composed
                continue
            name = option.removesuffix(".yaml")
            if not self.searched and not any(
                (directory / group / f"{name}.yaml").is_file() for directory in self.conf_dirs
            ):
                known = options_of(group, self.conf_dirs)
                yield f"{group}: no such option, got {shown(option)}: {nearest(name, known)}"

    def _unknown(self, key: str, value: object) -> Iterator[str]:
        """Find the keys that no configuration has, also in ``key={below: value}``."""
        if isinstance(value, dict) and key in key_types.key_paths():
            for below, inner in value.items():
                yield from self._unknown(f"{key}.{below}", inner)
        elif not (key in key_types.key_paths() or key_types.is_own_key(key) or self._is_open(key)):
            yield f"{key}: no such key (got {shown(value)}): {unknown_key(key)}"

    def _wrong_value(self, key: str, text: str) -> list[str]:
        """Check a value against the annotations of its key: one for each class of a union that has the key."""
        annotations = key_types.key_paths().get(key)
        value = _read(text).value()
        if annotations is None or key_types.groups(annotations[0]) or (isinstance(value, str) and "${" in value):
            return []
        # of several classes that have the key, the one that fits best speaks
        problems = min((check_value(key, annotation, value) for annotation in annotations), key=len)
        return [] if self._is_open(key) else problems

    def _is_open(self, key: str) -> bool:
        return any(key.startswith(f"{group}.") for group in self.open_groups)


def _open_groups(overrides: Sequence[str], conf_dirs: Sequence[Path]) -> frozenset[str]:
    """Return the groups in which a component of another package may be chosen: an installed one, or one by its path."""
    return frozenset(
        group
        for group, registry in key_types.registries().items()
        if registry.plugins()
        or any(text.lstrip("+").startswith(f"{group}.name=") for text in overrides)
        or any(
            _FOREIGN_NAME.search(file.read_text(encoding="utf-8"))
            for directory in conf_dirs
            for file in (directory / group.partition(".")[0]).glob("*.yaml")
        )
    )


def _read(text: str) -> Override:
    """Return the override as Hydra's grammar reads it.

    Raises:
        UserError: it cannot be read, with the quoted form that can.
    """
    # Imported here, for --help and a command line without overrides need no grammar.
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = text.partition("=")
    if not equals and not text.startswith("~"):
        meant = f": did you mean 'data.train={text}'?" if os.path.exists(text) else ""
        raise UserError(f"{text!r}: expected key=value or group=option{meant}")
    if not key.lstrip("+~"):
        raise UserError(f"{text!r}: there is no key before the '='")
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        if not _KEY.fullmatch(key):
            raise UserError(f"{text!r}: {key!r} is not a key: {unknown_key(key.lstrip('+~'))}") from error
        if _QUOTED_NAME.search(value):
            raise UserError(
                f"{text!r}: the value cannot be read: names in braces stand without quotes, '{key}={{name: value}}'"
            ) from error
        mark = "'" if '"' in value else '"'
        quoted = shlex.quote(f"{key}={mark}{value}{mark}")
        raise UserError(f"{text!r}: the value cannot be read: quote it, {quoted}") from error


def _named(group: str, option: object) -> str:
    """Return what to write in the place of an option that is no text."""
    if option is not None:
        return f": quote a name, \"{group}='{option}'\""
    return "" if group in key_types.common_keys() else f": ~{group} leaves it out"


def _deletion(key: str, text: str, *, is_group: bool) -> Iterator[str]:
    if key in key_types.common_keys():
        remedy = "choose one of its options" if is_group else "set it, perhaps to null"
        yield f"{text}: {key} cannot be left out: {remedy}"
    elif not is_group and key not in key_types.key_paths():
        yield f"{text}: no such key: {unknown_key(key)}"


def _singles(override: Override) -> list[str]:
    """Return one override for each value of a sweep over given values; none for an interval or a glob."""
    if not override.is_discrete_sweep() or override.get_value_string().startswith("glob("):
        return []
    values = zip(range(MOST_VALUES), override.sweep_string_iterator(), strict=False)
    return [f"{override.get_key_element()}={value}" for _, value in values]


def _first_value(override: Override) -> object:
    """Return the first value of a sweep; for one without given values what stands behind the ``=``."""
    singles = _singles(override)
    return _read(singles[0]).value() if singles else override.get_value_string()


def _first_of_sweep(text: str) -> list[str]:
    override = _read(text)
    return _singles(override)[:1] if override.is_sweep_override() else [text]
