"""Curves against scikit-learn's, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from tabstep.analysis.curves import confusion, curve, decisions, reliability, thinned


@pytest.fixture(scope="module", params=[0, 1, 2])
def binary(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(request.param)
    truth = rng.random(400) < 0.3
    scores = np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0.0, 1.0)
    return (scores.round(request.param) if request.param else scores), truth


def test_roc_is_scikit_learns(binary: tuple[np.ndarray, np.ndarray]) -> None:
    fpr, tpr, thresholds = roc_curve(binary[1], binary[0], drop_intermediate=False)
    found = curve(*binary)
    np.testing.assert_allclose(found.fpr, fpr)
    np.testing.assert_allclose(found.tpr, tpr)
    np.testing.assert_allclose(found.thresholds, thresholds)


def test_precision_and_recall_are_scikit_learns(binary: tuple[np.ndarray, np.ndarray]) -> None:
    precision, recall, _ = precision_recall_curve(binary[1], binary[0])
    found = curve(*binary)
    np.testing.assert_allclose(found.precision[::-1], precision)
    np.testing.assert_allclose(found.tpr[::-1], recall)


def test_reliability_is_scikit_learns(binary: tuple[np.ndarray, np.ndarray]) -> None:
    share, predicted = calibration_curve(binary[1], binary[0], n_bins=10)
    found = reliability(*binary)
    np.testing.assert_allclose(found.share, share)
    np.testing.assert_allclose(found.predicted, predicted)
    assert found.rows.sum() == len(binary[0])


def test_confusion_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    y, predicted = rng.integers(0, 4, 100), rng.integers(0, 3, 100)
    np.testing.assert_array_equal(confusion(y, predicted, 4), confusion_matrix(y, predicted, labels=range(4)))


def test_decision_goal_count_as_a_loop_does(binary: tuple[np.ndarray, np.ndarray]) -> None:
    scores, truth = binary
    cuts = [0.0, 0.3, 0.5, 1.0]
    found = decisions(scores, truth, cuts)
    for place, cut in enumerate(cuts):
        tn, fp, fn, tp = confusion_matrix(truth, scores > cut, labels=[False, True]).ravel()
        assert (found.tn[place], found.fp[place], found.fn[place], found.tp[place]) == (tn, fp, fn, tp)
        assert found.costs(2.0, 5.0)[place] == 2 * fp + 5 * fn


def test_a_curve_of_one_class_has_no_gap() -> None:
    found = curve(np.array([0.2, 0.7]), np.array([True, True]))
    assert found.fpr.tolist() == [0, 0, 0]
    assert found.tpr.tolist() == [0, 0.5, 1]


def test_thinned_line_stays_close_to_all_of_it() -> None:
    x = np.linspace(0, 1, 5000)
    some_x, some_y = thinned(x, x**4, 100)
    assert len(some_x) <= 100
    assert (some_x[0], some_x[-1]) == (0, 1)
    assert np.abs(np.interp(x, some_x, some_y) - x**4).max() < 1e-3
