"""The artifact alone, as a container has it: without this package, and behind the toolkit's own handler."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from packaging.requirements import Requirement

import tabstep

ROOT = Path(__file__).resolve().parents[2]
# What an inference image lacks and requirements.txt does not bring: importing it there would be an error.
ABSENT = ("lightning", "torchmetrics", "hydra", "omegaconf", "rich", "sagemaker", "boto3", "sklearn")

SERVING = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}

BARE = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""

DIRECT = (
    BARE
    + """
import inference
model = inference.model_fn(sys.argv[1])
body = sys.stdin.buffer.read()
answer = inference.predict_fn(inference.input_fn(body, "application/x-parquet"), model)
sys.stdout.buffer.write(inference.output_fn(answer, "application/json")[0])
ours = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "tabstep"]
assert all(file.startswith(sys.argv[1]) for file in ours), ours
"""
)

TOOLKIT = """
import json, sys
from sagemaker_inference.default_handler_service import DefaultHandlerService

class Context:
    model_name = "model"
    def __init__(self, model_dir):
        self.system_properties = {"model_dir": model_dir}
        self.request_processor = [self]
        self.status, self.answered = (200, "OK"), None
    def get_request_properties(self):
        return self.headers
    def set_response_content_type(self, _, value):
        self.answered = value
    def set_response_status(self, code, phrase):
        self.status = (code, phrase)

context = Context(sys.argv[1])
service = DefaultHandlerService()
service.initialize(context)
for content_type, body in json.load(sys.stdin):
    context.status, context.answered = (200, "OK"), None
    context.headers = {"Content-Type": content_type}
    answer = service.handle([{"body": bytearray(body.encode())}], context)[0]
    text = answer if isinstance(answer, str) else bytes(answer).decode()
    print(json.dumps([*context.status, context.answered, text]))
