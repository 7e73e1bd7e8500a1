"""``TabstepClassifier``: a run of tabstep as an estimator of scikit-learn."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from tabstep.api.train import Overrides, override_texts, train_tables
from tabstep.artifact.predictor import decide
from tabstep.errors import UserError
from tabstep.tables.frames import to_table

try:
    from scipy.sparse import issparse
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_consistent_length,
        check_is_fitted,
        column_or_1d,
        validate_data,
    )
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "tabstep.TabstepClassifier: needs scikit-learn: pip install 'tabstep[sklearn]'"
    ) from error

_SERVED = "code"  # of a model directory: what a container is served with, which no prediction here needs


class TabstepClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier that ``fit`` trains by a run of tabstep: held-out rows choose the epoch and end the training.

    ``X`` is a DataFrame whose columns may be numbers, text, categories, booleans and times, with missing values, or an
    array of numbers. The data checks and the report's page are off, unless ``overrides`` turn them on.

    Args:
        overrides: As of ``tabstep.train``: ``{"model": "resnet", "trainer.max_epochs": 20}``.
        directory: Where the run is kept; an earlier one there is set aside. None keeps no files.
        random_state: An int, or a generator of numpy's that gives one; None is the configuration's ``seed``.
        verbose: Whether the lines of the run are printed.

    Attributes:
        classes_: The classes in the order of the probabilities.
        report_: The scores of the run's best epoch, such as ``val_auroc``.
        history_: One row an epoch.
        model_: The ``Predictor`` behind ``predict_proba``.

    >>> X = {"age": [30, 40, 50, 60] * 8, "job": ["nurse", "cook"] * 16}
    >>> fast = {"trainer.max_epochs": 1, "trainer": "cpu"}
    >>> TabstepClassifier(overrides=fast).fit(X, ["no", "no", "yes", "yes"] * 8).classes_
    array(['no', 'yes'], dtype='<U3')
    """

    def __init__(
        self,
        *,
        overrides: Overrides | None = None,
        directory: str | os.PathLike[str] | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.overrides = overrides
        self.directory = directory
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> TabstepClassifier:
        """Train on ``X`` (n, features) and ``y`` (n,), whose rows count as ``sample_weight`` (n,) says.

        Raises:
            UserError: a ``ValueError``; the input or an override is wrong, or a weight is negative or not finite.
        """
        table = self._table(X, reset=True)
        labels = column_or_1d(y, warn=True)
        check_consistent_length(labels, range(table.num_rows))
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise UserError("y: holds only one class: a classifier needs two")
        classes = _plain_classes(self.classes_)
        name = _free_name("label", table.column_names)
        schema: dict[str, Any] = {
            "label": name,
            "classes": classes,
            "task": "binary" if len(classes) == 2 else "multiclass",
        }
        table = table.append_column(name, pa.array(classes).take(pa.array(codes)))
        if sample_weight is not None:
            schema["weight"] = _free_name("weight", table.column_names)
            weights = _check_sample_weight(sample_weight, labels, dtype=np.float64, ensure_non_negative=True)
            table = table.append_column(schema["weight"], pa.array(weights))
        with self._run_directory() as directory:
            run = train_tables(
                {"train": table},
                schema=schema,
                overrides=self._overrides(),
                directory=directory,
                quiet=not self.verbose,
            )
            self.model_ = run.model
            self.report_, self.history_ = dict(run.report), run.history
            self._files = _read_files(run.model_directory)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return the probabilities ``(n, classes)`` of the rows of ``X``."""
        check_is_fitted(self)
        probabilities: NDArray[np.float32] = self.model_.predict_proba(self._table(X, reset=False))
        return probabilities

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the likeliest class ``(n,)`` of the rows of ``X``; of two, by the threshold of ``decision``."""
        winners = decide(self.predict_proba(X), self.model_.thresholds[0])
        return np.asarray(self.classes_[winners])

    def __sklearn_tags__(self) -> Any:
        """Say to scikit-learn that missing values are allowed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: of the model the files of its directory, which hold no code."""
        state = dict(super().__getstate__())
        state.pop("model_", None)
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Load the model from its files, which checks their digests and its golden rows."""
        super().__setstate__(dict(state))
        if "_files" in state:
            self.model_ = _load_files(self._files)

    def _overrides(self) -> list[str]:
        # never: ``fit`` trains anew, whatever lies in the directory
        texts = ["data.checks=off", "report.page=false", "resume=never"]
        if self.random_state is not None:
            texts.append(f"seed={check_random_state(self.random_state).randint(2**31 - 1)}")
        return texts + override_texts(self.overrides or ())

    @contextmanager
    def _run_directory(self) -> Iterator[str | os.PathLike[str]]:
        if self.directory is not None:
            yield self.directory
            return
        with tempfile.TemporaryDirectory(prefix="tabstep-") as directory:
            yield directory

    def _table(self, X: Any, *, reset: bool) -> pa.Table:
        """Return ``X`` as a table, its columns compared with those of ``fit``; those of an array are ``x0``, ``x1``."""
        if (isinstance(X, Mapping) and not issparse(X)) or hasattr(X, "__arrow_c_stream__"):
            table = to_table(X, where="X")
            # a dict has no columns that scikit-learn knows, and its table has
            validate_data(self, table if isinstance(X, Mapping) else X, reset=reset, skip_check_array=True)
            if not table.num_rows:
                raise UserError("X: holds 0 sample(s): a minimum of 1 is required")
            return table
        # what a ColumnTransformer joins is an array of objects, and of a list of rows NumPy makes one of texts
        kind = np.asarray(X).dtype.kind if not issparse(X) else "f"
        dtype = object if kind in "OUT" else "numeric"
        values = validate_data(self, X, reset=reset, ensure_all_finite=False, dtype=dtype)
        return pa.table({f"x{index}": _column(column) for index, column in enumerate(values.T)})


def _column(values: NDArray[Any]) -> Any:
    """Return a column of an array with a type: that of all its values, or text where it has several.

    Raises:
        TypeError: a value is neither a number nor a text.

    >>> _column(np.array([1, None, 2.5], dtype=object)).to_pylist()
    [1.0, None, 2.5]
    >>> _column(np.array([1, "a", np.nan, None], dtype=object)).to_pylist()
    ['1', 'a', None, None]
    """
    if values.dtype != object:
        return np.ascontiguousarray(values)
    try:
        column = pa.array(values, from_pandas=True)
    except pa.ArrowException:  # of several types
        cells = [pa.scalar(value, from_pandas=True) for value in values]
        strange = any(pa.types.is_nested(cell.type) for cell in cells)
        texts = [str(value) if cell.is_valid else None for value, cell in zip(values, cells, strict=True)]
        column = pa.array(texts, pa.string())
    else:
        strange = pa.types.is_nested(column.type)
    if strange:
        raise TypeError("X: argument must be a string or a number in each cell, got a list or a dict")
    return column


def _plain_classes(classes: NDArray[Any]) -> list[str | int]:
    """Return classes as the configuration writes them, in their order: whole numbers, else texts.

    >>> _plain_classes(np.array([1.0, 2.0])), _plain_classes(np.array([False, True]))
    ([1, 2], ['False', 'True'])
    """
    values = classes.tolist()
    whole = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return [int(value) for value in values] if whole else [str(value) for value in values]


def _free_name(name: str, taken: list[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _read_files(directory: Path) -> dict[str, bytes]:
    paths = (path.relative_to(directory) for path in sorted(directory.rglob("*")) if path.is_file())
    return {path.as_posix(): (directory / path).read_bytes() for path in paths if path.parts[0] != _SERVED}


def _load_files(files: Mapping[str, bytes]) -> Any:
    from tabstep.artifact.load import load

    with tempfile.TemporaryDirectory(prefix="tabstep-") as directory:
        for name, content in files.items():
            path = Path(directory, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return load(directory)
