"""What the SDK makes of an artifact: a model, a batch transform job, and a repacked archive that still serves."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

import tabstep
from tabstep.launch.archives import extract

pytest.importorskip("sagemaker")
pytest.importorskip("moto")

BUCKET, REGION = "tabstep-test", "eu-central-1"
ROLE = "arn:aws:iam::111122223333:role/serving"
# The SDK sends both empty otherwise, and the container then looks for a module without a name.
SERVING = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The SDK's session on a moto server; ``session.requests`` are what it has sent to SageMaker."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    from tabstep.launch.request import sdk

    found = sdk.session(sdk.boto_session(REGION), BUCKET)
    found.boto_session.client("s3").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    found.requests = {}
    for operation in ("CreateModel", "CreateTransformJob", "CreateEndpointConfig", "CreateEndpoint"):
        found.sagemaker_client.meta.events.register(
            f"before-parameter-build.sagemaker.{operation}",
            lambda params, model, **_: found.requests.update({model.name: dict(params)}),
        )
    yield found
    server.stop()


@pytest.fixture
def artifact_uri(model_dir: Path, session: Any) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(model_dir, arcname=".")
    session.boto_session.client("s3").put_object(Bucket=BUCKET, Key="job/model.tar.gz", Body=buffer.getvalue())
    return f"s3://{BUCKET}/job/model.tar.gz"


def pytorch_model(session: Any, artifact_uri: str, **options: Any) -> Any:
    from tabstep.launch.request import sdk

    with sdk.quiet():
        from sagemaker.pytorch import PyTorchModel

    return PyTorchModel(
        model_data=artifact_uri,
        role=ROLE,
        framework_version="2.6",
        py_version="py312",
        sagemaker_session=session,
        **options,
    )


def test_batch_transform_takes_the_artifact_as_it_is(session: Any, artifact_uri: str) -> None:
    model = pytorch_model(session, artifact_uri, env=SERVING)
    transformer = model.transformer(
        instance_count=1,
        instance_type="ml.m5.xlarge",
        strategy="MultiRecord",
        assemble_with="Line",
        accept="text/csv",
        output_path=f"s3://{BUCKET}/predictions",
    )
    transformer.transform(
        f"s3://{BUCKET}/rows", content_type="text/csv", split_type="Line", join_source="Input", wait=False, logs=False
    )
    container = session.requests["CreateModel"]["PrimaryContainer"]
    assert container["ModelDataUrl"] == artifact_uri
    assert SERVING.items() <= container["Environment"].items()
    request = session.requests["CreateTransformJob"]
    assert request["TransformOutput"]["AssembleWith"] == "Line"
    assert request["TransformInput"]["ContentType"] == "text/csv"


def served_model(session: Any, artifact_uri: str, **env: str) -> Any:
    from tabstep.launch.pipeline.registration import SERVING as ONE_FUNCTION
    from tabstep.launch.request import sdk
    from tabstep.launch.request.images import serving_uri

    with sdk.quiet():
        from sagemaker.model import Model

    return Model(
        image_uri=serving_uri("cpu", REGION),
        model_data=artifact_uri,
        role=ROLE,
        env={**ONE_FUNCTION, **env},
        sagemaker_session=session,
    )


def test_the_documented_batch_transform_of_a_csv(session: Any, artifact_uri: str) -> None:
    transformer = served_model(session, artifact_uri, TABSTEP_CSV_COLUMNS="id,a").transformer(
        instance_count=1,
        instance_type="ml.m5.xlarge",
        strategy="MultiRecord",
        assemble_with="Line",
        accept="text/csv",
        output_path=f"s3://{BUCKET}/predictions",
    )
    transformer.transform(
        f"s3://{BUCKET}/rows.csv",
        content_type="text/csv",
        split_type="Line",
        join_source="Input",
        output_filter="$[0,-2]",
        wait=False,
        logs=False,
    )
    container = session.requests["CreateModel"]["PrimaryContainer"]
    assert container["ModelDataUrl"] == artifact_uri
    assert "/autogluon:" in container["Image"]
    assert container["Environment"]["SAGEMAKER_PROGRAM"] == "transform.py"
    assert container["Environment"]["TABSTEP_CSV_COLUMNS"] == "id,a"
    request = session.requests["CreateTransformJob"]
    assert request["DataProcessing"] == {"JoinSource": "Input", "OutputFilter": "$[0,-2]"}
    assert request["TransformInput"]["SplitType"] == "Line"


def test_the_documented_endpoint_without_instances(session: Any, artifact_uri: str) -> None:
    from tabstep.launch.request import sdk

    with sdk.quiet():
        from sagemaker.serverless import ServerlessInferenceConfig

    served_model(session, artifact_uri).deploy(
        serverless_inference_config=ServerlessInferenceConfig(memory_size_in_mb=4096, max_concurrency=5),
        endpoint_name="customers-serverless",
        wait=False,
    )
    [variant] = session.requests["CreateEndpointConfig"]["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 4096, "MaxConcurrency": 5}
    assert session.requests["CreateModel"]["PrimaryContainer"]["ModelDataUrl"] == artifact_uri


def test_an_endpoint_takes_the_artifact_as_it_is(session: Any, artifact_uri: str) -> None:
    pytorch_model(session, artifact_uri, env=SERVING).deploy(
        initial_instance_count=1, instance_type="ml.m5.large", endpoint_name="customers", wait=False
    )
    container = session.requests["CreateModel"]["PrimaryContainer"]
    assert container["ModelDataUrl"] == artifact_uri
    assert SERVING.items() <= container["Environment"].items()
    assert session.requests["CreateEndpoint"]["EndpointName"] == "customers"


def test_without_the_variables_no_handler_is_named(session: Any, artifact_uri: str) -> None:
    """Why docs/ say to set them: an empty name is not the toolkit's default, inference.py."""
    pytorch_model(session, artifact_uri).create(instance_type="ml.m5.large")
    environment = session.requests["CreateModel"]["PrimaryContainer"]["Environment"]
    assert {environment[name] for name in SERVING} == {""}


def test_repacked_artifact_still_loads(session: Any, artifact_uri: str, model_dir: Path, tmp_path: Path) -> None:
    model = pytorch_model(session, artifact_uri, entry_point="inference.py", source_dir=str(model_dir / "code"))
    model.create(instance_type="ml.m5.large")
    container = session.requests["CreateModel"]["PrimaryContainer"]
    assert container["Environment"]["SAGEMAKER_PROGRAM"] == "inference.py"
    bucket, _, key = container["ModelDataUrl"].removeprefix("s3://").partition("/")
    body = session.boto_session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        extract(tar, tmp_path)
    assert (tmp_path / "code" / "inference.py").is_file()
    assert tabstep.load(tmp_path).class_names == ("no", "yes")
