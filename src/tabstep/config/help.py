"""The text of ``--help``: written from conf/ and the settings, for Hydra's own takes four times as long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tabstep.config import fields
from tabstep.config.overrides import group_options

USAGE = """\
tabstep trains, tests and saves a classifier of parquet tables.

Usage:
  python train.py [group=option ...] [key=value ...] [-m]    (installed: tabstep train ...)

Examples:
  python train.py                                            the built-in table, default settings
  python train.py data.path=tables schema.label=target       tables/train.parquet, val.parquet, test.parquet
  python train.py model=resnet optimizer.lr=3e-4 trainer.max_epochs=20
  python train.py trainer=gpu experiment=example             a GPU; conf/experiment/example.yaml
  python train.py debug=fast                                 one batch through every stage
  python train.py -m seed=1,2,3 model=mlp,resnet             a sweep: six runs
  python train.py launch=sagemaker launch.role=ARN           the same as a SageMaker job; launch=dry_run shows it first

Flags:
  -m, --multirun          one run for each combination of values
  --cfg job               print the composed configuration and stop
  --config-dir DIR        your own options of the groups below DIR
  --hydra-help            Hydra's other flags"""


def help_text(conf_dirs: Sequence[Path]) -> str:
    """Return usage, examples, the options of each group and every key with its meaning."""
    options = group_options(conf_dirs)
    width = max(map(len, options), default=0)
    groups = [f"  {name:<{width}} {', '.join(found)}" for name, found in options.items()]
    keys = [f"  {path:<36} {meaning}" for path, meaning in _keys()]
    return "\n".join([USAGE, "", "Groups:", *groups, "", "Keys:", *keys])


def _keys() -> Iterator[tuple[str, str]]:
    for path, variants in fields.key_paths().items():
        if not fields.groups(variants[0]) and not path.endswith(".name"):
            yield path, _meaning(variants)


def _meaning(variants: tuple[Any, ...]) -> str:
    meaning = next((text for text in map(fields.doc, variants) if text), "")
    values = fields.describe(variants[0])
    return f"{meaning} ({values})" if meaning else values
