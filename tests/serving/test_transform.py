from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.schema import Schema
from tabstep.serving import handler
from tabstep.serving.transform import model_fn, transform_fn

PARQUET = "application/x-parquet"


def test_one_function_does_what_the_four_do(model_dir: Path, table: pa.Table, schema: Schema) -> None:
    model = model_fn(str(model_dir))
    buffer = io.BytesIO()
    pq.write_table(table.select(schema.features).slice(0, 5), buffer)
    request = handler.input_fn(buffer.getvalue(), PARQUET)
    expected = handler.output_fn(handler.predict_fn(request, model), "application/json")
    assert transform_fn(model, buffer.getvalue(), PARQUET, "application/json") == expected
    assert len(json.loads(expected[0])["predictions"]) == 5


def test_a_wrong_request_is_raised(model_dir: Path) -> None:
    with pytest.raises(Exception, match="application/x-nothing"):
        transform_fn(model_fn(str(model_dir)), b"", "application/x-nothing", None)
