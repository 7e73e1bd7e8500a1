from __future__ import annotations

import importlib.util
import json
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import rankdata

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quality", ROOT / "scripts" / "quality.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ranks_are_those_of_scipy(quality: ModuleType) -> None:
    values = np.random.default_rng(0).integers(0, 4, (20, 5)).astype(float)
    assert quality.ranks(values).tolist() == rankdata(-values, axis=1).tolist()


def test_calibration_error_by_hand(quality: ModuleType) -> None:
    p = np.array([0.9, 0.9, 0.1, 0.1])
    probabilities = np.column_stack([1 - p, p])
    # in the bin of 0.9 half are positive, in that of 0.1 none: |1 - 1.8| and |0 - 0.2|, over four rows
    assert quality.calibration_error(probabilities, np.array([1, 0, 0, 0])) == pytest.approx(0.25)


def test_first_fold_of_openml(quality: ModuleType) -> None:
    arff = """@relation splits
@attribute 'type' {TRAIN,TEST}
@attribute rowid numeric
@attribute repeat numeric
@attribute fold numeric
@data
TRAIN,3,0,0
TEST,1,0,0
TRAIN,1,0,1
TEST,3,1,0
TRAIN,2,0,0
"""
    train, test = quality.first_fold(arff)
    assert (train.tolist(), test.tolist()) == ([3, 2], [1])


def test_a_task_becomes_three_splits_that_competitors_read(quality: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "task"
    table.mkdir()
    rows, rng = 400, np.random.default_rng(0)
    x = rng.normal(size=rows)
    data = {"x": x, "c": rng.choice(["a", "b"], rows).tolist(), "y": np.where(x > 0, "yes", "no").tolist()}
    pq.write_table(pa.table(data), table / "dataset.pq")
    (table / "task.xml").write_text("<oml:task xmlns:oml='u'><oml:target_feature>y</oml:target_feature></oml:task>")
    lines = [f"{'TEST' if row % 4 == 0 else 'TRAIN'},{row},0,0" for row in range(rows)]
    head = "\n".join(f"@attribute {name} numeric" for name in ("type", "rowid", "repeat", "fold"))
    (table / "datasplits.arff").write_text(head + "\n@data\n" + "\n".join(lines))
    splits = quality.prepared(table, tmp_path / "cache")
    assert json.loads((splits / "fields.json").read_text()) == {"label": "y", "numeric": ["x"], "categorical": ["c"]}
    sizes = [pq.read_metadata(splits / f"{name}.parquet").num_rows for name in ("train", "val", "test")]
    assert sum(sizes) == rows
    assert sizes[2] == 100
    assert sizes[1] in (37, 38)
    train, val, test = (quality.read_split(splits, name) for name in ("train", "val", "test"))
    for fit in (quality.linear, partial(quality.trees, "lightgbm")):
        found = quality.scores(fit(train, val, 2, 0)(test), test[2])
        assert found["auroc"] > 0.99
        assert set(found) == set(quality.METRICS)
