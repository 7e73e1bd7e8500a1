from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.run.run import run
from tabstep.run_files import REPORT, predictions_file


@pytest.mark.parametrize(
    ("overrides", "epochs", "steps", "val_rows", "test_rows"),
    [
        (["trainer.fast_dev_run=true"], 1, 1, 8, 8),
        (["trainer.max_epochs=2", "trainer.limit_train_batches=3"], 2, 6, 60, 60),
        (["trainer.max_epochs=1", "trainer.limit_val_batches=2", "trainer.limit_test_batches=1"], 1, 14, 16, 8),
    ],
)
def test_limits_count_batches_of_each_split(
    tiny_data: Path, tmp_path: Path, overrides: list[str], epochs: int, steps: int, val_rows: int, test_rows: int
) -> None:
    """The table has 200, 60 and 60 rows."""
    places = [f"paths.output_dir={tmp_path}/run", f"paths.cache_dir={tmp_path}/cache"]
    data = [f"data.path={tiny_data}", "schema.label=label", "data.batch_size=15", "data.eval_batch_size=8"]
    config = composed([*places, *data, *overrides], [config_dir()])
    run(parse(config), config)
    report = json.loads((tmp_path / "run" / REPORT).read_text())
    history = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = history[0].split(",").index("step")
    assert report["epochs"] == epochs == len(history) - 1
    assert float(history[-1].split(",")[column]) == steps
    for split, rows in (("val", val_rows), ("test", test_rows)):
        assert pq.read_metadata(predictions_file(tmp_path / "run", split)).num_rows == rows
