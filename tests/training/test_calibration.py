from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss
from torch import Tensor

from tabstep.models.probabilities import probabilities
from tabstep.schema import Task
from tabstep.training.calibration import SPREAD, CalibratedLogLoss, CalibrationScores, fit_temperature


def overconfident(rows: int, outputs: int, *, by: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Labels drawn from softmax(honest), and logits that are ``by`` times too far from 0."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(rows, outputs))
    probs = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    y = np.array([rng.choice(outputs, p=row) for row in probs])
    return torch.from_numpy(by * honest).float(), torch.from_numpy(y)


def test_the_temperature_equals_scipys_minimum() -> None:
    logits, y = overconfident(400, 3, by=3.0)

    def cost(log_temperature: float) -> float:
        probs = (logits.double() / math.exp(log_temperature)).softmax(dim=1)
        return len(y) * float(log_loss(y, probs.numpy())) + 0.5 * (log_temperature / SPREAD) ** 2

    expected = math.exp(minimize_scalar(cost, bounds=(-2, 2), method="bounded").x)
    (found,) = fit_temperature(logits, y, "multiclass")
    assert found == pytest.approx(expected, rel=1e-3)
    assert found == pytest.approx(3.0, rel=0.15)


def test_binary_logits_get_the_temperature_of_their_two_classes() -> None:
    logits, y = overconfident(300, 2, by=2.0)
    (two,) = fit_temperature(logits, y, "multiclass")
    (one,) = fit_temperature(logits[:, 1:] - logits[:, :1], y, "binary")
    assert one == pytest.approx(two, rel=1e-3)


def test_each_label_has_its_own() -> None:
    parts = [overconfident(300, 2, by=by, seed=seed) for seed, by in enumerate((0.5, 4.0))]
    columns = [logits[:, 1:] - logits[:, :1] for logits, _ in parts]
    alone = [fit_temperature(z, y, "binary")[0] for z, (_, y) in zip(columns, parts, strict=True)]
    together = fit_temperature(
        torch.cat(columns, dim=1), torch.stack([y for _, y in parts], dim=1).float(), "multilabel"
    )
    assert together == pytest.approx(alone, rel=1e-4)
    assert together[0] < 0.7
    assert together[1] > 3.0


def test_few_rows_that_are_all_right_move_it_little() -> None:
    logits, y = torch.tensor([[2.0], [2.0], [-2.0], [-2.0]] * 6), torch.tensor([1, 1, 0, 0] * 6)
    (found,) = fit_temperature(logits, y, "binary")
    assert 0.4 < found < 0.7


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_nothing_to_fit_on_is_no_change(task: Task) -> None:
    outputs = 1 if task == "binary" else 2
    y = torch.zeros(2, dtype=torch.long) if task == "binary" else torch.zeros(2, 2)
    assert fit_temperature(torch.full((2, outputs), math.nan), y, task) == (1.0,) * outputs
    assert fit_temperature(torch.zeros(0, outputs), y[:0], task) == (1.0,) * outputs


def test_scores_by_hand_and_in_pieces() -> None:
    rows = [[0.70, 0.20, 0.10], [0.68, 0.22, 0.10], [0.10, 0.50, 0.40], [0.30, 0.30, 0.40]]
    probs = torch.tensor(rows)
    y = torch.tensor([0, 1, 1, 0])
    scores = CalibrationScores("multiclass", bins=10)
    scores.update(probs[:1], y[:1])
    scores.update(probs[1:], y[1:])
    found = {key: value.item() for key, value in scores.compute().items()}
    # bins of the chosen class: 0.68 alone (wrong), 0.70 alone (right), 0.50 alone (right), 0.40 alone (wrong)
    assert found["ece"] == pytest.approx((0.68 + 0.30 + 0.50 + 0.40) / 4, abs=1e-6)
    assert found["log_loss"] == pytest.approx(log_loss(y.numpy(), rows, labels=[0, 1, 2]), abs=1e-6)


def test_labels_are_counted_one_by_one() -> None:
    scores = CalibrationScores("multilabel", bins=2)
    scores.update(torch.tensor([[0.9, 0.1], [0.7, 0.3]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    assert scores.compute()["ece"].item() == pytest.approx((abs(1.6 - 1) + abs(0.4 - 1)) / 4)


def test_nan_and_no_row_are_nan() -> None:
    scores = CalibrationScores("binary")
    scores.update(torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert math.isnan(scores.compute()["ece"])
    scores.update(torch.tensor([0.5, math.nan]), torch.tensor([0, 1]))
    assert math.isnan(scores.compute()["ece"])


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_an_epoch_is_judged_by_the_log_loss_after_its_temperature(task: Task) -> None:
    logits, y = overconfident(600, 2, by=2.5)
    if task != "multiclass":
        logits = logits[:, 1:] - logits[:, :1]
    if task == "multilabel":
        logits, y = torch.cat([logits, 0.2 * logits], dim=1), torch.stack([y, y], dim=1).float()
    temperatures = torch.tensor(fit_temperature(logits, y, task), dtype=torch.float64)
    scores, expected = CalibratedLogLoss(task, logits.shape[1]), CalibrationScores(task)
    probs = probabilities(logits, task)
    for part in (slice(250), slice(250, 600)):
        scores.update(probs[part], y[part])
    expected.update(probabilities(logits / temperatures, task), y)
    plain = CalibrationScores(task)
    plain.update(probs, y)
    found, best = scores.compute()["calibrated_log_loss"].item(), expected.compute()["log_loss"].item()
    assert found == pytest.approx(best, abs=1e-3)  # the temperatures it tries lie 13 % apart
    assert plain.compute()["log_loss"].item() > best + 0.02


def test_without_rows_or_with_a_nan_an_epoch_has_no_figure() -> None:
    scores = CalibratedLogLoss("binary", 1)
    scores.update(torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert scores.compute()["calibrated_log_loss"].isnan()
    scores.update(torch.tensor([0.5, math.nan]), torch.tensor([0, 1]))
    assert scores.compute()["calibrated_log_loss"].isnan()


def test_a_weight_is_a_ratio_and_a_row_of_weight_zero_is_none() -> None:
    logits, y = overconfident(300, 3, by=2.0)
    weight = torch.cat([torch.full((200,), 5.0), torch.zeros(100)])
    (found,) = fit_temperature(logits, y, "multiclass", weight)
    (alone,) = fit_temperature(logits[:200], y[:200], "multiclass")
    assert found == pytest.approx(alone, rel=2e-2)  # but for the prior, which 300 rows outweigh more than 200


def test_scores_of_weights_are_those_of_repeated_rows() -> None:
    logits, y = overconfident(100, 3, by=2.0)
    probs, repeats = logits.softmax(dim=1), torch.arange(100) % 3
    weighted, repeated = CalibrationScores("multiclass"), CalibrationScores("multiclass")
    weighted.update(probs, y, repeats.float())
    repeated.update(probs.repeat_interleave(repeats, dim=0), y.repeat_interleave(repeats))
    for name, value in repeated.compute().items():
        assert weighted.compute()[name].item() == pytest.approx(value.item())
