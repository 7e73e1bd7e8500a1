"""Round trips over Hydra's override grammar, through the JSON that the SDK and a tuner write."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tabstep.container.hyperparameters import (
    MAX_KEYS,
    MAX_PACKED,
    PACKED_KEY,
    move_long_to_file,
    pack,
    unpack,
    without_local_places,
)
from tabstep.errors import UserError

words = st.text("abcXYZ_", min_size=1, max_size=4)
keys = st.lists(words, min_size=1, max_size=3).map(".".join) | st.sampled_from(
    ["model", "a", "a.b", "a.b.c", "a.0", "g/h", "sagemaker_x"]
)
packages = st.sampled_from(["", "", "", "@p", "@p.q", "@_global_", "@a:b"])
numbers = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
    st.sampled_from(
        ["3e-4", "1_000", "1_000.5", ".5", "5.", "1E3", "inf", "-inf", "nan", "NaN", "1e999", "-0.0", "0.1e-7"]
    ),
)
unquoted = st.text(string.ascii_letters + string.digits + "/-+.$%*@?|_: \\", min_size=1, max_size=12)
hostile = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def quoted(text: str, mark: str) -> str:
    """Write a text as Hydra's grammar quotes it."""
    body = text.replace("\\" + mark, "\\\\" + "\\" + mark).replace(mark, "\\" + mark)
    return f"{mark}{body}{mark}"


texts = st.tuples(hostile, st.sampled_from("'\"")).map(lambda pair: quoted(*pair))
interpolations = st.sampled_from(["${a}", "${a.b}", "${oc.env:HOME}", "${oc.env:X,7}", "x${a}y", "${now:%Y-%m-%d}"])
words_that_mean = st.sampled_from(
    ["true", "False", "null", "NULL", "yes", "on", "0x1f", "1:30", "010", "~", "a-b", "s3://b/p/"]
)
primitives = st.one_of(numbers, unquoted, texts, interpolations, words_that_mean)
values = st.recursive(
    primitives,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.dictionaries(words, inner, max_size=3).map(lambda d: "{" + ",".join(f"{k}:{v}" for k, v in d.items()) + "}"),
    ),
    max_leaves=5,
)
sweeps = st.sampled_from(
    [
        "1,2,3",
        "choice(a,b)",
        "range(1,10)",
        "range(0,1,0.25)",
        "interval(0,1)",
        "glob(*)",
        "glob([a*,b],exclude=c)",
        "tag(t,choice(1,2))",
        "sort(3,1,2)",
        "shuffle(a,b)",
        "int(3.5)",
        "str(1)",
        "bool(on)",
        "cast(1)",
        "[1,2],[3]",
        "'a,b',c",
    ]
)
assignments = st.tuples(
    st.sampled_from(["", "", "", "+", "++"]), keys, packages, st.one_of(values, sweeps, st.just(""))
)
deletions = st.tuples(st.just("~"), keys, packages, st.none() | primitives)
texts_of_overrides = st.one_of(assignments, deletions).map(
    lambda parts: "".join(parts[:3]) + ("" if parts[3] is None else f"={parts[3]}")
)
parser = OverridesParser.create()


def read(text: str) -> Override | None:
    try:
        return parser.parse_override(text)
    except HydraException:
        return None


overrides = st.lists(texts_of_overrides.filter(lambda text: read(text) is not None), max_size=8)


def meaning(text: str) -> str:
    """Return what the grammar reads; ``repr``, for NaN is not equal to itself and 1 is equal to 1.0 and true."""
    found = read(text)
    assert found is not None
    if isinstance(value := found._value, float):
        return repr((found.type, found.key_or_group, found.package, found.value_type, repr(value)))
    return repr((found.type, found.key_or_group, found.package, found.value_type, value))


def sent(hyperparameters: dict[str, str]) -> dict[str, str]:
    """Return what the container reads: the SDK encodes each value, and the whole is a JSON file again."""
    encoded = {key: json.dumps(value) for key, value in hyperparameters.items()}
    return dict(json.loads(json.dumps(dict(reversed(encoded.items())))))


def keys_of(texts: Iterable[str]) -> list[list[str]]:
    return [text.partition("=")[0].lstrip("+~").partition("@")[0].split(".") for text in texts]


@settings(max_examples=200, deadline=None)
@given(overrides)
def test_every_override_comes_back_with_its_meaning(given_overrides: list[str]) -> None:
    back = unpack(sent(pack(given_overrides)))
    assert sorted(map(meaning, back)) == sorted(map(meaning, given_overrides))


