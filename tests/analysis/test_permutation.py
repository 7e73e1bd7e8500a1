"""Permutation importance and partial dependence of a model of scikit-learn, beside scikit-learn's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.inspection import partial_dependence as sklearn_dependence
from sklearn.inspection import permutation_importance as sklearn_importance
from sklearn.linear_model import LogisticRegression

from tabstep.analysis.dependence import Dependence, partial_dependence
from tabstep.analysis.permutation import permutation_importance
from tabstep.analysis.weighted_scores import score

NAMES = ["strong", "weak", "none"]


@pytest.fixture(scope="module")
def fitted() -> tuple[LogisticRegression, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    y = (2 * x[:, 0] + 0.5 * x[:, 1] + rng.normal(size=500) > 0).astype(np.int64)
    return LogisticRegression().fit(x, y), x, y


def as_batch(x: np.ndarray[Any, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({name: x[:, place] for place, name in enumerate(NAMES)})


def predict(model: LogisticRegression) -> Any:
    return lambda batch: model.predict_proba(np.stack([batch.column(name).to_numpy() for name in NAMES], axis=1))


def test_importance_is_scikit_learns(fitted: tuple[LogisticRegression, Any, Any]) -> None:
    model, x, y = fitted
    expected = sklearn_importance(model, x, y, scoring="roc_auc", n_repeats=50, random_state=0)
    found = permutation_importance(
        predict(model), as_batch(x), lambda probs: score("auroc", probs, y, "binary"), NAMES, repeats=50
    )
    assert [importance.column for importance in found][:2] == ["strong", "weak"]
    for importance in found:
        place = NAMES.index(importance.column)
        assert importance.mean == pytest.approx(expected.importances_mean[place], abs=0.004)
        assert importance.std == pytest.approx(expected.importances_std[place], rel=0.35)


def test_columns_without_time_are_left_out(fitted: tuple[LogisticRegression, Any, Any]) -> None:
    model, x, y = fitted
    answers = iter([True, False])
    found = permutation_importance(
        predict(model),
        as_batch(x),
        lambda probs: score("auroc", probs, y, "binary"),
        NAMES,
        repeats=1,
        more=lambda: next(answers),
    )
    assert [importance.column for importance in found] == ["strong"]


def test_dependence_is_scikit_learns(fitted: tuple[LogisticRegression, Any, Any]) -> None:
    model, x, _ = fitted
    found = partial_dependence(predict(model), as_batch(x), "strong", numeric=True, points=7)
    grid = [np.array(found.values)]
    expected = sklearn_dependence(model, x, [0], custom_values={0: grid[0]}, method="brute", kind="average")
    np.testing.assert_allclose(expected["grid_values"][0], grid[0])
    np.testing.assert_allclose([means[1] for means in found.means], expected["average"][0])
    np.testing.assert_allclose(np.array(found.means).sum(axis=1), 1.0)
    assert found.values == tuple(np.sort(x[:, 0])[np.linspace(0, 499, 7).round().astype(int)])
    assert Dependence.from_dict(found.to_dict()) == found


@pytest.mark.parametrize("dtype", [pa.string(), pa.dictionary(pa.int8(), pa.string())])
def test_categories_come_by_frequency(dtype: pa.DataType) -> None:
    rows = pa.record_batch({"c": pa.array(["b", None, "b", "a", "b", None]).cast(dtype)})
    seen: list[list[str | None]] = []

    def remember(batch: pa.RecordBatch) -> np.ndarray[Any, Any]:
        seen.append(batch.column("c").to_pylist())
        return np.full((batch.num_rows, 2), 0.5)

    found = partial_dependence(remember, rows, "c", numeric=False)
    assert found.values == ("b", None, "a")
    assert [set(values) for values in seen] == [{"b"}, {None}, {"a"}]
    assert not found.numeric


def test_rare_values_of_a_spike_are_tried_too() -> None:
    rows = pa.record_batch({"x": [0.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0]})
    found = partial_dependence(lambda batch: np.zeros((batch.num_rows, 2)), rows, "x", numeric=True)
    assert found.values == (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)


def test_a_column_of_nothing_and_one_of_days() -> None:
    days = pa.array([3, 1, 2], pa.int32()).cast(pa.date32())
    rows = pa.record_batch({"x": pa.nulls(3, pa.float64()), "day": days})
    assert partial_dependence(lambda batch: np.zeros((3, 2)), rows, "x", numeric=True).values == ()
    found = partial_dependence(lambda batch: np.zeros((3, 2)), rows, "day", numeric=True)
    assert found.values == ("1970-01-02", "1970-01-03", "1970-01-04")
