from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import ray

from tabstep.config.settings import PathSettings, RaySettings, Settings
from tabstep.errors import RetryError, UserError
from tabstep.launch.ray import cluster
from tabstep.launch.ray.cluster import connected, source_modules
from tabstep.registry import PluginSettings

PATHS = PathSettings(output_dir="out", cache_dir="cache")


def settings(**launch: Any) -> Settings:
    return Settings(paths=PATHS, launch=RaySettings(**launch))


def test_workers_get_this_package_and_the_modules_of_components(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_callbacks.py").write_text("class Mine: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    chosen = settings()
    own = PluginSettings(name="my_callbacks:Mine", options={})
    object.__setattr__(chosen.callbacks, "extra", [own])
    found = [Path(path) for path in source_modules(chosen, tmp_path / "source")]
    assert [path.name for path in found] == ["hydra_plugins", "my_callbacks.py", "tabstep"]
    assert (found[2] / "run" / "ray_rank.py").is_file()


def refusing(error: Exception) -> Callable[..., None]:
    def init(**_: Any) -> None:
        raise error

    return init


@pytest.mark.parametrize(
    ("address", "raised", "expected", "said"),
    [
        ("auto", ConnectionError("no"), UserError, "launch.address=auto: no cluster runs here: start one with"),
        (
            "10.0.0.1:1",
            ConnectionError("gone\nlong"),
            RetryError,
            "launch.address=10.0.0.1:1: no cluster answers: gone",
        ),
        ("x://y", ValueError("unknown"), UserError, "launch.address=x://y: unknown"),
        (
            "auto",
            ray.exceptions.RuntimeEnvSetupError("no pip"),
            UserError,
            "launch.runtime_env: Ray cannot set it up: ",
        ),
    ],
)
def test_a_cluster_that_does_not_answer_is_one_line(
    address: str, raised: Exception, expected: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", refusing(raised))
    monkeypatch.setattr(cluster, "source_modules", lambda settings, directory: [])
    with pytest.raises(expected) as caught, connected(settings(address=address)):
        pass
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_machine_without_gpus_is_refused_and_a_cluster_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0})
    monkeypatch.setattr(cluster, "source_modules", lambda settings, directory: [])
    said = r"^launch.workers, launch.gpus_per_worker: .* asked for 1 GPU of which"
    with pytest.raises(UserError, match=said), connected(settings(gpus_per_worker=1)):
        pass
    with connected(settings(gpus_per_worker=1, address="auto")):
        pass
    line = capsys.readouterr().err
    assert (
        line == "launch=ray: the cluster is asked for 1 GPU of which it has 0: waiting until it grows or others end\n"
    )


def test_signals_mean_what_they_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own handler of SIGTERM would print a stack and end the process where the run has a line to say."""

    def init(**_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0})
    monkeypatch.setattr(cluster, "source_modules", lambda settings, directory: [])
    before = signal.getsignal(signal.SIGTERM)
    with connected(settings()):
        assert signal.getsignal(signal.SIGTERM) is before


def test_this_module_imports_no_ray() -> None:
    assert not {name for name in vars(cluster) if name.startswith("ray")}
    assert "ray" in sys.modules
