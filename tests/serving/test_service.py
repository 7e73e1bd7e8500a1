"""A real server on loopback answers as the handler does, and says what is wrong with a request."""

from __future__ import annotations

import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.artifact.load import load
from tabstep.cli import main
from tabstep.serving.fields import Field
from tabstep.serving.handler import model_fn

uvicorn = pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("fastapi", reason="the extra serve is not installed")


def ask(url: str, body: bytes | None = None, content_type: str = "application/json", accept: str = "*/*") -> Any:
    headers = {"content-type": content_type, "accept": accept}
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())["error"]


@contextmanager
def serving(app: Any) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def address(model_dir: Path) -> Iterator[str]:
    from tabstep.serving.service import build_app

    with serving(build_app(model_fn(str(model_dir)))) as url:
        yield url


@pytest.fixture(scope="module")
def rows(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table.slice(0, 5), out)
    return out.getvalue()


@pytest.fixture(scope="module")
def expected(model_dir: Path, table: pa.Table) -> list[float]:
    return [float(value) for value in load(model_dir).predict_proba(table.slice(0, 5))[:, 1]]


def test_health_and_schema_describe_the_model(address: str, model_dir: Path) -> None:
    assert json.loads(ask(f"{address}/health")[1])["status"] == "ok"
    schema = json.loads(ask(f"{address}/schema")[1])
    assert schema["classes"] == ["no", "yes"]
    assert {"name": "age", "kind": "number", "category": False} in schema["columns"]


def test_schema_has_the_format_of_text_that_is_parsed() -> None:
    from tabstep.serving.service import _column

    day, city = (Field(name=name, kind="text", dtype=pa.string(), exact=name == "city") for name in ("day", "city"))
    assert _column(day, {"day": "%d.%m.%Y"}) == {"name": "day", "kind": "text", "category": False, "format": "%d.%m.%Y"}
    assert _column(city, {"day": "%d.%m.%Y"}) == {"name": "city", "kind": "text", "category": True}


def test_parquet_is_predicted_as_the_model_does_it(address: str, rows: bytes, expected: list[float]) -> None:
    status, body = ask(f"{address}/predict", rows, "application/x-parquet")
    assert status == 200
    got = [record["probabilities"]["yes"] for record in json.loads(body)["predictions"]]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_rows_columns_and_csv_give_the_same_answer(address: str) -> None:
    names = [column["name"] for column in json.loads(ask(f"{address}/schema")[1])["columns"]]
    empty = dict.fromkeys(names) | {"age": 39.5}
    header = ",".join(f'"{name}"' for name in names)
    line = ",".join("39.5" if name == "age" else "" for name in names)
    bodies = [
        (json.dumps([empty, empty]), "application/json"),
        (json.dumps({"columns": {name: [value] * 2 for name, value in empty.items()}}), "application/json"),
        (f"{header}\n{line}\n{line}\n", "text/csv"),
    ]
    answers = [ask(f"{address}/predict", body.encode(), kind) for body, kind in bodies]
    assert [status for status, _ in answers] == [200, 200, 200]
    assert len({body for _, body in answers}) == 1


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"[{}]", "application/json", 400, "column 'age' is missing"),
        (b'{"columns": {"age": [1, 2], "income": [1]}}', "application/json", 400, "differ in length"),
        (b'{"columns": {"age": 1}}', "application/json", 400, "column 'age' is a number"),
        (b"a,b", "text/html", 415, "text/html"),
        (b"x" * (25 * 2**20 + 1), "text/csv", 413, "TABSTEP_MAX_REQUEST_BYTES"),
    ],
)
def test_a_wrong_request_is_answered_with_its_status_and_reason(
    address: str, body: bytes, kind: str, status: int, message: str
) -> None:
    got, error = ask(f"{address}/predict", body, kind)
    assert got == status
    assert message in error


def test_openapi_names_the_columns_and_has_a_page(address: str) -> None:
    described = json.loads(ask(f"{address}/openapi.json")[1])
    content = described["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert "age" in content["application/json"]["schema"]["anyOf"][0]["required"]
    assert b"swagger" in ask(f"{address}/docs")[1]


def test_the_recipe_of_the_docs_serves_several_models(model_dir: Path, rows: bytes, expected: list[float]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    (recipe,) = (text for text in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "FastAPI(" in text)
    assert len(recipe.splitlines()) == 10
    found: dict[str, Any] = {}
    exec(recipe.replace('"logs/first/model"', repr(str(model_dir))), found)
    with serving(found["app"]) as url:
        versions = json.loads(ask(f"{url}/versions")[1])
        assert versions.keys() == {"churn", "again"}
        for name, version in versions.items():
            assert json.loads(ask(f"{url}/{name}/health")[1])["model_version"] == version
            status, body = ask(f"{url}/{name}/predict", rows, "application/x-parquet")
            got = [record["probabilities"]["yes"] for record in json.loads(body)["predictions"]]
            assert status == 200
            np.testing.assert_allclose(got, expected, atol=1e-6)
        status, error = ask(f"{url}/churn/predict", b"[{}]")
        assert status == 400
        assert "column 'age' is missing" in error


def test_mistakes_of_the_command_are_one_line(
    tmp_path: Path, model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(tmp_path)]) == 2
    assert "is no model directory: name that of a finished run" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(model_dir)
    assert main(["serve", str(tmp_path / "run")]) == 2
    assert f"did you mean '{tmp_path / 'run' / 'model'}'?" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", str(model_dir), "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot listen there" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(model_dir: Path, rows: bytes, expected: list[float]) -> None:
    command = [sys.executable, "-m", "tabstep", "serve", str(model_dir), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://[\d.:]+", line)
        assert found is not None, line
        time.sleep(0.2)
        assert ask(f"{found[0]}/predict", rows, "application/x-parquet")[0] == 200
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode in (0, 130, -signal.SIGINT)
