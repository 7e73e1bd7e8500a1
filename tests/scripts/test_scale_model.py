"""The formulas of the model of many machines, by hand."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[2] / "scripts" / "scale_model.py"


@pytest.fixture(scope="module")
def model() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale_model", FILE)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["scale_model"] = loaded  # where dataclasses look for their module
    spec.loader.exec_module(loaded)
    return loaded


def test_a_machine_without_noise_takes_its_own_time(model: ModuleType) -> None:
    quiet = model.Cluster(machines=1, cores=8, rows_per_core=50_000, rows_per_rank=4_000, noise=0, straggling=0)
    assert model.step_seconds(quiet) == pytest.approx(4_000 / 400_000)


def test_a_ring_of_four_sends_three_quarters_twice_in_six_turns(model: ModuleType) -> None:
    cluster = model.Cluster(machines=4, parameters=1_000_000, bytes_per_second=1e9, latency=1e-4)
    assert model.ring_seconds(cluster) == pytest.approx(6 * (1e6 / 1e9 + 1e-4))  # 4 MB in quarters of 1 MB
    assert model.ring_seconds(replace(cluster, machines=1)) == 0


@pytest.mark.parametrize("machines", [1, 16, 256])
def test_a_step_waits_for_one_straggler_among_many(model: ModuleType, machines: int) -> None:
    cluster = model.Cluster(machines=machines, noise=0, straggling=0.01, slower=5, parameters=0, latency=0)
    alone = cluster.rows_per_rank / cluster.rows_per_machine
    some = 1 - 0.99**machines  # the chance that one of them is slow
    assert model.step_seconds(cluster) / alone == pytest.approx(1 + 4 * some, rel=0.03)


def test_equal_shards_fill_machines_alike_and_unequal_ones_do_not(model: ModuleType) -> None:
    equal = model.Cluster(machines=16, shards=64, skew=0)
    assert model.fullest_share(equal) == 1
    assert model.fullest_share(replace(equal, machines=48)) == pytest.approx(2 / (64 / 48))  # two beside one
    assert model.fullest_share(replace(equal, machines=64, skew=1)) > 2
    assert model.fullest_share(replace(equal, skew=1)) < model.fullest_share(replace(equal, machines=64, skew=1))


def test_a_row_of_the_table_by_hand(model: ModuleType) -> None:
    base = model.Cluster(machines=1, noise=0, straggling=0, parameters=0, latency=0, skew=0)
    rows = list(model.table_rows(1.44e9, base, 2.0, preparing=400_000.0))
    # 1.44e9 rows at 400,000 a second are an hour, of preparing and of training: two hours at $2, on 16 machines a 16th
    assert rows[0] == ("1 billion", "1", "0.40 M", "1.00", "1.00 h", "1.00 h", "$4")
    assert rows[2] == ("1 billion", "16", "6.40 M", "1.00", "0.06 h", "0.06 h", "$4")
