"""Every file in conf/ composes, parses, and is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tabstep.config import key_types
from tabstep.config.compose import composed, composed_sweeper
from tabstep.config.conf_directory import group_options
from tabstep.config.overrides import check_overrides
from tabstep.config.parse import parse
from tabstep.config.settings import Settings
from tabstep.entry import config_dir
from tabstep.models.by_rows import MANY_BINS
from tabstep.models.embeddings import FEW_BINS
from tabstep.sweep.distributions import Values, ends
from tabstep.sweep.space import given, parse_space
from tabstep.sweep.validate import flat, sample

CONF = config_dir()
OPTIONS = [(group, option) for group, options in group_options([CONF]).items() for option in options]
GROUP_CLASSES = {key: key_types.groups(annotation) for key, annotation in key_types.hints(Settings).items()}
NAMES = {
    name: cls
    for classes in GROUP_CLASSES.values()
    if len(classes) > 1
    for cls in classes
    if (name := key_types.name_of(cls)) is not None
}


@pytest.mark.parametrize(("group", "option"), [pair for pair in OPTIONS if pair[0] != "local"])
def test_option_composes_and_parses(group: str, option: str) -> None:
    """Alone, but for those that make no sense without a length of the run."""
    needed = ["trainer.max_epochs=9"] if option in ("cosine", "one_cycle", "no_early_stopping") else []
    parse(composed([f"{group}={option}", *needed], [CONF]))


def test_defaults_parse() -> None:
    settings = parse(composed([], [CONF]))
    assert (settings.seed, settings.resume, settings.objective) == (42, "auto", "val_auroc")
    assert (settings.optimizer.lr, settings.optimizer.weight_decay) == (1e-3, 1e-4)
    assert settings.trainer.precision == "16-mixed"


@pytest.mark.parametrize("group", [key for key, classes in GROUP_CLASSES.items() if classes])
def test_group_has_a_directory(group: str) -> None:
    assert (CONF / group).is_dir()


@pytest.mark.parametrize("name", NAMES)
def test_component_has_an_option_of_its_name(name: str) -> None:
    assert any(CONF.glob(f"*/{name}.yaml"))


@pytest.mark.parametrize(("group", "option"), [pair for pair in OPTIONS if GROUP_CLASSES.get(pair[0])])
def test_option_holds_every_key_of_its_class(group: str, option: str) -> None:
    """An option file stands alone, or builds on another by its defaults list."""
    config = _load(CONF / group / f"{option}.yaml")
    if "defaults" in config or option == "sagemaker":
        return
    cls = NAMES.get(config.get("name", ""), GROUP_CLASSES[group][0])
    assert set(config) == set(key_types.hints(cls))


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.relative_to(CONF).as_posix())
def test_file_is_plain_and_short(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert "_target_" not in text
    assert text.endswith("\n")
    # what a SageMaker job can be asked for is one flat list
    if file.parent.name not in ("job_logging", "launch") and file.name != "train.yaml":
        assert sum(not line.startswith("#") for line in text.splitlines()) <= 20


def test_sagemaker_variables_stand_in_one_place() -> None:
    holders = [file.relative_to(CONF).as_posix() for file in CONF.rglob("*.yaml") if "SM_" in file.read_text()]
    assert holders == ["paths/sagemaker.yaml"]


def test_sagemaker_paths_follow_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SM_CHANNEL_TRAIN", "/opt/ml/input/data/mine")
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", "/elsewhere")
    settings = parse(composed(["paths=sagemaker"], [CONF]))
    assert settings.data.train == "/opt/ml/input/data/mine"
    assert settings.data.val is None
    assert settings.paths.output_dir == "/elsewhere"


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (["trainer=gpu"], ("trainer", "accelerator"), "gpu"),
        (["trainer=cpu", "trainer.max_epochs=20"], ("trainer", "max_epochs"), 20),
        (["experiment=example"], ("model", "name"), "resnet"),
        (["experiment=example", "model=mlp"], ("model", "name"), "mlp"),
        (["experiment=example", "seed=1"], ("seed",), 1),
        (["experiment=example", "debug=fast"], ("trainer", "limit_val_batches"), 1),
        (["debug=fast", "trainer.max_epochs=2"], ("trainer", "max_epochs"), 2),
        (["debug=overfit"], ("callbacks", "early_stopping", "patience"), None),
        (["logger=many"], ("logger", "tensorboard"), True),
        (["tags=[a,b]"], ("tags",), ["a", "b"]),
    ],
)
def test_habits(overrides: list[str], key: tuple[str, ...], value: Any) -> None:
    found: Any = parse(composed(overrides, [CONF]))
    for part in key:
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize("option", [option for group, option in OPTIONS if group == "hparams_search"])
def test_ranges_fit_their_model(option: str) -> None:
    """Each end of each range composes, and the value that conf/ has lies between them."""
    raw = composed_sweeper([f"hparams_search={option}"], [CONF])
    space = parse_space(given(raw["params"]), seed=1)
    model = space.shared.get("model", "model=mlp")
    assert option in ("optuna", model.removeprefix("model="))
    for params in sample(space, [CONF]):
        parse(composed(space.overrides(params), [CONF]))
    default = flat(composed([model], [CONF]))
    for key, dimension in space.dimensions.items():
        numbers = [float(text) for text in ends(dimension)]
        usual = (FEW_BINS, MANY_BINS) if default[key] == "auto" else (default[key],)
        assert min(numbers) <= min(usual) <= max(usual) <= max(numbers), key
        assert not isinstance(dimension, Values) or {*usual} <= {*numbers}, key
        _, sound = check_overrides([f"{key}={text}" for text in ends(dimension)], [CONF])
        assert len(sound) == len(ends(dimension))
    assert len(space.dimensions) == len(raw["params"]) - len(space.shared)
    assert isinstance(raw["n_trials"], int)


def test_local_file_is_read_last(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "default.yaml").write_text("# @package _global_\ntrainer:\n  max_epochs: 3\n")
    assert composed(["experiment=example"], [CONF, tmp_path])["trainer"]["max_epochs"] == 3


def _load(path: Path) -> dict[str, Any]:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(config, dict)
    return config
