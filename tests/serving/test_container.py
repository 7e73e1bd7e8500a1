"""The artifact alone, as a container has it: without this package, and behind the toolkit's own handler."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tabstep

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


def in_container(model_dir: Path, program: str, body: bytes) -> bytes:
    environment = {**os.environ, **SERVING, "PYTHONPATH": str(model_dir / "code"), "PYTHONDONTWRITEBYTECODE": "1"}
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


def test_code_is_small_and_pins_what_it_installs(model_dir: Path) -> None:
    code = model_dir / "code"
    assert sum(path.stat().st_size for path in code.rglob("*") if path.is_file()) < 300_000
    lines = (code / "requirements.txt").read_text().splitlines()
    assert [line.partition("==")[0] for line in lines] == ["pyarrow", "PyYAML", "safetensors"]
    assert all(line.partition("==")[2] for line in lines)
    assert (code / "inference.py").read_bytes() == (code / "tabstep" / "serving" / "inference.py").read_bytes()


def test_code_may_be_replaced(model_dir: Path, tmp_path: Path) -> None:
    """The service repacks an artifact with another handler, and Python leaves its cache there."""
    copy = shutil.copytree(model_dir, tmp_path / "model")
    shutil.rmtree(copy / "code")
    tabstep.load(copy)
