"""The body of an answer, beside what the writer of JSON makes of its rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tabstep.artifact.predictor import decide
from tabstep.serving.responses import Answer, write_answer

CLASSES = ("50 %s of\n%", 'a "name"', "Größe {0}")
PROBS = np.array([[0.1, 0.7, 0.2], [1e-7, 0.0, 1.0], [0.33333334, 0.5, 0.16666667]], dtype=np.float32)


@dataclass
class Predictor:
    """What an answer needs of a predictor, with classes of any name."""

    task: str
    classes: tuple[Any, ...] = CLASSES
    encoder: Any = field(init=False)

    def __post_init__(self) -> None:
        self.encoder = SimpleNamespace(task=self.task, classes=self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(map(str, self.classes))

    def decided(self, probs: NDArray[np.float32]) -> NDArray[Any]:
        return (probs > 0.3).astype(np.int8) if self.task == "multilabel" else decide(probs)


def answer(predictor: Predictor, ids: list[Any] | None, probs: NDArray[np.float32] = PROBS) -> Answer:
    return Answer(predictor=predictor, probabilities=probs, sent=pa.table({}), ids=ids, version="abc")  # type: ignore[arg-type]


def records(predictor: Predictor, ids: list[Any] | None, probs: NDArray[np.float32] = PROBS) -> list[dict[str, Any]]:
    rows = []
    for row, decided in enumerate(predictor.decided(probs).tolist()):
        prediction = (
            predictor.classes[decided] if isinstance(decided, int) else dict(zip(CLASSES, decided, strict=True))
        )
        digits = [float(str(value)) if np.isfinite(value) else None for value in probs[row]]
        identity = {} if ids is None else {"id": ids[row]}
        chances = dict(zip(predictor.class_names, digits, strict=True))
        rows.append({**identity, "prediction": prediction, "probabilities": chances})
    return rows


@pytest.mark.parametrize(
    "ids", [None, [1, 2**60 + 1, None], ["a", "%s", 'ü"\\'], [0.5, 1e-9, 3.0], [True, False, None]]
)
@pytest.mark.parametrize(
    "predictor",
    [
        Predictor("multiclass"),
        Predictor("multilabel"),
        Predictor("multiclass", (1, 2, 3)),
        Predictor("multiclass", (0.5, 1.0, 2.0)),
    ],
)
def test_json_is_what_its_writer_makes(predictor: Predictor, ids: list[Any] | None) -> None:
    expected = records(predictor, ids)
    whole = json.dumps({"model_version": "abc", "predictions": expected}, ensure_ascii=False)
    assert write_answer(answer(predictor, ids), "application/json").decode() == whole
    lines = [json.dumps({**record, "model_version": "abc"}, ensure_ascii=False) for record in expected]
    assert write_answer(answer(predictor, ids), "application/jsonlines").decode() == "\n".join(lines)


def test_what_is_not_finite_is_null_in_json() -> None:
    probs = np.array([[np.nan, 0.5, np.inf]], dtype=np.float32)
    found = json.loads(write_answer(answer(Predictor("multiclass"), None, probs), "application/json"))
    assert list(found["predictions"][0]["probabilities"].values()) == [None, 0.5, None]


def test_digits_are_the_fewest_that_give_the_float32_back() -> None:
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2**32, 30_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    probs = patterns[np.isfinite(patterns)][:29_700].reshape(-1, 3)
    expected = records(Predictor("multiclass"), None, probs)
    assert (
        json.loads(write_answer(answer(Predictor("multiclass"), None, probs), "application/json"))["predictions"]
        == expected
    )
