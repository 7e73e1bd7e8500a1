"""A file that an ONNX runtime answers from as the model does."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.artifact.test_onnx_graph import make_member, one_batch, rich, schema_of
from tests.serving.conftest import CATEGORICAL, NUMERIC, _rich_table
from torch import Tensor, nn

from tabstep.artifact import onnx_file
from tabstep.artifact.onnx_file import TOLERANCE, check_installed, graph_inputs, write_onnx
from tabstep.artifact.predictor import Predictor
from tabstep.errors import UserError
from tabstep.schema import Schema
from tabstep.tables.builtin import generate

NAMES = ("age", "city")
NUMBERS = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 90)
TEXTS = st.sampled_from([None, "Bonn", "new", "", "NA", "😀"])


def written(directory: Path, predictor: Predictor) -> onnxruntime.InferenceSession:
    write_onnx(directory / "model.onnx", predictor, one_batch(rich()).slice(0, 8), what="export=onnx")
    return onnxruntime.InferenceSession(str(directory / "model.onnx"))


def check(session: onnxruntime.InferenceSession, predictor: Predictor, batch: pa.RecordBatch) -> None:
    (found,) = session.run(None, graph_inputs(predictor.encoder, batch))
    expected = predictor.probabilities_of(batch)
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor([make_member(tmp_path_factory.mktemp("small"), schema_of(NAMES[:1], NAMES[1:]))])


@pytest.fixture(scope="module")
def file(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("file")
    written(directory, predictor)
    return directory / "model.onnx"


@pytest.fixture(scope="module")
def session(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(file))


@pytest.mark.slow
@given(rows=st.lists(st.tuples(NUMBERS, TEXTS), min_size=1, max_size=50))
def test_any_rows_have_the_probabilities_of_the_model(
    rows: list[tuple[float | None, str | None]], predictor: Predictor, session: onnxruntime.InferenceSession
) -> None:
    ages, cities = (list(column) for column in zip(*rows, strict=True))
    batch = pa.record_batch({"age": pa.array(ages, pa.float64()), "city": pa.array(cities, pa.string())})
    check(session, predictor, batch)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 257, 1_000, 0])
def test_any_number_of_rows(count: int, predictor: Predictor, session: onnxruntime.InferenceSession) -> None:
    table = pa.concat_tables([rich()] * 3).select(NAMES)
    batch = one_batch(table.slice(0, count)) if count else pa.RecordBatch.from_pylist([], schema=table.schema)
    check(session, predictor, batch)


@pytest.mark.slow
def test_the_file_says_how_a_row_becomes_inputs(
    file: Path, predictor: Predictor, session: onnxruntime.InferenceSession
) -> None:
    inputs = {each.name: (each.type, each.shape) for each in session.get_inputs()}
    assert inputs == {"numeric": ("tensor(double)", ["batch", 1]), "categorical": ("tensor(int64)", ["batch", 1])}
    assert [(each.name, each.shape) for each in session.get_outputs()] == [("probabilities", ["batch", 2])]
    facts = json.loads(session.get_modelmeta().custom_metadata_map["tabstep"])
    assert (facts["task"], facts["label"], facts["classes"]) == ("binary", ["label"], ["no", "yes"])
    assert facts["numeric"] == [{"name": "age", "kind": "number"}]
    (city,) = facts["categorical"]
    texts = [*rich()["city"].unique().to_pylist(), "new"]
    codes = [city["missing"] if text is None else city["codes"].get(text, city["other"]) for text in texts]
    batch = pa.record_batch({"age": [0.0] * len(texts), "city": texts})
    assert graph_inputs(predictor.encoder, batch)["categorical"][:, 0].tolist() == codes
    content = file.read_bytes()
    assert str(Path(onnx_file.__file__).parent).encode() not in content
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)


@pytest.mark.slow
def test_the_program_of_the_docs_has_the_probabilities_of_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, _ = generate(rows=2_000, seed=0)
    numeric = tuple(name for name in table.schema.names if not pa.types.is_string(table.schema.field(name).type))
    schema = Schema(
        label=("churned",),
        numeric=tuple(name for name in numeric if name != "autopay"),
        categorical=("autopay", "plan", "store"),
    )
    predictor = Predictor([make_member(tmp_path, schema, table=table)])
    rows, _ = generate(rows=1_000, seed=1)
    write_onnx(tmp_path / "model.onnx", predictor, one_batch(rows.slice(0, 8)), what="export")
    pq.write_table(rows, tmp_path / "rows.parquet")
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    (program,) = (
        text for text in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "InferenceSession" in text
    )
    for place, ours in {"logs/first/model.onnx": "model.onnx", "tables/customers/test": "rows.parquet"}.items():
        assert f'"{place}"' in program
        program = program.replace(place, str(tmp_path / ours))
    found: dict[str, Any] = {}
    exec(program.replace(".slice(0, 3)", ""), found)
    np.testing.assert_allclose(found["probabilities"], predictor.predict_proba(rows), rtol=0, atol=TOLERANCE)
    assert capsys.readouterr().out.startswith("['no', 'yes'] [[")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "numeric", "categorical"),
    [
        ("mlp", "multiclass", NUMERIC, CATEGORICAL),
        ("resnet", "multilabel", ("age", "joined", "seen"), ()),
        ("tabm", "multilabel", (), ("city", "member")),
        ("tabm", "multiclass", ("age", "flag", "opened"), ("city",)),
        ("tabm", "binary", ("age", "income"), ("shop",)),
        ("resnet", "binary", ("local", "age"), CATEGORICAL),
        ("dcn", "multiclass", ("age", "income"), CATEGORICAL),
        ("ft_transformer", "binary", ("age", "flag"), ("city", "shop")),
        ("ft_transformer", "multilabel", (), ("city",)),
        ("pack", "multiclass", ("age", "flag"), CATEGORICAL),
        ("pack", "binary", ("age", "income"), ()),
        ("realmlp", "multiclass", ("age", "flag"), CATEGORICAL),
        ("realmlp", "binary", ("age", "income"), ()),
    ],
)
def test_every_model_and_task(
    name: str, task: str, numeric: tuple[str, ...], categorical: tuple[str, ...], tmp_path: Path
) -> None:
    predictor = Predictor([make_member(tmp_path, schema_of(numeric, categorical, task), name)])
    assert predictor.encoder.task == task
    session = written(tmp_path, predictor)
    assert [each.name for each in session.get_inputs()] == ["numeric"] * bool(numeric) + ["categorical"] * bool(
        categorical
    )
    for table in (rich(), _rich_table(1_000, seed=5), rich().slice(3, 1)):
        check(session, predictor, one_batch(table))


@pytest.mark.slow
def test_an_ensemble_is_the_mean_of_its_members(tmp_path: Path) -> None:
    schema = schema_of(("age", "seen"), ("city",), "multiclass")
    first = make_member(tmp_path / "first", schema)
    second = replace(make_member(tmp_path / "second", schema, "tabm"), weight=3.0)
    # fitted on other rows: other quantiles, the same categories
    other = rich().set_column(rich().column_names.index("age"), "age", pa.array(np.linspace(0, 9, len(rich()))))
    third = replace(make_member(tmp_path / "third", schema, "resnet", other), weight=0.5)
    assert len({member.encoder.fingerprint() for member in (first, second, third)}) == 2
    predictor = Predictor([first, second, third])
    check(written(tmp_path, predictor), predictor, one_batch(rich()))


def test_members_with_other_codes_are_refused_in_a_line(tmp_path: Path) -> None:
    schema = schema_of(("age",), ("city", "shop"))
    members = [
        make_member(tmp_path / name, schema, table=rich().slice(0, 90 * rows)) for name, rows in (("a", 1), ("b", 4))
    ]
    expected = (
        "export=onnx: members 0 and 1 have different codes for 'city', and a row can have one: export each member"
    )
    with pytest.raises(UserError, match=expected):
        written(tmp_path, Predictor(members))
    assert not (tmp_path / "model.onnx").exists()


def test_a_file_that_computes_something_else_is_refused(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = predictor.probabilities_of(one_batch(rich()).slice(0, 8))
    monkeypatch.setattr(onnx_file, "_write", lambda *_: None)
    monkeypatch.setattr(onnx_file, "_answer", lambda *_: found)
    monkeypatch.setattr(predictor, "probabilities_of", lambda batch: found + np.float32(2e-5))
    with pytest.raises(
        UserError, match=r"^export=onnx: golden rows come out different by 2e-05 from ONNX: leave it out"
    ):
        write_onnx(tmp_path / "x", predictor, one_batch(rich()).slice(0, 8), what="export=onnx")


class Sorted(nn.Module):
    """A model of another package, of which ONNX has no form."""

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        return torch.tensor([[float(row.sum())] for row in x_num])


@pytest.mark.slow
def test_a_model_without_a_form_in_onnx_is_refused_in_a_line(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^export=onnx: the model has operations without a form in ONNX: .*") as caught:
        written(tmp_path, Predictor([replace(predictor.members[0], model=Sorted())]))
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_extra_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed("export=onnx")
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(
        UserError, match=r"^export=onnx: needs the packages onnxruntime: pip install 'tabstep\[onnx\]'$"
    ):
        check_installed("export=onnx")


def test_a_model_too_large_for_a_file_is_refused(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "_MOST_BYTES", 100)
    with pytest.raises(UserError, match=r"export=onnx: .* bytes of weights are more than an ONNX file holds"):
        written(tmp_path, predictor)
