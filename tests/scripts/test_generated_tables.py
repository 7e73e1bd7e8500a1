from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated_tables", ROOT / "scripts" / "generated_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["smooth", "jumps", "calendar", "codes", "pairs"])
def test_a_table_says_what_is_reachable(tables: ModuleType, tmp_path: Path, name: str) -> None:
    reachable = tables.write(name, tmp_path, rows=4_000, seed=1)
    fields = json.loads((tmp_path / "fields.json").read_text())
    test = pq.read_table(tmp_path / "test.parquet")
    assert {*fields["numeric"], *fields["categorical"], "y"} == {*test.column_names}
    assert [pq.read_metadata(tmp_path / f"{split}.parquet").num_rows for split in ("train", "val", "test")] == [
        4_000,
        1_000,
        1_000,
    ]
    assert fields["reachable"] == reachable
    assert 0.5 < reachable["auroc"] < 0.95


def test_pairs_are_told_by_both_columns_alone(tables: ModuleType, tmp_path: Path) -> None:
    tables.write("pairs", tmp_path, rows=40_000, seed=0)
    train, test = (pq.read_table(tmp_path / f"{split}.parquet").to_pandas() for split in ("train", "test"))
    y, prior = test["y"].to_numpy(), train["y"].mean()

    def reached(keys: list[str]) -> float:
        rates = train.groupby(keys)["y"].agg(lambda found: (found.sum() + 4 * prior) / (len(found) + 4))
        joined = test[keys].merge(rates.rename("rate").reset_index(), on=keys, how="left")
        return float(roc_auc_score(y, joined["rate"].fillna(prior)))

    reachable = json.loads((tmp_path / "fields.json").read_text())["reachable"]["auroc"]
    assert reached(["a", "b"]) == pytest.approx(reachable, abs=0.003)
    assert max(reached(["a"]), reached(["b"])) < reachable - 0.03


def test_posterior_means_by_hand(tables: ModuleType) -> None:
    # a prior of 1 and 3: three rows of cell 0 with two positives, none of cell 1, one negative of cell 2
    found = tables.posterior_means(np.array([0, 0, 0, 2]), np.array([1, 1, 0, 0]))
    assert found.tolist() == pytest.approx([3 / 7, 1 / 4, 1 / 5])
