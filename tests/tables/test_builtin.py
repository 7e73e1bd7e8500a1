from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tabstep.tables import builtin
from tabstep.tables.builtin import ID, LABEL, generate, write_builtin_table
from tabstep.tables.column_types import kind_of, to_float64

CATEGORICAL = ["plan", "region", "device", "campaign", "store"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("builtin")
    write_builtin_table(path)
    return path


def load(root: Path, split: str) -> pa.Table:
    return pq.read_table(root / split / f"{split}.parquet")


def test_the_layout_and_the_sizes(root: Path) -> None:
    assert [load(root, split).num_rows for split in ("train", "val", "test")] == [25_600, 6_400, 8_000]
    truth = json.loads((root / "truth.json").read_text(encoding="utf-8"))
    assert truth["made_of"] == {"version": 1, "rows": 40_000, "seed": 0}


def test_it_is_hard_in_the_ways_real_tables_are(root: Path) -> None:
    train, test = load(root, "train"), load(root, "test")
    assert pc.mean(pc.equal(train[LABEL], "yes")).as_py() == pytest.approx(0.15, abs=0.01)
    assert train["income"].null_count > 0.1 * train.num_rows
    distinct = {name: pc.count_distinct(train[name]).as_py() for name in CATEGORICAL}
    assert distinct["plan"] == 3
    assert 1500 < distinct["store"] <= 2000
    for name in ("device", "campaign", "store"):
        unseen = pc.invert(pc.is_in(test[name], value_set=train[name].combine_chunks()))
        assert 0.02 < pc.mean(unseen).as_py() < 0.06
    balance = train["balance"].to_numpy()
    assert np.abs(balance).max() > 50 * np.median(np.abs(balance))
    kinds = {kind_of(field.type) for field in train.schema if field.name not in (ID, LABEL)}
    assert kinds == {"numeric", "categorical"}


def test_the_same_seed_gives_the_same_table(root: Path) -> None:
    again, probability = generate(40_000, 0)
    assert again.slice(0, 25_600).cast(load(root, "train").schema).equals(load(root, "train"))
    assert probability.mean() == pytest.approx(0.15, abs=1e-6)
    assert not generate(1000, 1)[0].equals(generate(1000, 2)[0])


def test_what_is_there_is_kept_and_a_damaged_one_made_again(tmp_path: Path) -> None:
    first = write_builtin_table(tmp_path, rows=1000, seed=1)
    file = tmp_path / "train" / "train.parquet"
    time = file.stat().st_mtime_ns
    assert write_builtin_table(tmp_path, rows=1000, seed=1) == first
    assert file.stat().st_mtime_ns == time
    file.unlink()
    assert write_builtin_table(tmp_path, rows=1000, seed=1) == first
    assert file.exists()
    write_builtin_table(tmp_path, rows=2000, seed=1)
    assert pq.read_metadata(file).num_rows == 1280


def features(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    table = load(root, split)
    names = [name for name in table.column_names if name not in (ID, LABEL, *CATEGORICAL[2:])]
    columns = [table[name].combine_chunks() for name in names]
    plain = [pc.utf8_slice_codeunits(c, -4).cast(pa.int64()) if pa.types.is_string(c.type) else c for c in columns]
    return np.stack([to_float64(c) for c in plain], axis=1), table[LABEL].to_numpy(zero_copy_only=False) == "yes"


def test_a_linear_model_is_far_from_the_best_score_and_boosting_is_near(root: Path) -> None:
    (x_train, y_train), (x_test, y_test) = features(root, "train"), features(root, "test")
    best = write_builtin_table(root).best_auroc
    boosting = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.2, max_leaf_nodes=15, random_state=0)
    with threadpool_limits(1):  # OpenMP's threads spin on a busy machine
        boosted = roc_auc_score(y_test, boosting.fit(x_train, y_train).predict_proba(x_test)[:, 1])
    scaler = StandardScaler().fit(np.nan_to_num(x_train))
    linear = LogisticRegression().fit(scaler.transform(np.nan_to_num(x_train)), y_train)
    straight = roc_auc_score(y_test, linear.predict_proba(scaler.transform(np.nan_to_num(x_test)))[:, 1])
    assert best - 0.06 < boosted < best
    assert straight < best - 0.15


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"made_of": 3}', b"\xff"])
@pytest.mark.parametrize("name", ["truth.json", "val/val.parquet"])
def test_a_table_that_was_damaged_is_made_again(tmp_path: Path, name: str, content: bytes) -> None:
    first = write_builtin_table(tmp_path, rows=200)
    before = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content)
    assert write_builtin_table(tmp_path, rows=200) == first
    assert (tmp_path / name).read_bytes() == before


def test_of_several_that_begin_together_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the others would replace what the first one reads already."""
    made, together = [], Barrier(4)

    def generated(rows: int, seed: int) -> Any:
        made.append(rows)
        return generate(rows, seed)

    def begin(_: int) -> str:
        together.wait()
        return write_builtin_table(tmp_path, rows=500).path

    monkeypatch.setattr(builtin, "generate", generated)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(begin, range(4))) == {str(tmp_path)}
    assert made == [500]
