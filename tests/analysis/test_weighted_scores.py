"""Scores under weights against scikit-learn's, and intervals that hold what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss, roc_auc_score

from tabstep.analysis.weighted_scores import SCORES, differences, intervals, score, scores
from tabstep.schema import Task
from tabstep.training.metrics import build_metrics


def sample(task: Task, rows: int = 300, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    if task == "multiclass":
        y = rng.integers(0, 3, rows)
        logits = rng.normal(size=(rows, 3)) + 1.5 * np.eye(3)[y]
        return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32), y
    shape = (rows,) if task == "binary" else (rows, 2)
    truth = rng.random(shape) < 0.4
    positive = (1 / (1 + np.exp(-(rng.normal(size=shape) + 1.5 * truth - 0.6)))).astype(np.float32).round(2)
    if task == "binary":
        return np.stack([1 - positive, positive], axis=1), truth.astype(np.int64)
    return positive, truth.astype(np.float32)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_scores_are_those_of_a_run(task: Task) -> None:
    probs, y = sample(task)
    outputs = 1 if task == "binary" else probs.shape[1]
    metrics = build_metrics(task, outputs)
    metrics.update(torch.from_numpy(probs[:, 1].copy() if task == "binary" else probs), torch.from_numpy(y))
    expected = {name: float(value) for name, value in metrics.compute().items()}
    found = scores(probs, y, task, np.ones((1, len(y))))
    assert {name: pytest.approx(float(values[0])) for name, values in found.items()} == {
        name: expected[name] for name in SCORES
    }
    assert score("log_loss", probs, y, task) == -found["log_loss"][0]


def test_weights_are_scikit_learns() -> None:
    probs, y = sample("binary")
    weights = np.random.default_rng(1).integers(0, 4, (2, len(y))).astype(np.float64)
    found = scores(probs, y, "binary", weights)
    for place, weight in enumerate(weights):
        positive = probs[:, 1]
        assert found["auroc"][place] == pytest.approx(roc_auc_score(y, positive, sample_weight=weight))
        assert found["average_precision"][place] == pytest.approx(
            average_precision_score(y, positive, sample_weight=weight)
        )
        assert found["log_loss"][place] == pytest.approx(log_loss(y, positive, sample_weight=weight), rel=1e-5)
        assert found["accuracy"][place] == pytest.approx(accuracy_score(y, positive > 0.5, sample_weight=weight))
        assert found["f1"][place] == pytest.approx(f1_score(y, positive > 0.5, sample_weight=weight))


@pytest.mark.parametrize("rows", [20_000, 100])
def test_intervals_hold_the_truth_in_95_of_100_samples(rows: int) -> None:
    """Rows are classified rightly with probability 0.8; ``rows=100`` looks at the floor of the sample's size."""
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, 300 if rows == 20_000 else 2_500)
        right = rng.random(len(y)) < 0.8
        positive = np.where(right == (y == 1), 0.9, 0.1)
        found = intervals(np.stack([1 - positive, positive], axis=1), y, "binary", repeats=60, rows=rows)
        held += found["accuracy"].low <= 0.8 <= found["accuracy"].high
    assert 0.87 < held / 100 <= 0.99


def test_an_interval_of_one_class_is_not_a_number() -> None:
    probs, y = sample("binary", 50)
    found = intervals(probs, np.zeros_like(y), "binary", repeats=10)
    assert np.isnan([found["auroc"].value, found["auroc"].low]).all()
    assert found["accuracy"].low <= found["accuracy"].value <= found["accuracy"].high


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_differences_of_a_run_from_itself_and_from_a_worse_one(task: Task) -> None:
    probs, y = sample(task, 600)
    same = differences(probs, probs, y, task, repeats=20)
    assert all((span.value, span.low, span.high) == (0.0, 0.0, 0.0) for span in same.values())
    noise = np.random.default_rng(3).random(probs.shape, np.float32)
    worse = 0.7 * probs + 0.3 * (noise if task == "multilabel" else noise / noise.sum(axis=1, keepdims=True))
    found, ones = differences(probs, worse, y, task), np.ones((1, len(y)))
    for name, span in found.items():
        assert span.value == pytest.approx((scores(worse, y, task, ones)[name] - scores(probs, y, task, ones)[name])[0])
        assert span.low <= span.value <= span.high
    assert found["auroc"].high < 0 < found["log_loss"].low


def test_differences_hold_the_truth_in_95_of_100_samples() -> None:
    """Of two models, right in 80 and 85 of 100 rows, and together so in 75: the difference is 0.05.

    Its standard error is that of paired rows, which is smaller than the two together would have.
    """
    held, widths = 0, []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, 400)
        case = rng.choice(4, 400, p=[0.75, 0.05, 0.10, 0.10])  # both right, the first, the second, none
        pair = []
        for right in (case <= 1, (case == 0) | (case == 2)):
            positive = np.where(right == (y == 1), 0.9, 0.1)
            pair.append(np.stack([1 - positive, positive], axis=1))
        span = differences(pair[0], pair[1], y, "binary", repeats=60)["accuracy"]
        held += span.low <= 0.05 <= span.high
        widths.append(span.high - span.low)
    assert 0.87 < held / 100 <= 0.99
    # sqrt((.05 + .10 - .05 ** 2) / 400), two-sided
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.sqrt(0.1475 / 400), rel=0.1)
