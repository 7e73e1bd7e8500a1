from __future__ import annotations

import tarfile
from pathlib import Path

from tabstep.emulator.local_s3 import deposit, file_of
from tabstep.launch.archives import extract

REQUEST = {"TrainingJobName": "job-1", "OutputDataConfig": {"S3OutputPath": "s3://b/out/"}}


def test_an_address_is_a_file(tmp_path: Path) -> None:
    assert (
        file_of(tmp_path, "s3://b/a/dt=2025-01-01/x.tar.gz") == tmp_path / "s3" / "b" / "a" / "dt=2025-01-01/x.tar.gz"
    )


def test_archives_hold_what_all_hosts_left_and_of_one_name_the_first(tmp_path: Path) -> None:
    for host, names in (("one", ["m", "a"]), ("two", ["m", "b"])):
        (tmp_path / host / "output" / "data").mkdir(parents=True)
        (tmp_path / host / "model").mkdir()
        for name in names:
            (tmp_path / host / "model" / name).write_text(host)
    places = deposit(REQUEST, [tmp_path / "one", tmp_path / "two"], tmp_path)
    assert list(places) == ["s3://b/out/job-1/output/model.tar.gz"]
    with tarfile.open(places["s3://b/out/job-1/output/model.tar.gz"]) as tar:
        extract(tar, tmp_path / "back")
    found = {path.name: path.read_text() for path in (tmp_path / "back").iterdir()}
    assert found == {"a": "one", "b": "two", "m": "one"}
