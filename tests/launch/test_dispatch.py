from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sagemaker")

from tests.launch.jobs import ROLE

from tabstep.entry import main
from tabstep.launch.request import service_model

pytestmark = pytest.mark.usefixtures("nowhere")
SOURCE = Path(__file__).resolve().parents[2]
DRY_RUN = ["launch=dry_run", f"launch.role={ROLE}", "launch.region=eu-west-1", "launch.bucket=my-bucket"]


def test_a_dry_run_prints_the_request_alone(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["model=resnet", "optimizer.lr=3e-4", "launch.instance_type=ml.m5.xlarge", "launch.max_run=3600"]
    assert main([*DRY_RUN, *overrides, "schema.drop=[a b, 'c,d']"]) == 0
    out, err = capsys.readouterr()
    request = json.loads(out)
    assert service_model.violations(request) == []
    parameters = request["HyperParameters"]
    assert (parameters["model"], parameters["optimizer.lr"]) == ('"resnet"', "0.0003")
    assert not [name for name in parameters if name.startswith(("launch", "schema"))]
    assert "packed_overrides" in parameters
    assert request["AlgorithmSpecification"]["TrainingImage"].endswith("/pytorch:2.13-cpu-amzn2023-sagemaker")
    assert {tag["Key"] for tag in request["Tags"]} >= {"tabstep:commit"} or "tabstep:source" in str(request["Tags"])
    [line] = err.splitlines()
    assert line.startswith("at most 1.00 instance hours of ml.m5.xlarge; its price in eu-west-1 is unknown: ")


@pytest.mark.parametrize("mode", ["dry_run", "sagemaker", "attach"])
@pytest.mark.parametrize(
    ("environment", "file", "reason"),
    [
        ({"AWS_ACCESS_KEY_ID": "x"}, "", "Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY"),
        ({}, "[default]\naws_access_key_id = x\n", "Partial credentials found in shared-credentials-file"),
        ({"AWS_PROFILE": "nope"}, "", "The config profile (nope) could not be found"),
    ],
)
def test_credentials_that_cannot_be_read_are_one_line(
    mode: str,
    environment: dict[str, str],
    file: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "credentials").write_text(file)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    remote = ["launch=sagemaker", *DRY_RUN[1:]]
    assert main({"dry_run": DRY_RUN, "sagemaker": remote, "attach": [*remote, "launch.attach=job-1"]}[mode]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("launch: ")
    assert f"the AWS configuration of this machine: {reason}" in line
    assert line.endswith(": set AWS_PROFILE, or run `aws configure`")


def test_local_data_becomes_channels(capsys: pytest.CaptureFixture[str], tiny_data: Path) -> None:
    assert main([*DRY_RUN, f"data.path={tiny_data}", "schema.label=label"]) == 0
    request = json.loads(capsys.readouterr().out)
    uris = {each["ChannelName"]: each["DataSource"]["S3DataSource"]["S3Uri"] for each in request["InputDataConfig"]}
    assert list(uris) == ["train", "val", "test"]
    assert all(
        uri.startswith("s3://my-bucket/tabstep/input/") and uri.endswith(f"/{name}/") for name, uri in uris.items()
    )
    assert "data.path" not in request["HyperParameters"]


def test_data_on_s3_is_used_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DRY_RUN, "data.path='s3://other/dt=2025-01-01/'", "launch.channels=[train,val]"]) == 0
    request = json.loads(capsys.readouterr().out)
    uris = [each["DataSource"]["S3DataSource"]["S3Uri"] for each in request["InputDataConfig"]]
    assert uris == ["s3://other/dt=2025-01-01/train/", "s3://other/dt=2025-01-01/val/"]


def test_the_bundle_is_listed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DRY_RUN, "launch.list_bundle=true"]) == 0
    out, err = capsys.readouterr()
    json.loads(out)
    listed = [line.split()[1] for line in err.splitlines() if line.endswith(("train.py", "requirements.txt"))]
    assert {"train.py", "requirements.txt"} <= set(listed)


def test_every_problem_is_found_at_once(capsys: pytest.CaptureFixture[str], tiny_data: Path, tmp_path: Path) -> None:
    arguments = [
        "launch=dry_run",
        "launch.region=eu-west-1",
        f"data.path={tiny_data}",
        "schema.label=lable",
        "launch.job_name=a_b",
        "launch.instance_type=ml.g5.12xlrge",
        "launch.output_path=s3://my-bucket",
        "launch.max_usd=1",
        f"launch.prices={tmp_path / 'none.yaml'}",
        f"launch.source_dir={tmp_path / 'none'}",
    ]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    keys = [line.split(":")[0] for line in err.splitlines()]
    assert keys == [
        "launch.source_dir",
        "launch.prices",
        "launch.role",
        "launch.output_path",
        "launch.instance_type",
        *["schema.label"] * 3,
        "launch.max_usd",
        "launch.job_name",
    ]


def test_a_mode_that_is_not_there_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch=sagmaker"]) == 2
    assert "did you mean 'sagemaker'?" in capsys.readouterr().err


def test_another_configuration_file_cannot_travel(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(SOURCE / "conf", tmp_path / "conf")
    assert main([f"--config-path={tmp_path / 'conf'}", *DRY_RUN]) == 2
    assert "use --config-dir" in capsys.readouterr().err
    files = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler)]
    assert all(Path(handler.baseFilename).parent.is_dir() for handler in files), "a log in a directory that has gone"


LIGHT = """
import sys
from tabstep.entry import main
code = main(sys.argv[1:])
heavy = sorted({"torch", "lightning", "torchmetrics"} & set(sys.modules))
assert not heavy, heavy
sys.exit(code)
"""


def test_launching_never_imports_torch_or_lightning(tmp_path: Path, tiny_data: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(SOURCE / "src"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [sys.executable, "-c", LIGHT, *DRY_RUN, f"data.path={tiny_data}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["RoleArn"] == ROLE


@pytest.mark.parametrize(
    "module", ["tabstep.launch", "tabstep.launch.dispatch", "tabstep.launch.pipeline.pipeline", "tabstep.entry"]
)
def test_the_sdk_is_imported_where_it_is_used(module: str) -> None:
    names = ["sagemaker", "boto3", "botocore", "torch", "lightning"]
    code = f"import sys, {module}; print([n for n in {names} if n in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
