"""Integrated gradients against Shapley values that are counted out over all sets of columns."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from tabstep.analysis.attributions import Embedded, attribute, column_shares, log_odds, mean_of
from tabstep.artifact.member import Member
from tabstep.encoding.encoder import Encoder, EncoderOptions
from tabstep.errors import UserError
from tabstep.models import build_model
from tabstep.models.embeddings import FeatureEmbedding
from tabstep.models.linear import LinearModel
from tabstep.models.mlp import MLP
from tabstep.models.probabilities import member_weights
from tabstep.models.resnet import ResNet
from tabstep.schema import Schema
from tabstep.tables.source import open_source

SCHEMA = Schema(id="row_id", label=("label",), numeric=("age", "income", "joined"), categorical=("city", "member"))


class Additive(nn.Module):
    """A sum of functions of single columns, a linear part, and a little of the product of the first two."""

    def __init__(self, encoder: Encoder, *, product: float) -> None:
        super().__init__()
        self.features = FeatureEmbedding(encoder.num_numeric, encoder.cardinalities, num_bins=4, embedding_dim=3)
        self.weight = nn.Parameter(torch.randn(self.features.output_dim))
        self.linear = drawn(LinearModel(encoder.num_numeric, encoder.cardinalities, 1))
        self.product = product

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        x = self.features(x_num, x_cat)
        parts = torch.tanh(x * self.weight)
        return (parts.sum(dim=1) + self.product * x[:, 0] * x[:, 4]).unsqueeze(1) + self.linear(x_num, x_cat)


def drawn(linear: LinearModel) -> LinearModel:
    for parameter in linear.parameters():
        nn.init.normal_(parameter)
    return linear


@pytest.fixture(scope="module")
def encoder(tiny_data: Any) -> Encoder:
    source = open_source(str(tiny_data / "train"), split="train")
    options = EncoderOptions(scaling="quantile", max_categories=100, min_frequency=1)
    return Encoder.fit(source, SCHEMA, options=options)


@pytest.fixture(scope="module")
def rows(tiny_data: Any) -> pa.RecordBatch:
    return pq.read_table(tiny_data / "val").combine_chunks().to_batches()[0]


def shapley(member: Member, rows: pa.RecordBatch, reference: pa.RecordBatch) -> np.ndarray[Any, Any]:
    """Count the mean gain of each column over all orders, with what is not in a set at the mean embedding."""
    embedded = Embedded(member.model)
    owners = column_shares(member.encoder, reference, rows).argmax(axis=1)[embedded.owners.numpy()]
    inputs = [torch.from_numpy(part) for part in member.encoder.transform(rows)]
    with torch.no_grad():
        start = embedded(*map(torch.from_numpy, member.encoder.transform(reference))).mean(dim=0)
        x = embedded(*inputs)
        count = len(SCHEMA.features)
        worth = {}
        for members in itertools.product((False, True), repeat=count):
            inside = torch.from_numpy(np.array(members)[owners])
            with embedded.replaced(torch.where(inside, x, start)):
                worth[members] = member.model(*inputs).squeeze(1).double().numpy()
    values = np.zeros((rows.num_rows, count))
    for column, members in itertools.product(range(count), worth):
        if not members[column]:
            size = sum(members)
            share = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            with_it = (*members[:column], True, *members[column + 1 :])
            values[:, column] += share * (worth[with_it] - worth[members])
    return values


@pytest.mark.parametrize(("product", "tolerance"), [(0.0, 2e-4), (0.05, 2e-2)])
def test_additive_model_has_shapley_values(
    encoder: Encoder, rows: pa.RecordBatch, product: float, tolerance: float
) -> None:
    torch.manual_seed(0)
    member = Member(encoder=encoder, model=Additive(encoder, product=product))
    expected = shapley(member, rows, rows)
    found = attribute(member, rows, rows, np.ones(rows.num_rows, dtype=np.int64))
    assert np.abs(expected).max() > 0.3
    np.testing.assert_allclose(found.values, expected, atol=tolerance)
    assert found.columns == SCHEMA.features


@pytest.mark.parametrize(
    "kind", ["mlp", "mlp without bins", "resnet", "tabm", "dcn", "ft_transformer", "pack", "realmlp"]
)
def test_attributions_add_up_to_the_log_odds(encoder: Encoder, rows: pa.RecordBatch, kind: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"width": 8, "depth": 1, "dropout": 0.0, "embedding_dim": 4}
    facts = (encoder.num_numeric, encoder.cardinalities, 1)
    small = {"num_numeric": facts[0], "cardinalities": facts[1], "num_outputs": 1, "width": 8, "depth": 1}
    models = {
        "dcn": lambda: build_model("dcn", **small, num_bins=4, rank=3),
        "ft_transformer": lambda: build_model("ft_transformer", **small, heads=2),
        "pack": lambda: build_model("pack", **small, num_bins=4, members=3),
        "realmlp": lambda: build_model("realmlp", **small, one_hot=3),
        "mlp": lambda: MLP(*facts, **options, num_bins=4),
        "mlp without bins": lambda: MLP(*facts, **options, num_bins=0),
        "resnet": lambda: ResNet(*facts, **options, num_bins=4, expansion=2.0),
        "tabm": lambda: build_model(
            "tabm", num_numeric=facts[0], cardinalities=facts[1], num_outputs=1, **options, num_bins=4, members=3
        ),
    }
    model = models[kind]()
    drawn(model.linear)
    if (weights := member_weights(model)) is not None:
        weights.copy_(torch.tensor([3.0, 0.0, 1.0]))
    member = Member(encoder=encoder, model=model.eval(), temperature=(1.7,))
    found = attribute(member, rows, rows, np.zeros(rows.num_rows, dtype=np.int64), steps=256)
    np.testing.assert_allclose(found.baseline + found.values.sum(axis=1), found.log_odds, atol=3e-3)
    probs = member.probabilities_of(rows)[:, 0].astype(np.float64)
    np.testing.assert_allclose(found.log_odds, np.log(probs / (1 - probs)), atol=1e-4)
    assert all(parameter.grad is None for parameter in member.model.parameters())


def test_log_odds_of_a_class_are_against_all_others() -> None:
    logits = torch.randn(5, 3)
    target = torch.tensor([0, 1, 2, 0, 1])
    probs = logits.softmax(dim=1)[torch.arange(5), target]
    torch.testing.assert_close(log_odds(logits, "multiclass", target), torch.logit(probs))
    assert log_odds(logits, "multilabel", target).tolist() == logits[torch.arange(5), target].tolist()


def test_every_input_belongs_to_its_column(encoder: Encoder, rows: pa.RecordBatch) -> None:
    shares = column_shares(encoder, rows, rows)
    owners = [SCHEMA.features[place] for place in shares.argmax(axis=1)]
    numbers = [name.removesuffix(" is missing").partition(":")[0] for name in encoder.input_names]
    assert owners[: len(numbers)] == numbers
    assert owners[len(numbers) :][:2] == list(SCHEMA.categorical)
    assert {"age", "income", "joined", "city", "member"} == set(owners)
    assert shares.sum(axis=1).tolist() == [1.0] * (encoder.num_numeric + len(encoder.cardinalities))


def test_mean_of_an_ensemble_weighs_its_members(encoder: Encoder, rows: pa.RecordBatch) -> None:
    torch.manual_seed(0)
    member = Member(encoder=encoder, model=Additive(encoder, product=0.0))
    explained = np.ones(rows.num_rows, dtype=np.int64)
    found = attribute(member, rows, rows, explained)
    other = attribute(Member(encoder=encoder, model=Additive(encoder, product=0.0)), rows, rows, explained)
    np.testing.assert_allclose(mean_of([found, other], [3, 1]).values, 0.75 * found.values + 0.25 * other.values)


def test_a_model_of_its_own_kind_is_refused(encoder: Encoder, rows: pa.RecordBatch) -> None:
    member = Member(encoder=encoder, model=nn.Linear(1, 1))
    with pytest.raises(UserError, match="does not embed its columns with FeatureEmbedding"):
        attribute(member, rows, rows, np.ones(rows.num_rows, dtype=np.int64))
