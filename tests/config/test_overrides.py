from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.config.conf_directory import group_options
from tabstep.config.overrides import check_overrides
from tabstep.entry import config_dir

CONF = [config_dir()]


@pytest.mark.parametrize(
    "override",
    [
        "trainer.max_epochs=20",
        "model=resnet",
        "model=resnet.yaml",
        "model.expansion=2",
        "+model.expansion=2",
        "data.encoder.scaling=robust",
        "+schema.parse={price: number}",
        "+data.encoder.columns={age: 'own:Length'}",
        "experiment=[example,imbalanced]",
        "~experiment",
        "hydra.verbose=true",
        "hydra/launcher=mine",
        "optimizer@other=adamw",
        "schema.label='größe'",
        'paths.output_dir="a=b"',
        "paths.output_dir=${oc.env:HOME}",
        "tags=[a,b]",
        "model=${oc.env:X}",
        "optimizer.betas[0]=0.8",
    ],
)
def test_sound_override(override: str) -> None:
    problems, sound = check_overrides([override], CONF)
    if override != "optimizer.betas[0]=0.8":  # Hydra cannot set an item of a list
        assert problems == []
        assert sound == [override]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("trainer.max_epoch=3", "trainer.max_epoch: no such key (got 3): did you mean 'trainer.max_epochs'?"),
        ("+trainer.max_epoch=3", "trainer.max_epoch: no such key (got 3): did you mean 'trainer.max_epochs'?"),
        ("++trainer.max_epoch=3", "trainer.max_epoch: no such key (got 3): did you mean 'trainer.max_epochs'?"),
        ("trainr.max_epochs=3", "trainr.max_epochs: no such key (got 3): did you mean 'trainer.max_epochs'?"),
        ("experiment=null", "experiment: expected the name of an option, got null: ~experiment leaves it out"),
        ("trainer=null", "trainer: expected the name of an option, got null"),
        ("schema=2024", "schema: expected the name of an option, got 2024: quote a name, \"schema='2024'\""),
        ("~optimizer", "~optimizer: optimizer cannot be left out: choose one of its options"),
        ("model={width: 3}", "model: expected the name of an option, got {'width': 3}: set single keys as"),
        (
            "data.encoder={scalin: x}",
            "data.encoder.scalin: no such key (got 'x'): did you mean 'data.encoder.scaling'?",
        ),
        ("callbacks.early_stoping.patience=3", "did you mean 'callbacks.early_stopping.patience'?"),
        ("trainer.max_norm=1", "did you mean 'trainer.gradient_clip_val'?"),
        ("trainer.limit_batches=1", "did you mean 'trainer.limit_train_batches'?"),
        ("callbacks.max_grad_norm=1", "did you mean 'callbacks.fail_above_grad_norm'?"),
        ("+trainer.max_epochs=3", "+trainer.max_epochs=3: the key is there already: leave out the '+'"),
        ("~trainer.max_epochs", "trainer.max_epochs cannot be left out"),
        ("~trainer.max_epoch", "no such key: did you mean 'trainer.max_epochs'?"),
        ("~logger", "logger cannot be left out"),
        ("model=rsnet", "model: no such option, got 'rsnet': did you mean 'resnet'?"),
        ("experiment=[example,imbalance]", "experiment: no such option, got 'imbalance': did you mean 'imbalanced'?"),
        ("debug=fdr", "debug: no such option, got 'fdr': choose from: default, fast, limit, overfit"),
        ("trainer", "'trainer': expected key=value or group=option"),
        (__file__, f"did you mean 'data.train={__file__}'?"),
        ("train=a.csv", "train: no such key (got 'a.csv'): did you mean 'data.train'?"),
        ("=3", "'=3': there is no key before the '='"),
        ("träiner.max_epochs=3", "'träiner.max_epochs' is not a key: did you mean 'trainer.max_epochs'?"),
        ("schema.label=größe", "'schema.label=größe': the value cannot be read: quote it, 'schema.label=\"größe\"'"),
        (
            "paths.output_dir=a=b",
            "'paths.output_dir=a=b': the value cannot be read: quote it, 'paths.output_dir=\"a=b\"'",
        ),
        (
            '+launch.tags={"team": "risk"}',
            '\'+launch.tags={"team": "risk"}\': the value cannot be read: names in braces stand without quotes, '
            "'+launch.tags={name: value}'",
        ),
        ("tags=[a", "'tags=[a': the value cannot be read: quote it, 'tags=\"[a\"'"),
        ("seed=1,2", "seed=1,2: several values need -m"),
        ("data.path=a,b", "a comma in a text needs quotes"),
    ],
)
def test_mistaken_override_is_one_line(override: str, line: str) -> None:
    problems, sound = check_overrides([override, "seed=3"], CONF)
    assert len(problems) == 1
    assert line in problems[0]
    assert "\n" not in problems[0]
    assert sound == ["seed=3"]


