from __future__ import annotations

import pytest

from tabstep import entry
from tabstep.config import key_types
from tabstep.config.help import USUAL, help_text, meaning, topic_help
from tabstep.entry import config_dir
from tabstep.errors import UserError

CONF = [config_dir()]
LEAVES = [path for path, found in key_types.key_paths().items() if not key_types.groups(found[0])]
KEYS = [path for path in LEAVES if not path.endswith(".name") or path == "data.reader.name"]


def test_help_is_one_screen_of_groups_and_usual_keys() -> None:
    lines = help_text(CONF).splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    for group in ("schema", "data", "model", "optimizer", "experiment", "debug"):
        assert any(line.startswith(f"  {group} ") for line in lines)
    assert len(USUAL) == 20
    assert set(USUAL) <= set(KEYS)
    assert lines[-1] == f"All {len(KEYS)} keys, group by group: --help data, --help trainer, ..., --help all."


def test_every_key_is_in_the_help_of_its_group() -> None:
    everything = topic_help("all", CONF).splitlines()
    for path in KEYS:
        assert any(line.startswith(f"  {path}=") for line in everything)
        top = path.partition(".")[0]
        assert any(line.startswith(f"  {path}=") for line in topic_help(top, CONF).splitlines())


def test_defaults_and_options_of_a_group() -> None:
    text = topic_help("optimizer", CONF)
    assert text.startswith("optimizer=adamw\n")
    assert "\n  optimizer.momentum=0.95 (muon), 0.9 (sgd)\n      of Muon; a number >= 0 and < 1\n" in text
    assert "  data.encoder.scaling=quantile\n      how numeric columns are scaled; " in topic_help("data.encoder", CONF)
    assert topic_help("debug", CONF).splitlines()[-1].startswith("debug=overfit            A model that cannot")


def test_a_key_of_several_options_says_what_each_of_them_takes() -> None:
    about = meaning("model.members", values=True)
    first, second = about.split("; or: ")
    assert first.endswith("; a whole number >= 1")
    assert second.endswith("; auto or a whole number >= 1")
    assert meaning("model.width", values=True) == "units of a hidden layer; a whole number >= 1"
    assert "; or: " not in meaning("model.members")


def test_help_of_what_there_is_not() -> None:
    with pytest.raises(UserError, match=r"--help dat: no such group or key: did you mean 'data'\?"):
        topic_help("dat", CONF)
    with pytest.raises(UserError, match=r"^--help nosuch: no such group or key: the nearest group is 'schema'$"):
        topic_help("nosuch", CONF)


def test_the_reader_is_a_key_of_data() -> None:
    assert "  data.reader.name=default\n      what reads a location: " in topic_help("data", CONF)


def test_flag_takes_topics(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["--help", "seed", "model=mlp"]) == 0
    assert capsys.readouterr().out.startswith("  seed=42\n")
    assert entry.main(["model=mlp", "--help"]) == 0
    assert "Keys that people set:" in capsys.readouterr().out