@settings(max_examples=200, deadline=None)
@given(overrides)
def test_overrides_of_one_key_stay_in_their_order(given_overrides: list[str]) -> None:
    back = unpack(sent(pack(given_overrides)))
    for key in {".".join(key) for key in keys_of(given_overrides)}:
        ours = [text for text in given_overrides if ".".join(*keys_of([text])) == key]
        theirs = [text for text in back if ".".join(*keys_of([text])) == key]
        assert list(map(meaning, theirs)) == list(map(meaning, ours))


@settings(max_examples=200, deadline=None)
@given(overrides)
def test_what_is_sent_keeps_the_limits_of_the_service(given_overrides: list[str]) -> None:
    hyperparameters, files = move_long_to_file(pack(given_overrides))
    assert all(len(json.dumps(value)) <= 2_500 for value in hyperparameters.values())
    assert all(len(key) <= 256 and "\n" not in value for key, value in hyperparameters.items())
    assert all(value.isascii() for value in hyperparameters.values())
    assert files == {}


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    hostile.filter(lambda t: "${" not in t and t != "???"),
)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)


def written(value: Any) -> str:
    """Write a value of OmegaConf in Hydra's grammar."""
    if isinstance(value, str):
        body = value
        while body.endswith("\\"):
            assume(False)
        return quoted(body, "'")
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{written(each)}" for key, each in value.items()) + "}"
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else repr(value)
    )


@settings(max_examples=settings().max_examples // 2, deadline=None)  # each composes twice
@given(st.dictionaries(st.sampled_from(["a", "b", "c.d", "c.e", "f"]), trees, min_size=1, max_size=4))
def test_the_job_composes_the_same_values(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]) -> None:
    directory = tmp_path_factory.getbasetemp() / "conf"
    directory.mkdir(exist_ok=True)
    (directory / "train.yaml").write_text("c: {}\nfixed: 1\n")
    local = [f"++{key}={written(value)}" for key, value in tree.items()]
    assume(all(read(text) is not None for text in local))
    with initialize_config_dir(str(directory), version_base="1.3"):
        here = OmegaConf.to_container(compose("train", overrides=local), resolve=False)
        there = OmegaConf.to_container(compose("train", overrides=unpack(sent(pack(local)))), resolve=False)
    assert repr(there) == repr(here)


