from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
import yaml

from tabstep.artifact.model_card import model_card
from tabstep.encoding.encoder import Encoder
from tabstep.schema import Schema

ENCODER = Encoder(
    schema=Schema(label=("y`s\nname",), numeric=("age",), categorical=("job", "`odd`")),
    task="binary",
    classes=("no", "yes"),
    label_type=str(pa.string()),
    numeric=(),
    categorical=(),
    spikes=(),
    times=(),
    statistics=(),
)
VERSIONS = {"tabstep": "1.0", "torch": "2.13"}


def card(encoder: Encoder = ENCODER, **metrics: object) -> str:
    return model_card(encoder, architectures=["mlp"], config={"seed": 3}, metrics=metrics, versions=VERSIONS)


def test_it_says_what_is_predicted_from_what_and_how_well() -> None:
    text = card(
        test_accuracy=0.91234,
        test_auroc=float("nan"),
        best_epoch=7,
        baselines={"logistic_regression": {"test_accuracy": 0.8}},
    )
    assert "the positive class is `yes`" in text
    assert "- number: `age`\n- category: `job`, `` `odd` ``" in text
    assert "| test | this model | 0.9123 |  |  |" in text
    assert "| test | logistic_regression | 0.8000 |" in text
    assert "- best epoch: `7`\n" in text
    assert "``y`s name``" in text


def test_the_header_is_yaml() -> None:
    header = yaml.safe_load(card().split("---")[1])
    assert header["pipeline_tag"] == "tabular-classification"
    assert header["tags"] == ["tabular", "tabstep", "binary"]


@pytest.mark.parametrize(("task", "said"), [("multilabel", "For each of the labels"), ("multiclass", "in this order")])
def test_other_tasks(task: str, said: str) -> None:
    assert said in card(replace(ENCODER, task=task))  # type: ignore[arg-type]


def test_no_scores_are_said_to_be_none() -> None:
    assert "None were kept with the model." in card()


def test_many_columns_are_counted() -> None:
    wide = replace(ENCODER, schema=Schema(label=("y",), numeric=tuple(f"x{i}" for i in range(60)), categorical=()))
    assert "`x39` and 20 more" in card(wide)
