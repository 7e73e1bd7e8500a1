from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import TargetEncoder

from tabstep.encoding.encoded_table import encode_table
from tabstep.encoding.encoder import Encoder, EncoderOptions
from tabstep.encoding.out_of_fold import ALPHA, row_folds
from tabstep.encoding.statistics_fit import CodeSample, FoldSums
from tabstep.encoding.target_statistics import TargetStatistic
from tabstep.schema import Schema
from tabstep.tables.source import open_source

OPTIONS = EncoderOptions(scaling="quantile", max_categories=10_000, min_frequency=1)


def sampled(codes: np.ndarray, targets: np.ndarray, *, cuts: tuple[int, ...] = ()) -> CodeSample:
    sample = CodeSample(num_columns=codes.shape[1], num_outputs=targets.shape[1], num_rows=len(codes))
    edges = [0, *cuts, len(codes)]
    for start, stop in pairwise(edges):
        sample.add(codes[start:stop], targets[start:stop], start)
    return sample


def pairs(rows: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of which only the pair tells the label."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(3, 3 + size, (rows, 2))
    rate = np.where(np.random.default_rng(99).random((size + 3, size + 3)) < 0.5, 0.15, 0.85)
    return codes, (rng.random(rows) < rate[codes[:, 0], codes[:, 1]]).astype(float)[:, None]


def test_rates_of_pairs_are_found_and_equal_hand_arithmetic() -> None:
    codes, targets = pairs(8_000, 20)
    (statistic,) = sampled(codes, targets).fit([23, 23])
    assert statistic.columns == (0, 1)
    assert statistic.gain > 0.2
    first, second = codes[0]
    same = (codes == codes[0]).all(axis=1)
    place = statistic.keys.index(int(first * 23 + second))
    assert statistic.counts[place] == same.sum()
    assert statistic.sums[0][place] == targets[same].sum()
    rate = (targets[same].sum() + ALPHA * statistic.priors[0]) / (same.sum() + ALPHA)
    logit, count = statistic.inputs(codes[:1])[0] * statistic.scales + statistic.centers
    assert logit == pytest.approx(np.log(rate / (1 - rate)))
    assert count == pytest.approx(np.log1p(same.sum()))
    prior, nothing = statistic.inputs(np.array([[1, 1]]))[0]
    logit = np.log(statistic.priors[0] / (1 - statistic.priors[0]))
    assert prior * statistic.scales[0] + statistic.centers[0] == pytest.approx(logit)
    assert nothing == -6  # no row: bounded


def test_rates_of_single_columns_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(3, 153, (9_000, 1))
    targets = (rng.random(9_000) < rng.beta(1, 1, 160)[codes[:, 0]]).astype(float)[:, None]
    (statistic,) = sampled(codes, targets).fit([153])
    oracle = TargetEncoder(smooth=ALPHA, target_type="continuous").fit(codes, targets[:, 0])
    logits = statistic.inputs(codes)[:, 0] * statistic.scales[0] + statistic.centers[0]
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), oracle.transform(codes)[:, 0], atol=1e-4)


def test_a_row_of_train_gets_the_rate_of_other_folds() -> None:
    codes, targets = pairs(4_000, 12)
    sample = sampled(codes, targets)
    (statistic,) = sample.fit([15, 15])
    sums = FoldSums([statistic], sample)
    for start in range(0, 4_000, 999):
        sums.add(codes[start : start + 999], targets[start : start + 999], start)
    (inputs,) = sums.inputs(codes[1_000:1_100], 1_000)
    folds = row_folds(0, 4_000)
    others = (codes == codes[1_000]).all(axis=1) & (folds != folds[1_000])
    rate = (targets[others].sum() + ALPHA * statistic.priors[0]) / (others.sum() + ALPHA)
    logit, count = inputs[0] * statistic.scales + statistic.centers
    assert logit == pytest.approx(np.log(rate / (1 - rate)))
    assert count == pytest.approx(np.log1p(others.sum() / 0.8))
    changed = targets.copy()
    changed[1_000] = 1 - changed[1_000]  # the row's own label changes nothing
    again = FoldSums([statistic], sample)
    again.add(codes, changed, 0)
    assert np.array_equal(again.inputs(codes[1_000:1_001], 1_000)[0], inputs[:1])


def test_neither_noise_nor_what_single_columns_say_makes_a_pair() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(3, 23, (8_000, 3))
    noise = (rng.random(8_000) < 0.3).astype(float)[:, None]
    assert sampled(codes, noise).fit([23] * 3) == ()
    additive = (rng.random(8_000) < (codes[:, 0] + codes[:, 1]) / 50).astype(float)[:, None]
    assert sampled(codes, additive).fit([23] * 3) == ()


@pytest.mark.parametrize(("rows", "size", "found"), [(8_000, 3, 0), (8_000, 6, 1), (200_000, 15, 0), (100_000, 15, 1)])
def test_pairs_of_many_rows_each_are_left_to_the_network(rows: int, size: int, found: int) -> None:
    """They are 889, 222, 889 and 444 rows: the judge counts those of train, of which it looks at 100,000."""
    codes, targets = pairs(rows, size)
    assert len(sampled(codes, targets).fit([size + 3] * 2)) == found


