"""Gradient boosting of LightGBM, XGBoost and CatBoost with their defaults, stopped early on val."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Literal

import numpy as np

from tabstep.encoding.encoded_table import EncodedTable
from tabstep.errors import UserError
from tabstep.schema import Task

TreeName = Literal["lightgbm", "xgboost", "catboost"]
Forward = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``x_num`` and ``x_cat`` to logits ``(B, num_outputs)``, float64."""
ROUNDS = 2_000
PATIENCE = 50
_SMALLEST = 1e-9


def check_installed(names: Sequence[TreeName]) -> None:
    """Raise ``UserError`` where a library is asked for and not installed."""
    for name in names:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise UserError(f"baselines: {name} is not installed: pip install {name}, or leave it out") from error


def fit_trees(
    name: TreeName, train: EncodedTable, val: EncodedTable, task: Task, *, num_outputs: int, seed: int = 0
) -> Forward:
    """Fit ``name`` on train and return its logits; codes are categories, and of several labels each has a model."""
    fit = {"lightgbm": _lightgbm, "xgboost": _xgboost, "catboost": _catboost}[name]
    if task != "multilabel":
        probabilities = fit(train, val, train.y, val.y, num_outputs if task == "multiclass" else 2, seed)
        return lambda x_num, x_cat: _logits(probabilities(x_num, x_cat), task)
    parts = [
        fit(train, val, train.y[:, label].astype(np.int64), val.y[:, label].astype(np.int64), 2, seed)
        for label in range(num_outputs)
    ]
    return lambda x_num, x_cat: np.hstack([_logits(part(x_num, x_cat), "binary") for part in parts])


def _logits(probabilities: np.ndarray, task: Task) -> np.ndarray:
    """Return logits that give ``probabilities`` (B, C) back."""
    logs = np.log(np.clip(probabilities, _SMALLEST, 1.0))
    logits: np.ndarray = logs if task == "multiclass" else logs[:, 1:] - logs[:, :1]
    return logits


def _lightgbm(
    train: EncodedTable, val: EncodedTable, y: np.ndarray, y_val: np.ndarray, classes: int, seed: int
) -> Forward:
    lightgbm: Any = import_module("lightgbm")
    first = train.x_num.shape[1]
    categories = list(range(first, first + train.x_cat.shape[1]))
    # LightGBM would choose by time between rows and columns, which are summed in another order
    options: dict[str, Any] = {"verbose": -1, "seed": seed, "deterministic": True, "force_col_wise": True}
    options |= {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
    data = lightgbm.Dataset(
        _joined(train.x_num, train.x_cat), y, weight=train.weight, categorical_feature=categories, params=options
    )
    held_out = lightgbm.Dataset(_joined(val.x_num, val.x_cat), y_val, weight=val.weight, reference=data)
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    model = lightgbm.train(options, data, ROUNDS, valid_sets=[held_out], callbacks=[stop])

    def forward(x_num: np.ndarray, x_cat: np.ndarray) -> np.ndarray:
        found = np.asarray(model.predict(_joined(x_num, x_cat)))
        return np.column_stack([1.0 - found, found]) if found.ndim == 1 else found

    return forward


def _xgboost(
    train: EncodedTable, val: EncodedTable, y: np.ndarray, y_val: np.ndarray, classes: int, seed: int
) -> Forward:
    xgboost: Any = import_module("xgboost")
    kinds = ["q"] * train.x_num.shape[1] + ["c"] * train.x_cat.shape[1]

    def matrix(x_num: np.ndarray, x_cat: np.ndarray, *known: np.ndarray | None) -> Any:
        labels, weight = known or (None, None)
        return xgboost.DMatrix(
            _joined(x_num, x_cat), labels, weight=weight, feature_types=kinds, enable_categorical=True
        )

    options: dict[str, Any] = {"seed": seed, "tree_method": "hist"}
    options |= (
        {"objective": "binary:logistic", "eval_metric": "logloss"}
        if classes == 2
        else {"objective": "multi:softprob", "eval_metric": "mlogloss", "num_class": classes}
    )
    model = xgboost.train(
        options,
        matrix(train.x_num, train.x_cat, y, train.weight),
        ROUNDS,
        evals=[(matrix(val.x_num, val.x_cat, y_val, val.weight), "val")],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
    )

    def forward(x_num: np.ndarray, x_cat: np.ndarray) -> np.ndarray:
        # XGBoost would predict with the rounds after the best one too
        found = model.predict(matrix(x_num, x_cat), iteration_range=(0, model.best_iteration + 1))
        return np.column_stack([1.0 - found, found]) if found.ndim == 1 else np.asarray(found)

    return forward


def _catboost(
    train: EncodedTable, val: EncodedTable, y: np.ndarray, y_val: np.ndarray, classes: int, seed: int
) -> Forward:
    catboost: Any = import_module("catboost")

    def pool(x_num: np.ndarray, x_cat: np.ndarray, *known: np.ndarray | None) -> Any:
        labels, weight = known or (None, None)
        features = catboost.FeaturesData(
            num_feature_data=np.ascontiguousarray(x_num, dtype=np.float32) if x_num.shape[1] else None,
            # FeaturesData takes categories as bytes
            cat_feature_data=x_cat.astype("S").astype(object) if x_cat.shape[1] else None,
        )
        return catboost.Pool(features, labels, weight=weight)

    model = catboost.CatBoostClassifier(
        loss_function="Logloss" if classes == 2 else "MultiClass",
        classes_count=None if classes == 2 else classes,
        early_stopping_rounds=PATIENCE,
        allow_writing_files=False,
        verbose=False,
        random_seed=seed,
    )
    model.fit(pool(train.x_num, train.x_cat, y, train.weight), eval_set=pool(val.x_num, val.x_cat, y_val, val.weight))
    return lambda x_num, x_cat: np.asarray(model.predict_proba(pool(x_num, x_cat)))


def _joined(x_num: np.ndarray, x_cat: np.ndarray) -> np.ndarray:
    return np.hstack([x_num, x_cat.astype(np.float32)])
