from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from tests.launch.jobs import archive

from tabstep.launch.archives import extract, objective, place_results


@pytest.mark.parametrize("names", [("algo-1", "algo-2"), ("127.0.0.1", "127.0.0.2"), ("algo-2", "algo-10")])
def test_results_of_several_instances(names: tuple[str, str], tmp_path: Path) -> None:
    first, second = names
    contents = {
        f"{first}/report.json": json.dumps({"val_auroc": 0.5, "test_auroc": None}).encode(),
        f"{first}/predictions/test.parquet": b"1",
        f"{first}/.hydra/config.yaml": b"",
        f"{first}/train.log": b"",
        f"{second}/.hydra/config.yaml": b"",
    }
    file = tmp_path / "output.tar.gz"
    file.write_bytes(archive(contents))
    output = tmp_path / "run"
    output.mkdir()
    place_results(file, output, lambda _: None)
    there = sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    assert there == ["predictions/test.parquet", "report.json"]
    assert (objective(output, "val_auroc"), objective(output, "test_auroc")) == (0.5, None)


@pytest.mark.parametrize("filters", [True, False])
def test_nothing_is_unpacked_elsewhere(filters: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 before 3.11.4 has no filters for what is unpacked."""
    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").write_text("content")
    with tarfile.open(tmp_path / "good.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "own", "own")
    with tarfile.open(tmp_path / "good.tar.gz") as tar:
        extract(tar, tmp_path / "out")
    assert (tmp_path / "out" / "own" / "file").read_text() == "content"
    outside = tarfile.TarInfo("link")
    outside.type, outside.linkname = tarfile.SYMTYPE, "/etc"
    for name, member in {"up": tarfile.TarInfo("../evil"), "link": outside}.items():
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as tar:
            tar.addfile(member)
        with tarfile.open(tmp_path / f"{name}.tar.gz") as tar, pytest.raises(tarfile.TarError):
            extract(tar, tmp_path / "out")
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "out" / "link").exists()