LAYERS = {
    "train.yaml": "defaults: [{g: x}, {optional h: null}, _self_]\na: 1\nb: {c: 2, d: {e: 3}}\nn: null\ni: ${a}\n",
    "g/x.yaml": "p: 1\nq: 2\n",
    "g/y.yaml": "p: 3\nr: {s: 4}\n",
    "h/z.yaml": "u: 1\n",
    "h/w.yaml": "v: 1\n",
}
some_values = st.sampled_from(
    ["1", "x", "null", "3e-4", "1.50", "true", "{}", "{e: 5}", "{c: {z: 1}}", "[1,a]", "'q'", "${a}", "0x1", "1e999"]
)
layered = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["a", "b.c", "b.d", "b.d.e", "n", "g.p", "i"]), some_values).map("=".join),
        st.tuples(st.sampled_from(["++b", "++b.d.e", "++new.x", "++g.r.s", "+new", "+b.new"]), some_values).map(
            "=".join
        ),
        st.sampled_from(
            ["g=x", "g=y", "+h=z", "+h=[z,w]", "+g@b=y", "+g@_global_=y", "~g", "~b.c", "~b", "~n", "~g=x"]
        ),
    ),
    min_size=2,
    max_size=5,
)


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with groups and values below them."""
    directory = tmp_path_factory.mktemp("layers")
    for name, text in LAYERS.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    return directory


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(layered)
def test_groups_values_and_deletions_that_depend_on_their_order(layers: Path, given_overrides: list[str]) -> None:
    with initialize_config_dir(str(layers), version_base="1.3"):
        try:
            here = OmegaConf.to_container(compose("train", overrides=given_overrides), resolve=False)
        except (HydraException, OmegaConfBaseException, TypeError):
            assume(False)
        there = OmegaConf.to_container(compose("train", overrides=unpack(sent(pack(given_overrides)))), resolve=False)
    assert repr(there) == repr(here)


def test_plain_values_are_readable() -> None:
    given_overrides = [
        "model=resnet",
        "optimizer.lr=3e-4",
        "trainer.max_epochs=20",
        "callbacks.ema_decay=null",
        "loss.name=bce",
    ]
    assert pack(given_overrides) == {
        "model": "resnet",
        "optimizer.lr": "0.0003",
        "trainer.max_epochs": "20",
        "callbacks.ema_decay": "null",
        "loss.name": "bce",
    }


@pytest.mark.parametrize(
    "text",
    [
        "schema.drop=[a,b]",
        "~logger",
        "+x=1",
        "++x=1",
        "x='a'",
        "x=1,2",
        "x=",
        "x=a b",
        "x=${y}",
        "g@p=a",
        "hydra/job=x",
        "tags=[]",
        "x=$(rm)",
        "x=`ls`",
        "sagemaker_program=x",
        "_tuning_objective_metric=x",
        "packed_overrides=1",
        f"x={'a' * 300}",
    ],
)
def test_the_rest_is_packed(text: str) -> None:
    assert list(pack([text])) == [PACKED_KEY]
    assert unpack(sent(pack([text]))) == [text]


def test_overrides_whose_order_matters_are_packed_together() -> None:
    given_overrides = ["trainer.max_epochs=1", "seed=3", "trainer={max_epochs: 2}", "trainer.max_epochs=4"]
    assert unpack(sent(pack(given_overrides))) == [*given_overrides[:1], *given_overrides[2:], "seed=3"]
    assert pack(["model.width=8", "model=resnet"]) == {"model.width": "8", "model": "resnet"}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("resnet", "resnet"),
        ('"resnet"', "resnet"),
        ("0.0003", "0.0003"),
        ("1e-05", "1e-05"),
        ("true", "true"),
        ("null", "null"),
        ("[1, 2]", "[1, 2]"),
        ("a b", "a b"),
        ("", ""),
        ('"', '"'),
        ("[" * 2400, "[" * 2400),
        ('"a,b"', "a,b"),
    ],
)
def test_what_a_person_or_a_tuner_writes_is_taken(typed: str, expected: str) -> None:
    assert unpack({"x": typed, "sagemaker_region": '"eu-west-1"', "_tuning_objective_metric": "Validation Loss"}) == [
        f"x={expected}"
    ]


def test_an_edited_readable_key_wins_over_a_packed_one() -> None:
    hyperparameters = pack(["optimizer.lr=1e-3", "optimizer.lr=1e-4", "schema.drop=[a]"]) | {"optimizer.lr": "0.5"}
    assert unpack(hyperparameters) == ["schema.drop=[a]", "optimizer.lr=0.5"]


def test_many_overrides_stay_below_the_number_of_hyperparameters() -> None:
    given_overrides = [f"k{i}=1" for i in range(300)]
    hyperparameters = pack(given_overrides)
    assert len(hyperparameters) == MAX_KEYS + 1
    assert sorted(unpack(hyperparameters)) == sorted(given_overrides)


def test_too_long_a_text_travels_as_a_file(tmp_path: Path) -> None:
    import random

    letters = random.Random(0)
    given_overrides = [f"schema.drop=[{','.join(f'c{letters.random()}' for _ in range(900))}]", "seed=1"]
    hyperparameters, files = move_long_to_file(pack(given_overrides))
    assert len(pack(given_overrides)[PACKED_KEY]) > MAX_PACKED
    ((name, content),) = files.items()
    (tmp_path / name).write_bytes(content)
    assert unpack(sent(hyperparameters), tmp_path) == given_overrides
    (tmp_path / name).write_bytes(content.replace(b"c0", b"c1", 1))
    with pytest.raises(UserError, match="was changed"):
        unpack(hyperparameters, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match="is not in the bundle"):
        unpack(hyperparameters, tmp_path)


@pytest.mark.parametrize("packed", ["", "x", "file:../../etc/passwd", "eJwDAAAAAAE", "not base64 at all", "a" * 50])
def test_a_damaged_packed_text_is_one_line(packed: str) -> None:
    with pytest.raises(UserError, match=f"{PACKED_KEY}: is damaged"):
        unpack({PACKED_KEY: packed})


def test_places_stay_behind() -> None:
    given_overrides = [
        "launch=sagemaker",
        "launch.max_usd=5",
        "paths.cache_dir=x",
        "data.path=t",
        "data.train=t",
        "hydra.run.dir=x",
        "~launch.tags",
        "seed=1",
        "data.batch_size=2",
        "+experiment=example",
        "hydra.job.name=x",
    ]
    assert without_local_places(given_overrides) == given_overrides[-4:]