@pytest.mark.parametrize(
    ("override", "lines", "sound"),
    [
        ("seed=1,2,3", [], ["seed=1"]),
        ("model=resnet,mlp", [], ["model=resnet"]),
        ("seed=range(1,4)", [], ["seed=1"]),
        ("seed=choice(4,5)", [], ["seed=4"]),
        ("model=glob(*)", [], []),
        ("optimizer.lr=interval(0.1,1)", [], []),
        ("optimizer.lr=1e-3,abc", ["optimizer.lr: expected a number > 0, got 'abc'"], []),
        ("model=mlp,rsnet", ["model: no such option, got 'rsnet': did you mean 'resnet'?"], []),
        ("sed=1,2", ["sed: no such key (got 1): did you mean 'seed'?"], []),
        ("sed=interval(1,2)", ["sed: no such key (got 'interval(1,2)'): did you mean 'seed'?"], []),
        ("paths.output_dir=a,b", ["paths.output_dir=a,b: give one directory"], []),
        ("tags=[a],[b]", [], ["tags=[a]"]),
        ("schema.label='a b','c=d'", [], ["schema.label='a b'"]),
    ],
)
def test_sweep(override: str, lines: list[str], sound: list[str]) -> None:
    problems, kept = check_overrides([override], CONF, multirun=True)
    assert kept == sound
    assert len(problems) == len(lines)
    assert all(found.startswith(line) for found, line in zip(problems, lines, strict=True))


def test_a_plugin_knows_its_own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own-1.dist-info").mkdir()
    (tmp_path / "own-1.dist-info" / "entry_points.txt").write_text("[tabstep.models]\nmine = own:Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert check_overrides(["model.own=3", "+model.own=3"], CONF)[0] == []
    assert check_overrides(["model.width=auto,1"], CONF, multirun=True)[0] == []


def test_a_component_by_its_path_knows_its_own_keys(tmp_path: Path) -> None:
    assert check_overrides(["model.own=3"], CONF)[0] != []
    assert check_overrides(["model.own=3", "model.name=own:Mine"], CONF)[0] == []
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("name: own:Mine\nown: 3\n")
    assert check_overrides(["model=mine", "model.own=3"], [*CONF, tmp_path])[0] == []
    assert check_overrides(["trainer.own=3"], [*CONF, tmp_path])[0] != []


def test_options_of_a_users_directory(tmp_path: Path) -> None:
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "mine.yaml").write_text("id: null\n")
    assert check_overrides(["schema=mine"], [*CONF, tmp_path])[0] == []
    assert check_overrides(["schema=mne"], [*CONF, tmp_path])[0] == [
        "schema: no such option, got 'mne': did you mean 'mine'?"
    ]
    assert group_options([*CONF, tmp_path])["schema"] == ["auto", "mine"]


def test_options_that_only_hydra_can_find() -> None:
    assert check_overrides(["hydra.searchpath=[pkg://mine]", "schema=theirs"], CONF)[0] == []


@given(st.text(max_size=30))
def test_any_text_is_judged(text: str) -> None:
    problems, sound = check_overrides([text], CONF)
    assert bool(problems) != bool(sound)
    assert all(len(problem.splitlines()) == 1 for problem in problems)
