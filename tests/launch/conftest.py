"""AWS on loopback: moto's server as S3, STS, IAM, CloudWatch Logs and SageMaker, as the real SDK and boto3 see it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

REGION = "eu-central-1"
BUCKET = "tabstep-test"
JOB = "tabstep-mlp-1"


@pytest.fixture(scope="session", autouse=True)
def _data_of_the_sdks_is_read_once() -> Iterator[None]:
    """Let each session share what the SDKs read and check anew for every one: the models of the services, a schema."""
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("botocore") is not None:
            from botocore.loaders import JSONFileLoader

            load_file, files = JSONFileLoader.load_file, dict[str, Any]()

            def load_once(loader: Any, path: str) -> Any:
                if path not in files:
                    files[path] = load_file(loader, path)
                return files[path]

            patch.setattr(JSONFileLoader, "load_file", load_once)
        if find_spec("sagemaker") is not None:
            from jsonschema import Draft202012Validator

            check = Draft202012Validator.check_schema
            known: dict[int, Any] = {}  # holds the schemas, so that no other gets the number of one

            def check_once(schema: Any, *arguments: Any, **named: Any) -> None:
                if known.get(id(schema)) is not schema:
                    check(schema, *arguments, **named)
                    known[id(schema)] = schema

            patch.setattr(Draft202012Validator, "check_schema", staticmethod(check_once))
        yield


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """The address of a server that lives as long as the tests."""
    pytest.importorskip("moto")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty AWS with one bucket; the environment of this process points to it and to nothing else."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    environment = {
        "AWS_ENDPOINT_URL": moto_endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    urlopen(Request(f"{moto_endpoint}/moto-api/reset", method="POST")).close()
    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    return moto_endpoint


def client(service: str) -> Any:
    boto3 = pytest.importorskip("boto3")
    return boto3.client(service, region_name=REGION)


@pytest.fixture
def s3(aws: str) -> Any:
    return client("s3")


@pytest.fixture
def log(aws: str) -> Callable[..., None]:
    """Appends lines to the log of an instance of the job ``JOB``."""
    from tabstep.launch.follow.job_log import GROUP

    logs = client("logs")
    streams: set[str] = set()

    def write(*lines: str, host: str = "algo-1") -> None:
        if not streams:
            logs.create_log_group(logGroupName=GROUP)
        stream = f"{JOB}/{host}-1795248000"
        if stream not in streams:
            logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
            streams.add(stream)
        now = int(time.time() * 1000)
        logs.put_log_events(
            logGroupName=GROUP,
            logStreamName=stream,
            logEvents=[{"timestamp": now, "message": message} for message in lines],
        )

    return write


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, no configuration, no connection, an empty working directory."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "SAGEMAKER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    if find_spec("boto3") is not None:
        # The session that the SDK falls back to: a process reads the machine's configuration once, and a test is one.
        monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    monkeypatch.chdir(tmp_path)

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a connection was tried: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