"""


def in_container(model_dir: Path, program: str, body: bytes, **variables: str) -> bytes:
    environment = {
        **os.environ,
        **SERVING,
        **variables,
        "PYTHONPATH": str(model_dir / "code"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", program, str(model_dir)],
        input=body,
        env=environment,
        cwd=model_dir.anchor,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_artifact_serves_without_this_package(model_dir: Path, table: pa.Table) -> None:
    out = io.BytesIO()
    pq.write_table(table, out)
    answer = json.loads(in_container(model_dir, DIRECT, out.getvalue()))
    truth = tabstep.load(model_dir).predict(table)
    assert [row["id"] for row in answer["predictions"]] == table["row_id"].to_pylist()
    found = [row["probabilities"]["yes"] for row in answer["predictions"]]
    np.testing.assert_allclose(found, truth["prob_yes"].to_numpy(), atol=1e-6)


def test_artifact_behind_the_toolkit(model_dir: Path, table: pa.Table) -> None:
    pytest.importorskip("sagemaker_inference")
    row: dict[str, Any] = dict.fromkeys(table.column_names)
    requests = [
        ("application/json", json.dumps(row)),
        ("text/csv", ",".join(f'"{name}"' for name in row) + "\n" + "," * (len(row) - 1)),
        ("text/csv", "1,2"),
        ("application/xml", "<a/>"),
        ("application/json", json.dumps({**row, "age": "old"})),
    ]
    lines = in_container(model_dir, TOOLKIT, json.dumps(requests).encode()).decode().splitlines()
    answers = [json.loads(line) for line in lines if line.startswith("[")]
    assert [status for status, *_ in answers] == [200, 200, 400, 415, 400]
    (_, _, kind, first), (_, _, _, second), *refused = answers
    assert kind == "application/json"
    assert json.loads(first)["predictions"][0]["prediction"] in ("yes", "no")
    assert json.loads(first) == json.loads(second)
    assert refused[0][3].startswith("the first row names no column that the model knows")
    assert refused[2][1] == "row 1: column 'age': a number is due, got 'old'"


def answers_of(model_dir: Path, requests: list[tuple[str, str]], **variables: str) -> list[Any]:
    """What the toolkit answers requests of (content type, body): status, phrase, content type and body of each."""
    lines = in_container(model_dir, TOOLKIT, json.dumps(requests).encode(), **variables).decode().splitlines()
    return [json.loads(line) for line in lines if line.startswith("[")]


def test_the_handler_as_one_function_answers_the_same(model_dir: Path, table: pa.Table) -> None:
    pytest.importorskip("sagemaker_inference")
    row: dict[str, Any] = dict.fromkeys(table.column_names)
    requests = [("application/json", json.dumps(row)), ("text/csv", "1,2"), ("application/xml", "<a/>")]
    one = answers_of(model_dir, requests, SAGEMAKER_PROGRAM="transform.py")
    assert [status for status, *_ in one] == [200, 400, 415]
    told = [[status, phrase, kind, body.splitlines()[0]] for status, phrase, kind, body in one]
    other = answers_of(model_dir, requests)
    assert told == [[status, phrase, kind, body.splitlines()[0]] for status, phrase, kind, body in other]


@pytest.mark.slow
def test_a_csv_that_is_split_by_line(model_dir: Path, table: pa.Table) -> None:
    """As batch transform does: the first piece has the header, the others have not; each line in has a line out."""
    pytest.importorskip("sagemaker_inference")
    order = [name for name in reversed(table.column_names) if name != "label"]
    rows = table.filter(pc.invert(pc.equal(table["shop"], "two\nlines"))).slice(0, 4).select(order)
    lines = [order, *([text_of(row[name]) for name in order] for row in rows.to_pylist())]
    pieces = [written(lines[:3]), written(lines[3:])]
    requests = [("text/csv", piece) for piece in (written(lines), *pieces)]
    names = written([order]).strip()
    whole, first, second = answers_of(model_dir, requests, SAGEMAKER_PROGRAM="transform.py", TABSTEP_CSV_COLUMNS=names)
    assert [each[0] for each in (whole, first, second)] == [200, 200, 200], second
    records = [json.loads(each[3])["predictions"] for each in (whole, first, second)]
    assert records[0] == records[1] + records[2]
    assert [record["id"] for record in records[0]] == rows["row_id"].to_pylist()
    refused = answers_of(model_dir, [("text/csv", pieces[1]), ("text/csv", pieces[1])])[1]
    assert refused[0] == 400
    [short] = answers_of(model_dir, [("text/csv", "1,2")], TABSTEP_CSV_COLUMNS=names)
    assert short[0] == 400
    assert short[3].startswith("the first row has 2 fields, and these columns are known: ")


def text_of(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.timedelta):
        return str(value.total_seconds())
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def written(rows: list[list[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def test_code_is_small_and_installs_only_what_is_lacking(model_dir: Path) -> None:
    code = model_dir / "code"
    carried = sum(path.stat().st_size for path in code.rglob("*") if path.is_file())
    assert carried < 0.3 * sum(path.stat().st_size for path in (ROOT / "src" / "tabstep").rglob("*.py"))
    lines = (code / "requirements.txt").read_text().splitlines()
    assert [line.partition(">=")[0] for line in lines] == ["pyarrow", "PyYAML", "safetensors"]
    for requirement in map(Requirement, lines):
        assert version(requirement.name) in requirement.specifier
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert {lines[0], lines[2]} <= set(project), "a floor has its reason there"
    assert (code / "inference.py").read_bytes() == (code / "tabstep" / "serving" / "handler.py").read_bytes()


def test_code_may_be_replaced(model_dir: Path, table: pa.Table, tmp_path: Path) -> None:
    """The service repacks an artifact with another handler, and Python leaves its cache there."""
    copy = shutil.copytree(model_dir, tmp_path / "model")
    shutil.rmtree(copy / "code")
    assert tabstep.load(copy).predict(table).equals(tabstep.load(model_dir).predict(table))
