from __future__ import annotations

import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from tabstep import TabstepClassifier
from tabstep.artifact.load import load
from tabstep.errors import UserError

FAST = {"trainer": "cpu", "trainer.max_epochs": 3, "optimizer.lr": 0.01, "data.batch_size": 32}
NOT_REPEATED = "a row that stands twice is held out or encoded twice: only in the loss does it equal a weight of 2"


@pytest.fixture(autouse=True)
def own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(40, 10, 160), "job": rng.choice(["nurse", "cook", "pilot"], 160)})
    frame.loc[::9, "age"] = np.nan
    return frame


@pytest.fixture(scope="module")
def y(frame: pd.DataFrame) -> Any:
    return np.where(frame.age.fillna(40).to_numpy() + 15 * (frame.job == "nurse").to_numpy() > 45, "leaves", "stays")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # scikit-learn casts its NaN
def test_checks_of_scikit_learn() -> None:
    weights = ("check_sample_weight_equivalence_on_dense_data",)
    overrides = {**FAST, "trainer.max_epochs": 6, "callbacks.early_stopping.patience": None}
    results = check_estimator(
        TabstepClassifier(overrides=overrides),
        expected_failed_checks=dict.fromkeys(weights, NOT_REPEATED),
        on_skip=None,
    )
    by_status = {status: {r["check_name"] for r in results if r["status"] == status} for status in ("xfail", "failed")}
    assert by_status == {"xfail": set(weights), "failed": set()}
    assert len(results) > 50


def test_fit_predict_and_the_classes(frame: pd.DataFrame, y: Any) -> None:
    estimator = TabstepClassifier(overrides={**FAST, "trainer.max_epochs": 8}, random_state=0).fit(frame, y)
    assert estimator.classes_.tolist() == ["leaves", "stays"]
    assert estimator.feature_names_in_.tolist() == ["age", "job"]
    probabilities = estimator.predict_proba(frame)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(estimator.predict(frame), estimator.classes_[probabilities.argmax(axis=1)])
    assert estimator.score(frame, y) > 0.8
    assert estimator.report_["epochs"] == len(estimator.history_) <= 8
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(frame[["job", "age"]])


def test_the_threshold_of_a_decision_is_that_of_its_predictions(frame: pd.DataFrame, y: Any) -> None:
    estimator = TabstepClassifier(
        overrides={**FAST, "trainer.max_epochs": 1, "decision": "cost={fp: 1, fn: 20}"}, random_state=0
    ).fit(frame, y)
    found = estimator.predict(frame)
    assert found.tolist() == estimator.model_.predict(frame)["prediction"].tolist()
    assert found.tolist() != estimator.classes_[estimator.predict_proba(frame).argmax(axis=1)].tolist()


@pytest.mark.parametrize("classes", [[0, 1], [2.0, 1.0], [True, False], ["b", "a"], [-1, 0, 7]])
def test_labels_of_every_type(frame: pd.DataFrame, classes: list[Any]) -> None:
    labels = np.array(classes)[np.arange(len(frame)) % len(classes)]
    estimator = TabstepClassifier(overrides={**FAST, "trainer.max_epochs": 1}).fit(frame, labels)
    np.testing.assert_array_equal(estimator.classes_, np.unique(labels))
    assert estimator.predict(frame).dtype == labels.dtype
    assert estimator.predict_proba(frame).shape == (len(frame), len(classes))


def test_pickle_goes_through_the_files_of_the_model(frame: pd.DataFrame, y: Any) -> None:
    estimator = TabstepClassifier(overrides=FAST).fit(frame, y)
    data = pickle.dumps(estimator)
    named = [argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)]
    assert not [name for name in named if "torch" in name or "Predictor" in name]
    np.testing.assert_array_equal(pickle.loads(data).predict_proba(frame), estimator.predict_proba(frame))
    state = estimator.__getstate__()
    damaged = {**state, "_files": {**state["_files"], "encoder.json": b"{}"}}
    with pytest.raises(UserError, match=r"encoder.json is damaged"):
        clone(estimator).__setstate__(damaged)


