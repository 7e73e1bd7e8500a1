from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.launch.jobs import archive

from tabstep.container.archives import objective, place_results


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
