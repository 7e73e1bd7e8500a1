"""A class of another package makes inputs of a column: the same in training and wherever the model is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.artifact.load import load
from tabstep.artifact.onnx_file import write_onnx
from tabstep.cli import main
from tabstep.config.compose import composed
from tabstep.config.conf_directory import config_dir
from tabstep.config.parse import parse, to_dict
from tabstep.encoding.column_fits import EncoderOptions
from tabstep.encoding.encoder import Encoder
from tabstep.encoding.foreign_columns import own_options
from tabstep.errors import ProblemsError, UserError
from tabstep.launch.source.requirements import loose_modules
from tabstep.registry import PluginSettings
from tabstep.run.run import run
from tabstep.schema import Schema
from tabstep.tables.source import open_source

SOURCE = '''
"""The distance from the middle of train, and its square."""

import numpy as np


class Distance:
    def __init__(self, *, power: int = 2):
        self.power, self.total, self.rows = power, 0.0, 0

    def fit(self, values):
        for piece in values:
            known = piece.drop_null().to_numpy()
            self.total, self.rows = self.total + float(known.sum()), self.rows + len(known)

    def transform(self, values):
        away = np.nan_to_num(values.to_numpy(zero_copy_only=False) - self.total / self.rows)
        return np.column_stack([away, away**self.power])

    def to_dict(self):
        return {"power": self.power, "total": self.total, "rows": self.rows}

    @classmethod
    def from_dict(cls, data):
        made = cls(power=data["power"])
        made.total, made.rows = data["total"], data["rows"]
        return made
'''


class Length:
    """Length of a text; what it returns may be made wrong."""

    def __init__(self, *, wrong: str = "") -> None:
        self.wrong = wrong

    def fit(self, values: Iterator[pa.Array]) -> None:
        assert all(piece.type == pa.string() for piece in values)
        if self.wrong == "fit":
            raise RuntimeError("no fit")

    def transform(self, values: pa.Array) -> np.ndarray:
        lengths = np.array([len(text or "") for text in values.to_pylist()], dtype=np.float64)[:, None]
        if self.wrong == "shape" and len(values):
            return lengths[:, 0]
        return lengths + (np.nan if self.wrong == "nan" else 0.0)

    def to_dict(self) -> dict[str, Any]:
        return {"sizes": (1, 2)} if self.wrong == "state" else {"wrong": self.wrong}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Length:
        return cls(**data)


class Half:
    def fit(self, values: Any) -> None: ...


@pytest.fixture
def distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_distance.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_distance", raising=False)
    return tmp_path / "own_distance.py"


def fitted(table: pa.Table, columns: Mapping[str, PluginSettings], tmp_path: Path) -> Encoder:
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=2)
    options = EncoderOptions(
        scaling="standard", max_categories=9, min_frequency=1, columns=own_options(columns), statistics=False
    )
    schema = Schema(label=("y",), numeric=("x",), categorical=("c",))
    return Encoder.fit(open_source(str(tmp_path / "train.parquet"), split="train"), schema, options=options)


TABLE = pa.table({"x": [1, 2, None, 9], "c": ["a", None, "bcd", "a"], "y": ["no", "yes", "no", "yes"]})


def test_its_inputs_stand_behind_those_of_the_column(distance: Path, tmp_path: Path) -> None:
    plain = fitted(TABLE, {}, tmp_path)
    columns = {
        "x": PluginSettings(name="own_distance:Distance", options={"power": 3}),
        "c": PluginSettings(name=f"{__name__}:Length"),
    }
    encoder = fitted(TABLE, columns, tmp_path)
    assert encoder.input_names == (*plain.input_names, "x: Distance 1", "x: Distance 2", "c: Length 1")
    batch = pa.record_batch({"c": ["zz", None], "x": [7.0, None]})
    x_num, x_cat = encoder.transform(batch)
    expected, codes = plain.transform(batch)
    np.testing.assert_array_equal(x_num[:, : expected.shape[1]], expected)
    np.testing.assert_array_equal(x_cat, codes)
    np.testing.assert_allclose(x_num[:, expected.shape[1] :], [[3, 27, 2], [0, 0, 0]], rtol=1e-6)  # the mean is 4
    again = Encoder.from_json(encoder.to_json())
    np.testing.assert_array_equal(again.transform(batch)[0], x_num)
    assert again.fingerprint() == encoder.fingerprint() != plain.fingerprint()
    assert "own" not in json.loads(plain.to_json())
    assert "x: 2 inputs of own_distance:Distance stand beside it" in encoder.decisions()


def test_another_version_of_its_code_is_another_encoder(distance: Path, tmp_path: Path) -> None:
    columns = {"x": PluginSettings(name="own_distance:Distance")}
    before, fingerprint = own_options(columns), fitted(TABLE, columns, tmp_path).fingerprint()
    distance.write_text(f"{SOURCE}# changed\n")
    assert own_options(columns) != before
    assert fitted(TABLE, columns, tmp_path).fingerprint() != fingerprint


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("fit", "RuntimeError: no fit"),
        ("state", "to_dict is not what JSON gives back"),
        ("nan", "returned a number that is not finite in row 0"),
    ],
)
def test_a_fault_of_it_is_one_line(wrong: str, line: str, tmp_path: Path) -> None:
    columns = {"c": PluginSettings(name=f"{__name__}:Length", options={"wrong": wrong})}
    with pytest.raises(UserError, match=rf"^data\.encoder\.columns\.c: .*Length: .*{line}") as caught:
        fitted(TABLE, columns, tmp_path).transform(pa.record_batch({"c": ["a"], "x": [1.0]}))
    assert "\n" not in str(caught.value)


def settings_of(data: Path, output: Path, *overrides: str) -> dict[str, Any]:
    places = [f"paths.output_dir={output}", f"paths.cache_dir={output.parent / 'cache'}", f"data.path={data}"]
    small = ["trainer=cpu", "trainer.max_epochs=1", "report=none", "callbacks.progress=none", "baselines=null"]
    return composed([*small, "schema.id=row_id", "schema.label=label", *places, *overrides], [config_dir()])


def test_a_run_with_it_predicts_the_same_wherever_its_model_is(tiny_data: Path, distance: Path, tmp_path: Path) -> None:
    own = "+data.encoder.columns={age: {name: 'own_distance:Distance', options: {power: 3}}}"
    config = settings_of(tiny_data, tmp_path / "run", own)
    settings = parse(config)
    assert parse(to_dict(settings)) == settings
    assert list(loose_modules(settings)) == ["src/own_distance.py"]
    run(settings, config)
    model = tmp_path / "run" / "model"
    assert "age: Distance 2" in load(model).encoder.input_names
    assert (model / "code" / "own_distance.py").read_bytes() == distance.read_bytes()
    stored = pq.read_table(tmp_path / "run" / "predictions" / "test.parquet")
    program = (
        "import sys, tabstep.artifact.load as l, pyarrow.parquet as pq; p = l.load(__import__('pathlib').Path('..'));"
        "t = p.probabilities_of(pq.read_table(sys.argv[1]).to_batches()[0]); print([row[1] for row in t.tolist()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_data / "test" / "test.parquet")],
        cwd=model / "code",
        capture_output=True,
        text=True,
        check=True,
    )
    told = str(tmp_path / "why")
    assert main(["explain", str(model), str(tiny_data / "test"), "-o", told]) == 0
    assert "age" in str(pq.read_schema(f"{told}/attributions.parquet").names)
    assert json.loads(done.stdout) == pytest.approx(stored["prob_yes"].to_pylist(), abs=1e-6)


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ("{aeg: '%s:Length'}", "data.encoder.columns: 'aeg' is no column that the model is given: did you mean 'age'"),
        ("{age: '%s:Half'}", r"data\.encoder\.columns\.age: .*:Half has no transform, to_dict, from_dict"),
        ("{age: {name: '%s:Length', options: {worng: a}}}", "columns.age.worng: .* did you mean 'wrong'"),
        ("{age: nothing}", "data.encoder.columns.age.name: expected package.module:Name, got 'nothing'"),
    ],
)
def test_a_mistake_is_one_line(columns: str, line: str, tiny_data: Path, tmp_path: Path) -> None:
    text = columns % __name__ if "%s" in columns else columns
    config = settings_of(tiny_data, tmp_path / "run", f"+data.encoder.columns={text}")
    with pytest.raises((UserError, ProblemsError), match=line):
        run(parse(config), config)


def test_onnx_has_no_form_of_it(tiny_data: Path, distance: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    own = "+data.encoder.columns={age: 'own_distance:Distance'}"
    with pytest.raises(ProblemsError, match=r"export: onnx has no form of what data\.encoder\.columns makes"):
        parse(settings_of(tiny_data, tmp_path / "run", own, "export=onnx"))
    config = settings_of(tiny_data, tmp_path / "run", own)
    run(parse(config), config)
    model = load(tmp_path / "run" / "model")
    rows = pq.read_table(tiny_data / "test" / "test.parquet").to_batches()[0]
    with pytest.raises(UserError, match=r"^export: 'age' is encoded by own_distance:Distance, which has no form in ON"):
        write_onnx(tmp_path / "model.onnx", model, rows, what="export")
