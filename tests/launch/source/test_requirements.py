from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.errors import UserError
from tabstep.launch.source import requirements
from tabstep.launch.source.requirements import OF_THE_IMAGE, PACKAGES, job_packages, job_requirements, loose_modules


def test_the_job_gets_what_runs_here() -> None:
    lines = job_requirements("", []).splitlines()
    assert lines[0].startswith("#")
    assert lines[1:] == [f"{name}=={metadata.version(name)}" for name in PACKAGES]
    assert not any(OF_THE_IMAGE.fullmatch(line.partition("==")[0]) for line in lines)


def test_every_dependency_of_the_package_is_there_or_in_the_image() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]
    needed = {text.partition(">")[0] for text in project["dependencies"]}
    assert {name for name in needed if not OF_THE_IMAGE.fullmatch(name)} == set(PACKAGES)


@pytest.mark.parametrize("line", ["torch==2.12", "numpy", "  pyarrow>=20", "sagemaker", "nvidia-nccl-cu13", "Torch"])
def test_the_image_is_not_changed(line: str) -> None:
    with pytest.raises(UserError, match="would change the image"):
        job_requirements(f"xgboost\n{line}\n", [])


def test_the_lines_of_the_user_are_kept_and_win() -> None:
    lines = job_requirements(
        "--index-url https://example.com/simple\nlightning==2.7.0\nmy_models\n\n", ["my-models"]
    ).splitlines()
    assert lines[:3] == ["--index-url https://example.com/simple", "lightning==2.7.0", "my_models"]
    assert not any(line.startswith(("lightning==2.6", "my-models")) for line in lines)


def test_a_version_that_is_not_known_is_not_guessed() -> None:
    with pytest.raises(UserError, match="nowhere: is not installed"):
        job_requirements("", ["nowhere"])


def test_options_bring_their_packages() -> None:
    assert job_packages(parse(composed([], [config_dir()]))) == []
    assert job_packages(parse(composed(["logger=tensorboard"], [config_dir()]))) == ["tensorboard"]
    onnx = job_packages(parse(composed(["export=onnx"], [config_dir()])))
    assert onnx == ["onnx", "onnxruntime", "onnxscript"]
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]
    assert onnx == [text.partition(">")[0] for text in project["optional-dependencies"]["onnx"]]
    for uri, packages in {
        "https://mlflow.example.com": ["mlflow-skinny", "wandb"],
        "arn:aws:sagemaker:eu-central-1:123456789012:mlflow-tracking-server/mine": [
            "mlflow-skinny",
            "sagemaker-mlflow",
            "wandb",
        ],
        "sqlite:///runs.db": ["mlflow", "wandb"],
    }.items():
        chosen = ["logger=mlflow", f"logger.mlflow.tracking_uri='{uri}'", "logger.wandb.enabled=true"]
        assert job_packages(parse(composed(chosen, [config_dir()]))) == packages
    assert requirements.REQUIREMENTS == "requirements.txt"


def test_loose_modules_go_along_and_packages_by_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "watch.py").write_text("class Watch: ...\n")
    (tmp_path / "single.py").write_text("class Log: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = composed([], [config_dir()])
    config["callbacks"]["extra"] = [{"name": "mine.watch:Watch"}, {"name": "lightning.pytorch.callbacks:ModelSummary"}]
    config["logger"]["extra"] = [{"name": "single:Log"}, {"name": "tensorboard.program:TensorBoard"}]
    config["optimizer"] = {"name": "torch.optim:NAdam"}
    settings = parse(config)
    assert loose_modules(settings) == {
        "src/mine/__init__.py": b"",
        "src/mine/watch.py": b"class Watch: ...\n",
        "src/single.py": b"class Log: ...\n",
    }
    assert job_packages(settings) == ["tensorboard"]
