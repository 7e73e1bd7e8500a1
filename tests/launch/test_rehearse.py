"""The real toolkit on the real bundle and request: a few epochs of a small table each."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest
from tests.launch.jobs import BUNDLE, remote_of, settings_of, spec_of

from tabstep import load
from tabstep.errors import UserError
from tabstep.launch import rehearse
from tabstep.launch.prepare_job import Job
from tabstep.launch.request.cost import ceiling
from tabstep.launch.s3 import upload
from tabstep.log_lines import parse_line
from tabstep.tables.builtin import write_builtin_table

pytest.importorskip("sagemaker")
pytest.importorskip("sagemaker_training")

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["data.builtin_rows=2000", "trainer.max_epochs=3", "trainer=cpu", "data.batch_size=128", "tags=[a, 'b c']"]
SMALL.append("report=none")  # the page of a job is that of test_local_tables_are_the_channels
# Draws of dropout differ from rank to rank, and after three epochs of Muon the scores of rows hardly differ at all.
# SGD: where a gradient is nearly zero, AdamW makes a whole step of its last digit, which hangs on the parts of a batch.
# float32: gradients of half a batch that are rounded to 16 bits have other last digits than those of a whole one
ALIKE = ["model.dropout=0", "optimizer=sgd", "trainer.precision=32-true"]
FEW_SAVES = ["callbacks.checkpoint.every_n_steps=3"]


def train(directory: Path, *overrides: str, expected: int = 0, **environment: str) -> str:
    """Run train.py as a person does, and return what it printed."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "SAGEMAKER_", "SM_"))}
    command = [sys.executable, str(ROOT / "train.py"), *overrides, f"paths.output_dir={directory}"]
    done = subprocess.run(
        command,
        cwd=directory.parent,
        env={**own, "XDG_CACHE_HOME": str(directory.parent / "cache"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == expected, done.stdout
    return done.stdout


def report(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "report.json").read_text())
    return {key: value for key, value in found.items() if key != "seconds"}


def weights(directory: Path) -> str:
    return hashlib.sha256((directory / "model" / "model.safetensors").read_bytes()).hexdigest()


def golden(directory: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(directory / "model" / "golden.parquet").to_pylist()
    return rows


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("local") / "run"
    train(directory, *SMALL, *FEW_SAVES)
    return directory


@pytest.mark.slow
def test_a_rehearsal_ends_with_what_the_local_run_has(local: Path, tmp_path: Path) -> None:
    shown = train(tmp_path / "run", "launch=rehearsal", *SMALL, *FEW_SAVES)
    assert report(tmp_path / "run") == report(local)
    assert golden(tmp_path / "run") == golden(local)
    assert weights(tmp_path / "run") == weights(local)
    assert (tmp_path / "run" / "predictions" / "test.parquet").is_file()
    load(tmp_path / "run" / "model")
    assert "Completed" in shown
    assert shown.count("Train Loss: ") == 3, "the epoch lines come as they do in a local run"
    log = (tmp_path / "run" / "rehearsal" / "job.log").read_text()
    assert log.count("Requirement already satisfied: lightning==") == 1
    assert "\r" not in log
    assert [parse_line(line)["epoch"] for line in log.splitlines() if "train_loss" in parse_line(line)] == [1, 2, 3]
    (packed,) = (tmp_path / "run" / "rehearsal" / "s3").rglob("model.tar.gz")
    with tarfile.open(packed) as tar:
        assert {"model.safetensors", "manifest.json", "golden.parquet"} <= set(tar.getnames())


@pytest.mark.slow
def test_an_interrupted_job_ends_with_the_same_weights(local: Path, tmp_path: Path) -> None:
    shown = train(tmp_path / "run", "launch=rehearsal", "launch.interrupt_after=1", *SMALL, *FEW_SAVES)
    assert "Interrupted" in shown
    assert "resume: going on from " in shown
    assert weights(tmp_path / "run") == weights(local)
    assert report(tmp_path / "run") == report(local)


@pytest.mark.slow
def test_a_job_without_a_network_gets_its_source_as_a_channel(local: Path, tmp_path: Path) -> None:
    image = "launch.image_uri=123456789012.dkr.ecr.us-east-1.amazonaws.com/pytorch-own:1"
    isolated = ["launch=rehearsal", "launch.network_isolation=true", image, "launch.region=us-east-1"]
    train(tmp_path / "run", *isolated, *SMALL, *FEW_SAVES)
    assert weights(tmp_path / "run") == weights(local)
    directory = tmp_path / "run" / "rehearsal"
    request = json.loads((directory / "request.json").read_text())
    assert [each["ChannelName"] for each in request["InputDataConfig"]] == ["code"]
    assert (directory / "algo-1/ml/input/data/code/sourcedir.tar.gz").is_file()
    assert "Requirement already satisfied" not in (directory / "job.log").read_text()


class CodeArtifact(BaseHTTPRequestHandler):
    """What the toolkit asks for: a token, and the address of the repository's packages."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        address = f"http://127.0.0.1:{self.server.server_address[1]}/pypi/packages/"
        answer = json.dumps({"authorizationToken": "t", "repositoryEndpoint": address}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def code_artifact() -> Iterator[dict[str, str]]:
    """Variables of a machine whose jobs install from CodeArtifact."""
    with ThreadingHTTPServer(("127.0.0.1", 0), CodeArtifact) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "CA_REPOSITORY_ARN": "arn:aws:codeartifact:eu-west-1:111122223333:repository/mine/packages",
            "AWS_ENDPOINT_URL_CODEARTIFACT": f"http://127.0.0.1:{server.server_address[1]}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }
        server.shutdown()


@pytest.mark.slow
def test_a_failed_job_says_why_as_the_service_would(tmp_path: Path, code_artifact: dict[str, str]) -> None:
    shown = train(tmp_path / "run", "launch=rehearsal", "schema.label=churn", *SMALL, expected=2, **code_artifact)
    assert [path.partition("?")[0] for path in CodeArtifact.asked] == [
        "/v1/authorization-token",
        "/v1/repository/endpoint",
    ]
    reason = "schema.label: data.train has no column 'churn': did you mean 'churned'?"
    assert shown.splitlines()[-1] == reason
    assert (tmp_path / "run/rehearsal/algo-1/ml/output/failure").read_text() == reason
    assert not (tmp_path / "run" / "model").exists()


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The scores of a run whose ranking of rows hangs on no last digit."""
    directory = tmp_path_factory.mktemp("one") / "run"
    train(directory, *ALIKE, *SMALL)
    return {key: value for key, value in report(directory).items() if key.startswith(("train_", "val_", "test_"))}


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [1, 2])
def test_several_devices_and_hosts_through_torchrun(hosts: int, one_process: dict[str, float], tmp_path: Path) -> None:
    """With one host as many processes as this machine has cores, with two of them one each."""
    shown = train(
        tmp_path / "run",
        "launch=rehearsal",
        "trainer=ddp",
        f"trainer.num_nodes={hosts}",
        f"launch.instance_count={hosts}",
        "launch.interrupt_after=1",
        *ALIKE,
        *SMALL[:2],
        *SMALL[3:],
        *FEW_SAVES,
    )
    log = (tmp_path / "run" / "rehearsal" / "job.log").read_text()
    assert f"torchrun --nnodes {hosts} --nproc_per_node" in log
    assert "resume: going on from " in shown
    found = report(tmp_path / "run")
    assert found["epochs"] == 3
    assert {key: found[key] for key in one_process} == pytest.approx(one_process, abs=1e-4)
    assert not list((tmp_path / "run").glob("127.0.0.*")), "what one host has written lies where a local run has it"
    assert shown.count("Epoch: 1 | ") == 1, "one rank prints"
    load(tmp_path / "run" / "model")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shards", "line"),
    [
        ([], "data.sharded: 3 files of 2 machines are passed on"),
        (["data.shards=file", "model.linear=false"], "data.shards: 1,280 rows of train in 3 shards on 2 ranks"),
    ],
)
def test_hosts_with_parts_of_a_table_pass_them_on_or_keep_them(tmp_path: Path, shards: list[str], line: str) -> None:
    found = Path(write_builtin_table(tmp_path / "tables", rows=2000).path)
    train_file = found / "train" / "train.parquet"
    table = pq.read_table(train_file)
    train_file.unlink()
    for number in range(3):
        pq.write_table(table.slice(number * 500, 500), found / "train" / f"{number}.parquet")
    overrides = [f"data.path={found}", "schema.id=row_id", "schema.label=churned", "trainer=ddp", "trainer.num_nodes=2"]
    overrides += ["launch.instance_count=2", "launch.sharded=true", "trainer.max_epochs=1", "data.batch_size=128"]
    train(tmp_path / "run", "launch=rehearsal", *overrides, *shards)
    log = (tmp_path / "run" / "rehearsal" / "job.log").read_text()
    assert line in log
    for host, own in (("algo-1", ["0.parquet", "2.parquet"]), ("algo-2", ["1.parquet"])):
        directory = tmp_path / "run" / "rehearsal" / host / "ml" / "input" / "data" / "train"
        assert sorted(os.listdir(directory)) == own
    load(tmp_path / "run" / "model")


@pytest.mark.slow
def test_local_tables_are_the_channels(tmp_path: Path) -> None:
    tables = ROOT.parent / "shared" / "data" / "bank"
    if not tables.is_dir():
        tables = Path(write_builtin_table(tmp_path / "tables", rows=2000).path)
    overrides = [f"data.path={tables}", "trainer=cpu", "trainer.max_epochs=1", "data.batch_size=1024"]
    overrides.append(f"schema.label={'deposit' if tables.name == 'bank' else 'churned'}")
    train(tmp_path / "local", *overrides)
    shown = train(tmp_path / "run", "launch=rehearsal", *overrides)
    assert report(tmp_path / "run") == report(tmp_path / "local")
    assert golden(tmp_path / "run") == golden(tmp_path / "local")
    assert all(f"channel {split}" in shown for split in ("train", "val", "test"))


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rehearse.find_spec
    monkeypatch.setattr(rehearse, "find_spec", lambda name: None if name == "sagemaker_training" else found(name))
    with pytest.raises(UserError, match=r'sagemaker_training cannot be imported: pip install "tabstep\[rehearsal\]"'):
        rehearse.require_toolkit()
    monkeypatch.setattr(rehearse, "find_spec", lambda name: None if name == "pip" else found(name))
    with pytest.raises(UserError, match="with pip: install pip"):
        rehearse.require_toolkit()


def test_instances_of_several_types_are_one_line(tmp_path: Path) -> None:
    groups = [{"InstanceGroupName": "a", "InstanceType": "ml.m5.xlarge", "InstanceCount": 1}]
    settings = settings_of(
        f"paths.output_dir={tmp_path / 'run'}", request={"ResourceConfig": {"InstanceGroups": groups}}
    )
    spec = spec_of(settings)
    made = Job(
        spec=spec,
        request={},
        bundle=BUNDLE,
        plan=upload.plan(settings.data, remote_of(settings)),
        ceiling=ceiling(spec, {}),
    )
    with pytest.raises(UserError, match=r"launch\.request\.ResourceConfig: a rehearsal has instances of"):
        rehearse.rehearse(settings, made)
    assert not (tmp_path / "run").exists()