def test_triples_where_they_pay() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(3, 9, (12_000, 4))
    parity = (codes[:, :2].sum(axis=1) % 2) * 0.25 + (codes[:, :3].sum(axis=1) % 2) * 0.5
    targets = (rng.random(12_000) < 0.1 + parity).astype(float)[:, None]
    # a triple is built of columns that are in some pair: the third one has one with the fourth
    targets[:, 0] = np.where((codes[:, 2] + codes[:, 3]) % 6 == 0, 1.0, targets[:, 0])
    found = [statistic.columns for statistic in sampled(codes, targets).fit([9] * 4)]
    assert (0, 1) in found
    assert (0, 1, 2) in found


@pytest.mark.parametrize("cuts", [(), (1,), (100, 101, 3_000)])
def test_the_result_depends_neither_on_batches_nor_on_json(cuts: tuple[int, ...]) -> None:
    codes, targets = pairs(4_000, 12)
    fitted = sampled(codes, targets, cuts=cuts).fit([15, 15])
    assert fitted == sampled(codes, targets).fit([15, 15])
    assert [TargetStatistic.from_dict(json.loads(json.dumps(each.to_dict()))) for each in fitted] == list(fitted)


def split(directory: Path, table: pa.Table, rows: int) -> dict[str, str]:
    pq.write_table(table.slice(0, rows), directory / "train.parquet")
    pq.write_table(table.slice(rows), directory / "val.parquet")
    return {"train": str(directory / "train.parquet"), "val": str(directory / "val.parquet")}


def test_unique_ids_tell_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = rng.permutation(12_000)
    table = pa.table({"id": [f"u{value}" for value in ids], "twice": ids // 2, "y": rng.random(12_000) < 0.4})
    files = split(tmp_path, table, 6_000)
    source = open_source(files["train"], split="train")
    schema = Schema(label=("y",), numeric=("twice",), categorical=("id",))
    assert Encoder.fit(source, schema, options=OPTIONS).statistics == ()


def test_an_encoded_train_split_has_the_rates_of_other_folds(tmp_path: Path) -> None:
    codes, targets = pairs(9_000, 30)
    table = pa.table({"a": codes[:, 0].astype(str), "b": codes[:, 1].astype(str), "y": targets[:, 0].astype(int)})
    files = split(tmp_path, table, 6_000)
    train, val = (open_source(files[name], split=name) for name in ("train", "val"))
    encoder = Encoder.fit(train, Schema(label=("y",), numeric=(), categorical=("a", "b")), options=OPTIONS)
    assert encoder.input_names[-2:] == ("rate of 1 by a and b", "count of a and b")
    place = encoder.input_names.index("rate of 1 by a and b")
    own = encode_table(train, encoder, tmp_path / "cache", fitted_on=True)
    leaking = encode_table(train, encoder, tmp_path / "cache")
    other = encode_table(val, encoder, tmp_path / "cache")
    honest, told, unseen = (roc_auc_score(part.y, part.x_num[:, place]) for part in (own, leaking, other))
    assert honest == pytest.approx(unseen, abs=0.03)
    assert told > honest + 0.02
    assert encode_table(train, encoder, tmp_path / "cache", fitted_on=True).fingerprint == own.fingerprint
    (batch,) = val.batches(["a", "b"])
    assert np.array_equal(Encoder.from_json(encoder.to_json()).transform(batch)[0], other.x_num)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_other_tasks_have_a_rate_for_each_output(task: str, tmp_path: Path) -> None:
    codes, targets = pairs(6_000, 15)
    flag = targets[:, 0].astype(int)
    other = np.random.default_rng(1).integers(0, 2, 6_000)
    labels = {"y": flag, "z": other} if task == "multilabel" else {"y": flag + (flag & other)}
    table = pa.table({"a": codes[:, 0].astype(str), "b": codes[:, 1].astype(str), **labels})
    pq.write_table(table, tmp_path / "train.parquet")
    schema = Schema(label=tuple(labels), numeric=(), categorical=("a", "b"))
    encoder = Encoder.fit(open_source(str(tmp_path / "train.parquet"), split="train"), schema, options=OPTIONS)
    assert encoder.task == task
    assert [statistic.columns for statistic in encoder.statistics] == [(0, 1)]
    assert encoder.statistics[0].width == encoder.num_classes + 1
    x_num, _ = encoder.transform(table.select(["a", "b"]).to_batches()[0])
    assert x_num.shape == (6_000, encoder.num_classes + 1)
    assert np.isfinite(x_num).all()


def test_statistics_can_be_left_out(tmp_path: Path) -> None:
    codes, targets = pairs(6_000, 15)
    table = pa.table({"a": codes[:, 0].astype(str), "b": codes[:, 1].astype(str), "y": targets[:, 0].astype(int)})
    pq.write_table(table, tmp_path / "train.parquet")
    schema = Schema(label=("y",), numeric=(), categorical=("a", "b"))
    options = EncoderOptions(scaling="quantile", max_categories=10_000, min_frequency=1, statistics=False)
    encoder = Encoder.fit(open_source(str(tmp_path / "train.parquet"), split="train"), schema, options=options)
    assert (encoder.statistics, encoder.num_numeric) == ((), 0)
