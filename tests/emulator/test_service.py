from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.launch.jobs import REQUEST

from tabstep.emulator.host import Host
from tabstep.emulator.outcome import Outcome
from tabstep.emulator.service import run_request

pytest.importorskip("psutil")


def run(monkeypatch: pytest.MonkeyPatch, directory: Path, scripts: list[str], **changes: Any) -> Outcome:
    """Run a request with scripts in the place of the toolkit, one for each host, each in its ``/opt/ml``."""

    def start(self: Host, request: Any) -> subprocess.Popen[bytes]:
        script = scripts[int(self.directory.name.removeprefix("algo-")) - 1]
        return subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=self.base,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    monkeypatch.setattr(Host, "start", start)
    resources = {**REQUEST["ResourceConfig"], "InstanceCount": len(scripts)}
    source = {**REQUEST["HyperParameters"], "sagemaker_submit_directory": json.dumps("s3://b/source/sourcedir.tar.gz")}
    request = {**REQUEST, "HyperParameters": source, "ResourceConfig": resources, **changes}
    return run_request(request, b"", {}, directory)


FAIL = "import pathlib, sys, time; time.sleep({}); pathlib.Path('output/failure').write_text({!r}); sys.exit(1)"


def test_the_first_host_that_failed_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcome = run(monkeypatch, tmp_path, [FAIL.format(0.5, "connection closed"), FAIL.format(0, "the cause")])
    assert (outcome.status, outcome.failure) == ("Failed", "the cause")


def test_a_host_that_says_nothing_has_an_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcome = run(monkeypatch, tmp_path, ["raise SystemExit(7)"])
    assert (outcome.status, outcome.failure) == ("Failed", "AlgorithmError: exit code 7")


def test_only_the_first_1024_characters_of_a_reason_are_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcome = run(monkeypatch, tmp_path, [FAIL.format(0, "ä" * 3000)])
    assert outcome.failure == "ä" * 1024


def test_a_job_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stopping = {"MaxRuntimeInSeconds": 1}
    outcome = run(monkeypatch, tmp_path, ["import time; time.sleep(60)"], StoppingCondition=stopping)
    assert outcome.status == "Stopped"


def test_hosts_share_their_checkpoints_and_the_artifact_has_the_files_of_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = "from pathlib import Path; Path('checkpoints/{0}').touch(); Path('model/m').write_text('{0}')"
    outcome = run(monkeypatch, tmp_path, [script.format("a"), script.format("b")])
    assert outcome.status == "Completed"
    assert [path.name for path in outcome.checkpoints] == ["a", "b"]
    assert list(outcome.places) == ["s3://b/out/job-1/output/model.tar.gz"]
    assert json.loads((tmp_path / "request.json").read_text()) == outcome.request
