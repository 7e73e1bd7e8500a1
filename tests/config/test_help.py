from __future__ import annotations

from tabstep.config import fields
from tabstep.config.help import help_text
from tabstep.entry import config_dir


def test_names_every_group_and_key() -> None:
    text = help_text([config_dir()])
    for group in ("schema", "data", "model", "optimizer", "experiment", "debug"):
        assert f"\n  {group} " in text
    for path, variants in fields.key_paths().items():
        if not fields.groups(variants[0]) and not path.endswith(".name"):
            assert f"\n  {path} " in text
