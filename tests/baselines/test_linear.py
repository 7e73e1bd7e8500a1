from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import OneHotEncoder

from tabstep.baselines import linear
from tabstep.baselines.linear import fit_logistic_regression, fit_majority, fit_start
from tabstep.encoding.encoded_table import EncodedTable
from tabstep.models.linear import LinearModel
from tabstep.models.probabilities import probabilities
from tabstep.schema import Task

CARDINALITIES = (4, 3)


def make_table(task: Task, rows: int = 300) -> EncodedTable:
    rng = np.random.default_rng(0)
    x_num = rng.normal(size=(rows, 3)).astype(np.float32)
    x_cat = np.stack([rng.integers(0, size, rows) for size in CARDINALITIES], axis=1).astype(np.int32)
    score = x_num[:, 0] + (x_cat[:, 0] == 2) + rng.normal(0, 0.5, rows)
    y: np.ndarray = (
        np.digitize(score, [0.0, 1.0]).astype(np.int64) if task == "multiclass" else (score > 0).astype(np.int64)
    )
    if task == "multilabel":
        y = np.stack([score > 0, x_num[:, 1] > 0.5], axis=1).astype(np.float32)
    return EncodedTable(split="train", fingerprint="", x_num=x_num, x_cat=x_cat, y=y, rows_file=Path("rows.arrow"))


def predicted(model: LinearModel, table: EncodedTable, task: Task) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.from_numpy(table.x_num), torch.from_numpy(table.x_cat))
    return probabilities(logits, task).numpy()


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 3), ("multilabel", 2)])
def test_probabilities_are_those_of_scikit_learn(task: Task, outputs: int) -> None:
    table = make_table(task)
    model = fit_logistic_regression(table, task, cardinalities=CARDINALITIES, num_outputs=outputs)
    one_hot = OneHotEncoder(categories=[list(range(size)) for size in CARDINALITIES], sparse_output=False)
    x = np.hstack([table.x_num, one_hot.fit_transform(table.x_cat)])
    oracle = LogisticRegression(C=1.0, tol=1e-8, max_iter=1_000)
    expected = (OneVsRestClassifier(oracle) if task == "multilabel" else oracle).fit(x, table.y).predict_proba(x)
    if task == "binary":
        expected = expected[:, 1]
    assert np.abs(predicted(model, table, task) - expected).max() < 2e-4


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 3), ("multilabel", 2)])
def test_the_majority_gives_each_row_the_shares(task: Task, outputs: int) -> None:
    table = make_table(task)
    found = predicted(fit_majority(table, task, cardinalities=CARDINALITIES, num_outputs=outputs), table, task)
    shares = np.bincount(table.y) / table.num_rows if task == "multiclass" else table.y.mean(axis=0)
    assert found == pytest.approx(np.broadcast_to(shares, found.shape), abs=1e-6)


def test_without_columns_there_is_the_bias_alone() -> None:
    table = make_table("binary")
    bare = EncodedTable(
        split="train",
        fingerprint="",
        x_num=table.x_num[:, :0],
        x_cat=table.x_cat[:, :0],
        y=table.y,
        rows_file=table.rows_file,
    )
    model = fit_logistic_regression(bare, "binary", cardinalities=(), num_outputs=1)
    assert predicted(model, bare, "binary") == pytest.approx(np.full(300, table.y.mean()), abs=1e-4)


def test_a_long_table_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MAX_ROWS", 200)
    table = make_table("binary")
    part = fit_logistic_regression(table, "binary", cardinalities=CARDINALITIES, num_outputs=1)
    monkeypatch.setattr(linear, "MAX_ROWS", 300)
    whole = fit_logistic_regression(table, "binary", cardinalities=CARDINALITIES, num_outputs=1)
    difference = np.abs(predicted(part, table, "binary") - predicted(whole, table, "binary")).max()
    assert 1e-3 < difference < 0.3


def test_val_chooses_the_penalty_of_a_start() -> None:
    table, shape = make_table("binary"), {"cardinalities": CARDINALITIES, "num_outputs": 1}
    alone = fit_logistic_regression(table, "binary", **shape)
    # Of its own rows the weakest penalty is the best; of labels that nothing tells, the strongest.
    weak = fit_start(table, table, "binary", **shape)
    assert weak.numeric.detach().numpy() == pytest.approx(alone.numeric.detach().numpy(), abs=2e-3)
    chance = replace(table, y=np.random.default_rng(1).integers(0, 2, table.num_rows))
    strong = fit_start(chance, replace(chance, y=chance.y[::-1].copy()), "binary", **shape)
    free = fit_logistic_regression(chance, "binary", **shape)
    assert strong.numeric.norm() < 0.9 * free.numeric.norm()


def test_weights_are_those_of_scikit_learn() -> None:
    table = replace(make_table("binary"), weight=np.arange(300, dtype=np.float32) % 3)
    model = fit_logistic_regression(table, "binary", cardinalities=CARDINALITIES, num_outputs=1)
    one_hot = OneHotEncoder(categories=[list(range(size)) for size in CARDINALITIES], sparse_output=False)
    x = np.hstack([table.x_num, one_hot.fit_transform(table.x_cat)])
    expected = LogisticRegression(C=1.0, tol=1e-8, max_iter=1_000).fit(x, table.y, sample_weight=table.weight)
    assert np.abs(predicted(model, table, "binary") - expected.predict_proba(x)[:, 1]).max() < 2e-4
    majority = fit_majority(table, "binary", cardinalities=CARDINALITIES, num_outputs=1)
    assert predicted(majority, table, "binary")[0] == pytest.approx(np.average(table.y, weights=table.weight), abs=1e-6)
