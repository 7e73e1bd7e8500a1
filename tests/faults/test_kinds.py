"""Each type of a column in train beside each at predict: equal answers where the kind is one, else one line."""

from __future__ import annotations

import io
from collections.abc import Callable
from decimal import Decimal
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.artifact.load import load
from tabstep.errors import UserError
from tabstep.schema import Schema
from tabstep.serving import handler
from tests.serving.conftest import _save_model

ROWS = 40
DAYS = np.arange(ROWS) % 20
MOMENTS = pa.array(DAYS * 86_400).cast(pa.timestamp("s"))
UTC = MOMENTS.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
TEXTS = pa.array([str(day) for day in DAYS])
DATES = pa.array(DAYS.astype(np.int32)).cast(pa.date32())
OF_KIND: dict[str, dict[str, pa.Array]] = {
    "number": {
        **{str(dtype): pa.array(DAYS).cast(dtype) for dtype in (pa.int8(), pa.int64(), pa.uint64(), pa.float64())},
        "float32": pa.array(DAYS, pa.float32()),
        "float16": pa.array(DAYS.astype(np.float16)),
        "decimal128": pa.array([Decimal(int(day)) for day in DAYS], pa.decimal128(10, 2)),
        "decimal256": pa.array([Decimal(int(day)) for day in DAYS], pa.decimal256(60, 2)),
        "a dictionary of int64": pa.array(DAYS).dictionary_encode(),
    },
    "boolean": {
        "bool": pa.array(DAYS % 2 == 0),
        "a dictionary of bool": pa.DictionaryArray.from_arrays(pa.array(DAYS.astype(np.int8) % 2), [True, False]),
    },
    "date": {"date32": DATES, "date64": DATES.cast(pa.date64()), "a dictionary of date32": DATES.dictionary_encode()},
    "timestamp": {"timestamp[s]": MOMENTS, "timestamp[ns]": MOMENTS.cast(pa.timestamp("ns"))},
    "zoned timestamp": {"UTC": UTC, "Europe/Berlin": UTC.cast(pa.timestamp("us", "Europe/Berlin"))},
    "time": {
        "time32": pa.array(DAYS.astype(np.int32)).cast(pa.time32("s")),
        "time64": pa.array(DAYS * 10**6).cast(pa.time64("us")),
    },
    "duration": {
        "duration[s]": pa.array(DAYS).cast(pa.duration("s")),
        "duration[ns]": pa.array(DAYS * 10**9).cast(pa.duration("ns")),
    },
    "text": {
        "string": TEXTS,
        "large_string": TEXTS.cast(pa.large_string()),
        "string_view": TEXTS.cast(pa.string_view()),
        "a dictionary of string": TEXTS.dictionary_encode(),
    },
    "other": {"binary": pa.array([b"a"] * ROWS), "list": pa.array([[1]] * ROWS), "struct": pa.array([{"a": 1}] * ROWS)},
}
TYPES = {name: (kind, values) for kind, arrays in OF_KIND.items() for name, values in arrays.items()}
TRAINED = [
    (role, name)
    for name, (kind, _) in TYPES.items()
    for role in ("numeric", "categorical")
    if kind != "other" and (role, kind) != ("numeric", "text")
]


def table(values: pa.Array) -> pa.Table:
    label = np.where(DAYS < 10, "no", "yes").tolist()
    return pa.table({"row_id": TEXTS, "col": values, "other": DAYS / 7, "label": label})


def request(values: pa.Array) -> handler.Request:
    out = io.BytesIO()
    pq.write_table(table(values), out)
    return handler.input_fn(out.getvalue(), "application/x-parquet")


def asked(predict: Callable[[], np.ndarray]) -> np.ndarray | str:
    """Return the probabilities, or why there are none."""
    try:
        return predict()
    except (UserError, handler.BaseInferenceToolkitError) as error:
        return str(error)


@pytest.mark.parametrize(("role", "trained"), TRAINED)
def test_a_column_means_one_thing(
    role: str, trained: str, tmp_path_factory: pytest.TempPathFactory, ends: Callable[[str], None]
) -> None:
    numeric, categorical = (("col", "other"), ()) if role == "numeric" else (("other",), ("col",))
    schema = Schema(id="row_id", label=("label",), numeric=numeric, categorical=categorical)
    kind, own = TYPES[trained]
    directory = _save_model(tmp_path_factory.mktemp("kinds") / "one", table(own), schema)
    predictor, served = load(directory), handler.model_fn(str(directory))
    expected = predictor.predict_proba(table(own))
    for name, (other, values) in TYPES.items():
        predicts: tuple[Callable[[], np.ndarray], ...] = (
            partial(predictor.predict_proba, table(values)),
            lambda values=values: handler.predict_fn(request(values), served).probabilities,  # type: ignore[misc]
        )
        for found in map(asked, predicts):
            refused = isinstance(found, str) and "column 'col'" in found
            assert refused or np.array_equal(found, expected), (name, found)
            assert refused == (other != kind), name
    assert predictor.predict_proba(table(pa.nulls(ROWS))).shape == expected.shape  # of no kind: missing everywhere
    ends("works")
