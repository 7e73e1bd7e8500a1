"""The text of ``--help``: written from conf/ and the settings, for Hydra's own takes four times as long."""

from __future__ import annotations

import dataclasses
import difflib
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tabstep.config import key_types
from tabstep.config.conf_directory import group_options
from tabstep.config.settings import Settings
from tabstep.errors import UserError, nearest
from tabstep.registry import PluginSettings

USAGE: Final = """\
tabstep trains, tests and saves a classifier of tables.

Usage: python train.py [group=option ...] [key=value ...] [-m]    (installed: tabstep train ...)

  python train.py                                       the built-in table, default settings
  python train.py data.path=tables schema.label=target  tables/train.parquet (or .csv), val, test
  python train.py model=resnet optimizer.lr=3e-4 debug=fast
  python train.py -m seed=1,2,3 model=mlp,resnet        a sweep: six runs
  python train.py launch=dry_run launch.role=ARN        shows the job that launch=sagemaker sends

Flags:
  -m, --multirun          one run for each combination of values
  --cfg job               print the composed configuration and stop
  --config-dir DIR        your own options of the groups below DIR
  --help GROUP or KEY     every key of it with its default, as in --help data
  --hydra-help            Hydra's other flags"""

USUAL: Final = (
    "data.path",
    "data.train",
    "data.val",
    "data.test",
    "data.batch_size",
    "data.checks",
    "schema.label",
    "schema.id",
    "schema.drop",
    "model.width",
    "model.dropout",
    "loss.class_weights",
    "optimizer.lr",
    "trainer.max_epochs",
    "trainer.max_time",
    "callbacks.early_stopping.patience",
    "objective",
    "seed",
    "resume",
    "paths.output_dir",
)
_WIDTH: Final = 100


def help_text(conf_dirs: Sequence[Path]) -> str:
    """Return one screen: usage, the options of each group, the keys that people set and where the others are."""
    options = group_options(conf_dirs)
    width = max(map(len, options), default=0)
    groups = [f"  {name:<{width}}  {', '.join(found)}" for name, found in options.items()]
    keys = [f"  {path:<35}{textwrap.shorten(meaning(path), _WIDTH - 37, placeholder=' …')}" for path in USUAL]
    rest = f"All {sum(1 for _ in settable_keys())} keys, group by group: --help data, --help trainer, ..., --help all."
    return "\n".join([USAGE, "", "Groups:", *groups, "", "Keys that people set:", *keys, "", rest])


def topic_help(topic: str, conf_dirs: Sequence[Path]) -> str:
    """Return every key of a group, or below a dotted key, with its default; ``all`` is every key there is.

    Raises:
        UserError: there is no such group or key.
    """
    options = group_options(conf_dirs)
    known = {*key_types.key_paths(), *options, "all"}
    if topic not in known:
        near = nearest(topic, sorted(known))
        if not near.startswith("did"):
            near = f"the nearest group is {difflib.get_close_matches(topic, options, n=1, cutoff=0.0)[0]!r}"
        raise UserError(f"--help {topic}: no such group or key: {near}")
    lines = [
        f"{topic}={option:<18} {_first_comment(conf_dirs, topic, option)}".rstrip() for option in options.get(topic, [])
    ]
    paths = [path for path in settable_keys() if topic in ("all", path) or path.startswith(f"{topic}.")]
    blocks = ["\n".join(lines)] if lines else []
    return "\n\n".join([*blocks, "\n".join(map(_key_lines, paths))]).rstrip()


def _first_comment(conf_dirs: Sequence[Path], group: str, option: str) -> str:
    """Return what the file of an option says of it in its first line of comment."""
    for directory in conf_dirs:
        file = directory / group / f"{option}.yaml"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        for line in lines:
            if line.startswith("#") and not line.startswith("# @"):
                return line.lstrip("# ")
    return ""


def _key_lines(path: str) -> str:
    """Return a key with its default, and below it what it means and what values it takes."""
    about = textwrap.wrap(meaning(path, values=True), _WIDTH - 6, initial_indent="      ", subsequent_indent="      ")
    return "\n".join([f"  {path}={', '.join(defaults(path)) or '...'}", *about])


def settable_keys() -> Iterator[str]:
    """Yield every dotted key that has a value of its own; the name of a component is chosen by its group in conf/."""
    for path, variants in key_types.key_paths().items():
        if not key_types.groups(variants[0]) and (not path.endswith(".name") or path.count(".") > 1):
            yield path


def meaning(path: str, *, values: bool = False) -> str:
    """Return what a key means, with the values it takes where they are asked for or nothing else is said.

    Where the options of its group take other values by that name, each of these with its meaning.
    """
    variants = key_types.key_paths()[path]
    if not values:
        return next((text for text in map(key_types.doc, variants) if text), "") or key_types.describe(variants[0])
    first: dict[str, str] = {}
    for variant in variants:
        first.setdefault(key_types.describe(variant), key_types.doc(variant))
    return "; or: ".join(f"{about}; {taken}" if about else taken for taken, about in first.items())


def defaults(path: str) -> list[str]:
    """Return the defaults of a key, of several where the options of its group have other ones; none where it has none.

    >>> defaults("data.val_share"), defaults("optimizer.lr"), defaults("paths.output_dir")
    (['0.2'], ['0.001 (muon)', '0.001 (adamw)', '0.1 (sgd)'], [])
    """
    found = {}
    classes: list[tuple[type, str]] = [(Settings, "")]
    *parents, key = path.split(".")
    for parent in parents:
        classes = [
            (group, key_types.name_of(group) or "" if len(key_types.groups(annotation)) > 1 else name)
            for cls, name in classes
            if (annotation := key_types.hints(cls).get(parent)) is not None
            for group in key_types.groups(annotation)
            if group is not PluginSettings
        ]
    for cls, name in classes:
        for field in dataclasses.fields(cls):
            if field.name == key and (value := _default(field)) is not dataclasses.MISSING:
                found[name] = _written(value)
    same = len(set(found.values())) == 1
    return list(found.values())[:1] if same else [f"{text} ({name})" for name, text in found.items()]


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _written(value: Any) -> str:
    words = {True: "true", False: "false", None: "null"}
    return words[value] if isinstance(value, bool) or value is None else str(value)
