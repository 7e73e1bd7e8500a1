from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.config import key_types
from tabstep.config.compose import composed
from tabstep.config.parse import Unresolved, parse, to_dict
from tabstep.config.rules import broken_rules
from tabstep.config.settings import Settings
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError
from tabstep.registry import MODELS, PluginSettings

DEFAULTS = composed([], [config_dir()])


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults with some dotted keys set; a value of ``...`` removes the key."""
    config = copy.deepcopy(DEFAULTS)
    for path, value in changes.items():
        *parents, leaf = path.split(".")
        group = config
        for parent in parents:
            group = group[parent]
        if value is ...:
            del group[leaf]
        else:
            group[leaf] = value
    return config


def problems_of(changes: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ProblemsError) as caught:
        parse(changed(changes))
    return caught.value.problems


MISTAKES: list[tuple[str, Any, str]] = [
    # sizes
    (
        "data.batch_size",
        10**30,
        f"data.batch_size: expected auto or a whole number >= 1, got {10**30}: the largest is {2**63 - 1}",
    ),
    ("model.depth", 10**9, "model.depth: expected a whole number >= 1 and <= 1000, got 1000000000"),
    ("trainer.devices", 1025, "trainer.devices: expected auto or a whole number >= 1 and <= 1024, got 1025"),
    # keys
    ("trainer.max_epoch", 3, "trainer.max_epoch: no such key (got 3): did you mean 'trainer.max_epochs'?"),
    ("trainers", {}, "trainers: no such key (got {}): did you mean 'trainer'?"),
    ("lr", 0.1, "lr: no such key (got 0.1): did you mean 'optimizer.lr'?"),
    ("ckpt_path", "x", "ckpt_path: no such key (got 'x'): did you mean 'resume=PATH'?"),
    ("callbacks.early_stoping", {"patience": 3}, "did you mean 'callbacks.early_stopping'?"),
    ("patience", 3, "did you mean 'scheduler.patience'?"),
    ("a\nb", "x\ny", "a b: no such key (got 'x\\ny'): "),
    ("model.expansion", 2.0, "model.expansion: tabm has no such key (got 2.0): it belongs to model=resnet"),
    ("optimizer.nesterov", True, "optimizer.nesterov: muon has no such key (got true): it belongs to optimizer=sgd"),
    ("optimizer.lr", ..., "optimizer.lr: is missing"),
    ("seed", ..., "seed: is missing"),
    ("data.encoder", ..., "data.encoder: is missing"),
    (
        "model.name",
        ...,
        "model.name: is missing: set it to one of dcn, ft_transformer, mlp, pack, realmlp, resnet, tabm",
    ),
    # values
    ("trainer.max_epochs", "20", "trainer.max_epochs: expected a whole number >= 1 or null, got '20'"),
    ("trainer.max_epochs", 0, "trainer.max_epochs: expected a whole number >= 1 or null, got 0"),
    ("trainer.max_epochs", True, "trainer.max_epochs: expected a whole number >= 1 or null, got true"),
    ("trainer.max_epochs", 1e3, "trainer.max_epochs: expected a whole number >= 1 or null, got 1000.0: write 1000"),
    ("trainer.num_nodes", None, "trainer.num_nodes: expected a whole number >= 1, got null"),
    ("trainer.max_epochs", "???", "trainer.max_epochs: is missing: set it to a whole number >= 1 or null"),
    ("trainer.devices", 0, "trainer.devices: expected auto or a whole number >= 1 and <= 1024, got 0"),
    ("trainer.gradient_clip_val", float("nan"), "trainer.gradient_clip_val: expected a number > 0 or null, got nan"),
    ("trainer.gradient_clip_val", float("inf"), "trainer.gradient_clip_val: expected a number > 0 or null, got inf"),
    ("trainer.deterministic", "no", "trainer.deterministic: expected true or false, got 'no'"),
    ("optimizer.lr", "1e-3", "optimizer.lr: expected a number > 0, got '1e-3'"),
    ("optimizer.lr", [1], "optimizer.lr: expected a number > 0, got [1]"),
    ("model.dropout", 1.0, "model.dropout: expected a number >= 0 and < 1, got 1.0"),
    ("model.dropout", 10**400, "model.dropout: expected a number >= 0 and < 1, got 1000"),
    ("optimizer.betas", [0.9, 2], "optimizer.betas[1]: expected a number >= 0 and < 1, got 2"),
    ("optimizer.betas", [0.9], "optimizer.betas: expected two numbers, got 1"),
    ("tags", "a", "tags: expected a list of texts, got 'a': write a list, [a]"),
    ("tags", ["a", {}], "tags[1]: expected text, got {}"),
    (
        "data.encoder",
        "robust",
        "data.encoder: expected the keys scaling, max_categories, min_frequency, statistics, columns, got 'robust'",
    ),
    (
        "model",
        None,
        "model: expected the keys name, crosses, rank, structure, width, depth, ",
    ),
    ("data.path", Unresolved("no NOPE"), "data.path: no NOPE"),
    ("data.path", "", "data.path: is an empty text"),
    ("paths.output_dir", "", "paths.output_dir: is an empty text"),
    ("paths.output_dir", "s3://b/k", "paths.output_dir: expected a local directory"),
    # choices
    (
        "model.name",
        "rsnet",
        "model.name: expected one of dcn, ft_transformer, mlp, pack, realmlp, resnet, tabm, got 'rsnet': did ",
    ),
    ("model.name", 3, "model.name: expected one of dcn, ft_transformer, mlp, pack, realmlp, resnet, tabm, got 3"),
    ("scheduler.name", "x", "scheduler.name: expected one of none, cosine, step, one_cycle, plateau, got 'x'"),
    ("objective", "val_auc", "'val_auc': did you mean 'val_auroc'?"),
    ("trainer.precision", 16, "trainer.precision: expected one of 16-mixed, bf16-mixed, 32-true, got 16"),
    ("loss.class_weights", "balance", "got 'balance': did you mean 'balanced'?"),
    # what YAML makes of text
    ("schema.id", 10, "schema.id: expected text or null, got 10: quote it, for YAML reads it as a number"),
    (
        "schema.label",
        False,
        "schema.label: expected text, a list of texts or null, got false: quote it, for YAML reads",
    ),
    ("schema.numeric", ["a", True], "schema.numeric[1]: expected text, got true: quote it"),
    ("schema.classes", [False, "yes"], "schema.classes[0]: expected text or a whole number, got false: quote it"),
    ("data.checks", False, "data.checks: expected one of strict, warn, off, got false: quote it"),
    # rules between keys
    ("schema.drop", ["a", "a"], "schema.drop: 'a' stands 2 times"),
    ("schema.label", [], "schema.label: is an empty list"),
    ("schema.classes", ["a"], "schema.classes: at least 2 are needed, got 1"),
    ("schema.classes", ["a", "b", "a"], "schema.classes: 'a' stands twice"),
    ("data.val", "v.parquet", "data.val: is set, but there is no train split"),
    ("resume", "atuo", "got 'atuo': did you mean 'auto'?"),
    ("resume", "http://x/y.ckpt", "resume: expected a local checkpoint"),
    ("logger.mlflow.tracking_uri", "localhost:5000", "got 'localhost:5000': http://localhost:5000"),
    ("logger.mlflow.tracking_uri", "htps://x", "got 'htps://x': did you mean 'https'?"),
    ("logger.mlflow.tracking_uri", "arn:aws:s3:::bucket", "expected the ARN of an MLflow server or app of SageMaker"),
    ("logger.mlflow.tracking_uri", "http://me:hunter22@x", "tracking_uri: holds a password in an address"),
]


@pytest.mark.parametrize(
    ("key", "value", "line"), MISTAKES, ids=[f"{key}={value!r}"[:60] for key, value, _ in MISTAKES]
)
def test_mistake_is_one_line(key: str, value: Any, line: str) -> None:
    problems = problems_of({key: value})
    assert len(problems) == 1
    assert line in problems[0]
    assert len(problems[0].splitlines()) == 1
    assert len(problems[0]) < 300


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"schema.id": "a", "schema.label": "a"}, "schema.id, schema.label: column 'a' has several roles"),
        ({"schema.label": ["a", "b"], "schema.task": "binary"}, "schema.task: binary has one label, but"),
        ({"schema.label": "a", "schema.task": "multilabel"}, "schema.label: multilabel needs a list"),
        ({"schema.classes": ["a", "b", "c"], "schema.task": "binary"}, "a binary task has 2 classes, got 3"),
        ({"schema.classes": ["a", "b"], "schema.task": "multilabel"}, "a multilabel task has no classes"),
        ({"schema.task": "multiclass", "loss.name": "bce"}, "loss.name: bce is for binary"),
        ({"schema.label": ["a", "b"], "loss.name": "cross_entropy"}, "loss.name: cross_entropy takes one label"),
        ({"schema.classes": ["a", "b"], "loss.class_weights": [1.0]}, "loss.class_weights: 1 weights for 2 classes"),
        ({"data.path": "d", "data.train": "t"}, "data.path, data.train: both name the train split"),
        (
            {"optimizer": {"name": "sgd", "lr": 1.0, "weight_decay": 0, "momentum": 0, "nesterov": True}},
            "optimizer.nesterov: needs optimizer.momentum > 0",
        ),
        (
            {"scheduler": {"name": "cosine", "warmup": 0.1, "final_ratio": 0.0}},
            "scheduler.name: cosine spans trainer.max_epochs, which is null: set it, or scheduler=plateau",
        ),
        ({"callbacks.early_stopping.patience": None}, "the run would never end: set one of them"),
    ],
)
def test_rule_between_keys(changes: dict[str, Any], line: str) -> None:
    problems = problems_of(changes)
    assert len(problems) == 1
    assert line in problems[0]


def test_all_problems_at_once() -> None:
    problems = problems_of({"seed": -1, "model.name": "x", "trainer.max_epoch": 1, "schema.id": 1, "resume": "atuo"})
    assert sorted(problem.split(":")[0] for problem in problems) == [
        "model.name", "resume", "schema.id", "seed", "trainer.max_epoch",
    ]  # fmt: skip


def test_whole_number_is_any_number() -> None:
    lr = parse(changed({"optimizer.lr": 1})).optimizer.lr
    assert isinstance(lr, float)


class TestPlugin:
    @pytest.fixture(autouse=True)
    def _registered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own-1.dist-info").mkdir()
        (tmp_path / "own-1.dist-info" / "entry_points.txt").write_text("[tabstep.models]\nmine = compiled:Mine\n")
        (tmp_path / "own.py").write_text(
            "class Net:\n    def __init__(self, a, b, c, *, width: Count, rate: float = 0.5): ..."
        )
        monkeypatch.syspath_prepend(tmp_path)

    def test_takes_any_plain_option(self) -> None:
        model = {"name": "mine", "width": "auto", "sizes": [1, 2.5], "flag": False, "nothing": None}
        settings = parse(changed({"model": model}))
        assert settings.model == PluginSettings(name="mine", options={k: v for k, v in model.items() if k != "name"})
        assert to_dict(settings)["model"] == model

    def test_refuses_nested_options(self) -> None:
        assert problems_of({"model": {"name": "mine", "a": {"b": 1}}})[0].startswith("model.a: expected text,")

    def test_is_among_the_choices(self) -> None:
        assert (
            "one of dcn, ft_transformer, mlp, pack, realmlp, resnet, tabm, mine, got 'mne': did you mean 'mine'?"
            in problems_of({"model.name": "mne"})[0]
        )

    def test_options_are_those_that_the_source_declares(self) -> None:
        settings = parse(changed({"model": {"name": "own:Net", "width": 3, "rate": 1}}))
        assert settings.model == PluginSettings(name="own:Net", options={"width": 3, "rate": 1.0})
        assert parse(changed({"model": {"name": "own:Net", "width": 3}})).model.name == "own:Net"
        assert problems_of({"model": {"name": "own:Net", "widht": 3, "rate": "x"}}) == (
            "model.rate: expected a number, got 'x'",
            "model.widht: own:Net has no such key (got 3): did you mean 'width'?",
            "model.width: is missing: own:Net needs it",
        )
        assert problems_of({"model": {"name": "own:Net", "width": 0}}) == (
            "model.width: expected a whole number >= 1, got 0",
        )


def test_no_plugin_is_installed() -> None:
    assert dict(MODELS.plugins()) == {}


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Return the values that an annotation allows."""
    if len(members := key_types.members(annotation)) > 1:
        return st.one_of([values_of(m) for m in members if m is not PluginSettings])
    base = key_types.bare(annotation)
    if key_types.is_mapping(annotation) and key_types.registry(key_types.item(annotation)):
        return st.just({})
    if key_types.is_list(annotation) and key_types.registry(key_types.item(annotation)):
        return st.just([])  # what is in it hangs on what is installed
    if dataclasses.is_dataclass(base):
        return st.builds(base, **{key: values_of(inner) for key, inner in key_types.hints(base).items()})
    if get_origin(base) is Literal:
        return st.sampled_from(get_args(base))
    if key_types.is_list(annotation):
        return st.lists(values_of(key_types.item(annotation)), max_size=3)
    if key_types.is_mapping(annotation):
        return st.dictionaries(st.text(max_size=5), values_of(key_types.item(annotation)), max_size=3)
    limits = key_types.bounds(annotation)
    low, high = (limits.ge if limits.ge is not None else limits.gt), (limits.le if limits.le is not None else limits.lt)
    plain: dict[Any, Callable[[], st.SearchStrategy[Any]]] = {
        str: lambda: st.text(max_size=5).filter(lambda text: text != "???"),
        Any: lambda: st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists),
        bool: st.booleans,
        type(None): st.none,
        int: lambda: st.integers(-(2**63) if low is None else low, 2**63 - 1 if high is None else high),
        float: lambda: st.floats(
            low, high, exclude_min=limits.gt is not None, exclude_max=limits.lt is not None, allow_nan=False,
            allow_infinity=False,
        ),
    }  # fmt: skip
    return plain[base]()


def problems_in(config: dict[str, Any]) -> tuple[str, ...]:
    try:
        parse(config)
    except ProblemsError as error:
        return error.problems
    return ()


@given(values_of(Settings))
def test_round_trip(settings: Settings) -> None:
    """What the annotations allow is read back equal, or broken rules between keys are all that is said."""
    rules = tuple(broken_rules(vars(settings)))
    assert problems_in(to_dict(settings)) == rules
    if not rules:
        assert parse(to_dict(settings)) == settings


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KEYS = list(key_types.key_paths())


@given(st.sampled_from(KEYS), JSON)
def test_any_value_is_parsed_or_refused_by_its_key(path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    config = copy.deepcopy(DEFAULTS)
    group = config
    for parent in parents:
        group = group[parent]
    group[leaf] = value
    assert all(problem.startswith(path.partition(".")[0]) for problem in problems_in(config))
