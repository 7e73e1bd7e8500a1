"""A table that a library reads is the table: the run, the schema file and the prediction are those of its parquet."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
import yaml

from tabstep.cli import main
from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError, UserError
from tabstep.registry import PluginSettings
from tabstep.run.foreign_reader import read_by
from tabstep.run.run import run

ORC = "pyarrow.orc:read_table"
SMALL = ["trainer=cpu", "trainer.max_epochs=1", "report=none", "callbacks.progress=none", "baselines=null"]


def rows_of(data: Path, split: str) -> pa.Table:
    return pa.Table.from_batches(pq.read_table(data / split).to_batches())


@pytest.fixture(scope="module")
def orc_data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("orc")
    for split in ("train", "val", "test"):
        orc.write_table(rows_of(tiny_data, split), directory / f"{split}.orc")
    return directory


def train(output: Path, *overrides: str) -> dict[str, object]:
    places = [f"paths.output_dir={output}", f"paths.cache_dir={output.parent / 'cache'}"]
    config = composed([*SMALL, *overrides, *places], [config_dir()])
    run(parse(config), config)
    found: dict[str, object] = json.loads((output / "report.json").read_text())
    return {key: value for key, value in found.items() if key.startswith(("val_", "test_", "train_"))}


def test_a_run_on_orc_is_the_run_on_its_parquet(tiny_data: Path, orc_data: Path, tmp_path: Path) -> None:
    schema = ["schema.id=row_id", "schema.label=label"]
    of_orc = [f"data.{split}={orc_data}/{split}.orc" for split in ("train", "val", "test")]
    found = train(tmp_path / "orc", *schema, f"data.reader.name={ORC}", *of_orc)
    assert found == train(tmp_path / "parquet", *schema, f"data.path={tiny_data}")

    model, out = str(tmp_path / "orc" / "model"), tmp_path / "out.parquet"
    assert main(["predict", model, str(orc_data / "test.orc"), "--reader", ORC, "-o", str(out)]) == 0
    assert main(["predict", model, str(tiny_data / "test"), "-o", str(tmp_path / "expected.parquet")]) == 0
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "expected.parquet"))


def test_a_schema_is_written_of_it(orc_data: Path, tmp_path: Path) -> None:
    arguments = ["--name", "own", "--conf-dir", str(tmp_path), "--label", "label", "--reader", ORC]
    assert main(["schema", str(orc_data / "train.orc"), *arguments]) == 0
    written = yaml.safe_load((tmp_path / "schema" / "own.yaml").read_text())
    assert (written["id"], written["label"]) == ("row_id", "label")


def numbers(location: str, count: int = 3) -> dict[str, list[int]]:
    return {"x": list(range(count)), "length": [len(location)] * count}


def no_table(location: str) -> int:
    return len(location)


def test_options_reach_it_and_equal_rows_have_one_file(tmp_path: Path) -> None:
    reader = PluginSettings(name=f"{__name__}:numbers", options={"count": 5})
    path = read_by(reader, "abc", where="data.train", cache_dir=tmp_path)
    assert pq.read_table(path).to_pydict() == {"x": [0, 1, 2, 3, 4], "length": [3] * 5}
    assert read_by(reader, "xyz", where="data.val", cache_dir=tmp_path) == path


@pytest.mark.parametrize(
    ("name", "location", "line"),
    [
        (f"{__name__}:no_table", "abc", "data.train: .*:no_table: int is no table"),
        (ORC, "missing.orc", "data.reader: pyarrow.orc:read_table: .*missing.orc"),
        (f"{__name__}:nothing", "abc", r"data.reader.name: .*:nothing: module .* has no attribute 'nothing'"),
        ("no_such_module:read", "abc", "data.reader.name: no_such_module:read: no module is called 'no_such_module'"),
    ],
)
def test_what_gives_no_table_is_one_line(name: str, location: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=line) as caught:
        read_by(PluginSettings(name=name), location, where="data.train", cache_dir=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.path=somewhere"], "data.reader: reads data.train, data.val and data.test"),
        (["data.train=a.orc", "data.sharded=true"], "data.reader: makes whole tables"),
        (["data.train=s3://a/b.orc", "launch=dry_run"], "data.reader: a job's tables are parquet or CSV"),
    ],
)
def test_what_it_does_not_go_with(overrides: list[str], line: str) -> None:
    with pytest.raises(ProblemsError, match=line):
        parse(composed([f"data.reader.name={ORC}", "schema.label=y", *overrides], [config_dir()]))


def test_wrong_options_are_found_before_anything_is_read(tmp_path: Path) -> None:
    config = composed(
        [*SMALL, f"data.reader.name={__name__}:numbers", "+data.reader.cuont=2", "data.train=x", "schema.label=x"],
        [config_dir()],
    )
    with pytest.raises(ProblemsError, match=r"data.reader.cuont: .*:numbers has no such key .*: did you mean 'count'"):
        parse(config)
