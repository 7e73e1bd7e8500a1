from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch

from tabstep.models.embeddings import ColumnEmbedding
from tabstep.models.mlp import MLP
from tabstep.models.pack import Hyperparameters, Pack, drawn
from tabstep.models.probabilities import member_weights
from tabstep.training.optimizers import hidden_matrices

FIRST = Hyperparameters(width=256, depth=2, dropout=0.1, num_bins=32, embedding_dim=16)
CARDINALITIES = [4, 7]


def new_model(**options: int) -> Pack:
    torch.manual_seed(0)
    sizes = {"members": 5, "width": 8, "depth": 2, "num_bins": 4, "embedding_dim": 6} | options
    return Pack(2, CARDINALITIES, 3, **sizes)  # type: ignore[arg-type]


def rows(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(count, 2), torch.stack([torch.randint(0, size, (count,)) for size in CARDINALITIES], dim=1)


def test_what_a_number_draws_stays_for_ever() -> None:
    """A stored model is rebuilt from its options: other members would not fit its weights."""
    found = [dataclasses.astuple(each) for each in drawn(FIRST, 4, draw=1)[1:]]
    assert found == [
        (128, 3, pytest.approx(1 - 0.9**4), 16, 16),
        (256, 2, pytest.approx(1 - 0.9**2), 32, 8),
        (384, 1, pytest.approx(0.1), 64, 32),
    ]


def test_a_pack_begins_with_the_members_of_a_smaller_one_and_the_first_is_what_is_set() -> None:
    eight = drawn(FIRST, 8, draw=1)
    assert eight[0] == FIRST
    assert drawn(FIRST, 3, draw=1) == eight[:3]
    assert drawn(FIRST, 8, draw=2)[0] == FIRST
    assert drawn(FIRST, 8, draw=2)[1:] != eight[1:]
    torch.manual_seed(99)
    assert drawn(FIRST, 8, draw=1) == eight


def test_every_value_is_drawn_as_often_and_none_beyond() -> None:
    many = drawn(FIRST, 13, draw=3)[1:]
    assert Counter(each.width for each in many) == dict.fromkeys([128, 256, 384], 4)
    assert Counter(each.depth for each in many) == dict.fromkeys([1, 2, 3], 4)
    assert Counter(round(each.dropout, 4) for each in many) == dict.fromkeys([0.0, 0.1, 0.19, 0.3439], 3)
    assert Counter(each.num_bins for each in many) == dict.fromkeys([16, 32, 64], 4)
    assert Counter(each.embedding_dim for each in many) == dict.fromkeys([8, 16, 32], 4)
    least = drawn(Hyperparameters(width=1, depth=1, dropout=0.0, num_bins=0, embedding_dim=1), 50, draw=3)
    assert {(each.num_bins, each.dropout) for each in least} == {(0, 0.0)}
    assert min(min(each.width, each.depth, each.embedding_dim) for each in least) == 1


def test_each_member_is_a_perceptron_of_its_own() -> None:
    model = new_model().eval()
    assert len({dataclasses.astuple(each) for each in model.hyperparameters}) == 5
    x_num, x_cat = rows()
    logits = model(x_num, x_cat)
    assert logits.shape == (6, 5, 3)
    assert model.linear is not None
    for place, each in enumerate(model.hyperparameters):
        alone = MLP(
            2,
            CARDINALITIES,
            3,
            width=each.width,
            depth=each.depth,
            num_bins=each.num_bins,
            embedding_dim=each.embedding_dim,
            linear=False,
        ).eval()
        alone.features = model.features.parts[place]  # type: ignore[assignment]
        layers = zip(alone.backbone, model.backbones[place], strict=True)  # type: ignore[arg-type]
        for target, source in [*layers, (alone.head, model.head[place])]:
            target.load_state_dict(source.state_dict())
        torch.testing.assert_close(logits[:, place], alone(x_num, x_cat) + model.linear(x_num, x_cat))


def test_hidden_matrices_of_every_member_are_muons_and_heads_are_not() -> None:
    model = new_model()
    sizes = zip(model.features.sizes, model.hyperparameters, strict=True)
    expected = [(each.width, each.width if layer else inputs) for inputs, each in sizes for layer in range(each.depth)]
    assert [tuple(weight.shape) for weight in hidden_matrices(model)] == expected


def test_all_count_alike_until_some_are_chosen() -> None:
    model = new_model()
    weights = member_weights(model)
    assert weights is model.member_weights
    assert weights.tolist() == [1.0] * 5
    weights.copy_(torch.tensor([2.0, 0.0, 0.0, 1.0, 0.0]))
    other = new_model()
    other.load_state_dict(model.state_dict())
    assert other.member_weights.tolist() == [2.0, 0.0, 0.0, 1.0, 0.0]


def test_its_embedding_tells_the_column_of_each_number() -> None:
    features = new_model(num_bins=0).features
    assert isinstance(features, ColumnEmbedding)
    x_num, x_cat = rows(1)
    before = features(x_num, x_cat)
    assert before.shape == (1, sum(features.sections)) == (1, sum(features.sizes))
    owners = torch.tensor(features.inputs).repeat_interleave(torch.tensor(features.sections))
    changed = features(x_num + torch.tensor([[0.0, 1.0]]), x_cat) != before
    assert torch.equal(changed[0], owners == 1)
