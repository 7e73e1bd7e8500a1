"""Overrides that mean nothing: a line names the key, nothing is left, and torch is not waited for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Commands

Ends = Callable[[str], None]
HUGE = "1" + "0" * 30
NUMBERS = {
    "optimizer.lr": ("nan", "inf", "-inf", "1e400", "0", "-1", "1e-400"),
    "optimizer.weight_decay": ("nan", "-1"),
    "trainer.max_epochs": ("inf", "nan", "1e400", "0", "-1", "1.5", "true", '"3"', HUGE),
    "trainer.max_time": ("nan", "inf", "1e400", "0", "-1"),
    "trainer.accumulate_grad_batches": ("0", HUGE),
    "trainer.devices": ("0", "1025", HUGE, "[0]"),
    "data.batch_size": ("0", "-5", "null", HUGE, "9223372036854775808"),
    "data.eval_batch_size": ("0", HUGE),
    "data.shuffle_window": ("-1", HUGE),
    "data.folds": ("0", "1", HUGE),
    "model.width": ("0", HUGE),
    "model.depth": ("0", "1000000000"),
    "model.dropout": ("nan", "1.0", "-0.1"),
    "callbacks.ema_decay": ("nan", "2"),
    "callbacks.early_stopping.patience": ("-1", HUGE),
    "callbacks.checkpoint.every_n_steps": ("0", HUGE),
    "callbacks.checkpoint.every_seconds": ("nan", "0"),
    "loss.label_smoothing": ("nan", "2"),
    "seed": ("-1", "null", HUGE),
}
KINDS = {
    "trainer": ("null", "3", "true", "[null]", "{a: 1}"),
    "schema": ("null", "2024"),
    "model": ("null",),
    "paths": ("null",),
    "schema.numeric": ("age", "3", "[age,null]", "[[age]]", "{a: 1}"),
    "schema.label": ("3", "[null]"),
    "paths.output_dir": ("null", "3"),
    "paths.cache_dir": ("null",),
    "optimizer.lr": ("null", "fast"),
    "model.name": ("null",),
    "loss.class_weights": ("3", "[1,nan]", "[1e400,1]", "['a',1]"),
    "metrics.extra": ("3", "[3]", "[null]"),
    "baselines": ("3", "[nope]"),
}
REFERENCES = {
    "itself": (("data.path=${data.path}",), "data.path: Recursive interpolation detected"),
    "a circle": (
        ("paths.output_dir=${paths.cache_dir}", "paths.cache_dir=${paths.output_dir}"),
        "paths.output_dir: Recursive interpolation detected",
    ),
    "nothing": (("data.path=${nope}",), "data.path: Interpolation key 'nope' not found"),
    "no variable": (("data.path=${oc.env:NOPE}",), "data.path: the environment variable 'NOPE' is not set"),
    "a new key": (("+new.key=1",), "new.key: no such key (got 1): choose from: schema, "),
    "a group less": (("~optimizer",), "~optimizer: optimizer cannot be left out: choose one of its options"),
    "a key less": (("~data.batch_size",), "~data.batch_size: data.batch_size cannot be left out: set it, "),
    "no key": (("~nope",), "~nope: no such key: "),
    "a key of letters": (("ключ=1",), "'ключ=1': 'ключ' is not a key: "),
    "a value of letters": (("schema.label=é",), "'schema.label=é': the value cannot be read: quote it, "),
    "an open list": (("schema.numeric=[age",), "'schema.numeric=[age': the value cannot be read: quote it, "),
    "a quote too many": (("schema.numeric=['it''s']",), "\"schema.numeric=['it''s']\": the value cannot be read: "),
    "a circle of keys": (("seed=${seed}",), "seed: Recursive interpolation detected"),
    "a goal of nan": (('decision="precision>=nan"',), "decision: 'precision>=nan' is no goal: "),
}
TABLES = {"numbers": NUMBERS, "kinds": KINDS}
ROUNDS = [(name, turn) for name, table in TABLES.items() for turn in range(max(map(len, table.values())))]


@pytest.mark.parametrize(("name", "turn"), ROUNDS)
def test_values(name: str, turn: int, commands: Commands, tmp_path: Path, ends: Ends) -> None:
    """One of each key at a time: a command tells of all at once."""
    values = {key: values[turn] for key, values in TABLES[name].items() if turn < len(values)}
    ended = commands.train(tmp_path, *(f"{key}={value}" for key, value in values.items()))
    assert (ended.code, "Traceback" in ended.err) == (2, False), ended.err
    assert all(len(said) < 500 for said in ended.said)
    for key in values:
        assert sum(re.match(rf"{re.escape(key)}(\[\d\])?(\.a)?: ", said) is not None for said in ended.said) == 1, key
        ends("2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", REFERENCES)
def test_reference(name: str, commands: Commands, tmp_path: Path, ends: Ends) -> None:
    overrides, line = REFERENCES[name]
    ended = commands.train(tmp_path, *overrides)
    assert (ended.code, "Traceback" in ended.err) == (2, False), ended.err
    assert ended.said[0].startswith(line), ended.err
    assert list(tmp_path.iterdir()) == []
    ends("2")