def test_pipeline_clone_and_cross_validation(frame: pd.DataFrame, y: Any) -> None:
    pipeline = make_pipeline(
        FunctionTransformer(lambda X: X.assign(old=X.age > 50)), TabstepClassifier(overrides=FAST, random_state=1)
    )
    scores = cross_val_score(clone(pipeline), frame, y, cv=2, scoring="roc_auc")
    assert scores.shape == (2,)
    assert scores.min() > 0.6
    assert clone(pipeline).get_params()["tabstepclassifier__overrides"] == FAST


def test_arrays_of_objects_keep_their_texts(frame: pd.DataFrame, y: Any) -> None:
    columns = make_column_transformer(
        (SimpleImputer(), ["age"]), (FunctionTransformer(lambda part: part.to_numpy(object)), ["job"])
    )
    pipeline = make_pipeline(columns, TabstepClassifier(overrides={**FAST, "trainer.max_epochs": 8}, random_state=0))
    pipeline.fit(frame, y)
    estimator = pipeline[-1]
    assert columns.transform(frame).dtype == object
    schema = estimator.model_.encoder.schema
    assert (schema.numeric, schema.categorical) == (("x0",), ("x1",))
    assert pipeline.score(frame, y) > 0.85
    np.testing.assert_array_equal(pipeline.predict(frame), estimator.predict(columns.transform(frame).tolist()))
    with pytest.raises(TypeError, match="X: argument must be a string or a number in each cell"):
        estimator.predict(np.array([[1.0, {}]], dtype=object))


def test_cells_of_pandas_that_are_missing_are_missing(frame: pd.DataFrame, y: Any) -> None:
    jobs = frame.job.astype("string").mask(frame.index % 7 == 0)
    cells = np.column_stack([frame.age.to_numpy(object), jobs.to_numpy(object), (frame.age > 40).to_numpy(object)])
    assert any(cell is pd.NA for cell in cells[:, 1])
    estimator = TabstepClassifier(overrides=FAST, random_state=0).fit(cells, y)
    assert estimator.model_.encoder.schema.categorical == ("x1", "x2")
    assert estimator.predict_proba(cells).shape == (160, 2)
    assert estimator.predict_proba(np.array([[None, pd.NA, True]], dtype=object)).shape == (1, 2)


def test_the_directory_keeps_the_run(tmp_path: Path, frame: pd.DataFrame, y: Any) -> None:
    estimator = TabstepClassifier(overrides=FAST, directory=tmp_path / "run")
    probabilities = estimator.fit(frame, y).predict_proba(frame)
    kept = load(tmp_path / "run" / "model")
    np.testing.assert_allclose(kept.predict_proba(pa.Table.from_pandas(frame)), probabilities, atol=1e-6)
    assert kept.class_names == ("leaves", "stays")
    estimator.fit(frame[:80], y[:80])
    assert (tmp_path / "run" / "previous-1" / "report.json").is_file()


def test_a_seed_is_a_seed(frame: pd.DataFrame, y: Any) -> None:
    first, again, other = (
        TabstepClassifier(overrides=FAST, random_state=seed).fit(frame, y).predict_proba(frame) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rows_without_weight_teach_nothing(frame: pd.DataFrame, y: Any) -> None:
    # Every second row is wrong and weighs nothing.
    wrong = np.arange(len(frame)) % 2 == 1
    labels = np.where(wrong, np.where(y == "leaves", "stays", "leaves"), y)
    # 16 rows of val count, too few for the epoch of the highest AUROC to be a good one.
    overrides = {**FAST, "trainer.max_epochs": 16, "objective": "val_loss"}
    estimator = TabstepClassifier(overrides=overrides, random_state=0)
    estimator.fit(frame, labels, sample_weight=np.where(wrong, 0.0, 1.0))
    assert estimator.score(frame, y) > 0.75


def test_what_cannot_be_fitted_is_said(frame: pd.DataFrame, y: Any) -> None:
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        TabstepClassifier().fit(frame, y, sample_weight=-np.ones(len(y)))
    with pytest.raises(UserError, match="y: holds only one class"):
        TabstepClassifier().fit(frame, np.ones(len(y)))
    with pytest.raises(UserError, match=r"optimizer.lr: expected a number > 0"):
        TabstepClassifier(overrides={"optimizer.lr": -1}).fit(frame, y)
