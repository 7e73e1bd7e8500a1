from __future__ import annotations

import torch
from tests.models.published.compare import Weights, check

from tabstep.models.ft_transformer import FTTransformer
from tabstep.training.optimizers import hidden_matrices

PARTS = {
    "attention.W_q": "attention.query",
    "attention.W_k": "attention.key",
    "attention.W_v": "attention.value",
    "attention.W_out": "attention.mix",
    "attention_normalization": "attention_norm",
    "ffn_normalization": "norm",
    "ffn.linear1": "feed_forward.widen",
    "ffn.linear2": "feed_forward.narrow",
}


def new_model(
    num_numeric: int, cardinalities: list[int], *, width: int, depth: int, num_bins: int = 0
) -> FTTransformer:
    torch.manual_seed(0)
    sizes = {"width": width, "depth": depth, "heads": 4, "feed_forward": 1.5, "num_bins": num_bins}
    return FTTransformer(num_numeric, cardinalities, 3, **sizes, linear=False)  # type: ignore[arg-type]


def ours(published: Weights) -> Weights:
    """Name the weights of ``rtdl_revisiting_models.FTTransformer`` as ours are."""
    found: Weights = {"first": published["cls_embedding.weight"], "tokens.weight": published["cont_embeddings.weight"]}
    found["tokens.bias"] = torch.cat([published["cont_embeddings.bias"], published["cat_embeddings.bias"]])
    tables = [each for name, each in published.items() if name.startswith("cat_embeddings.embeddings.")]
    found["tokens.features.categorical.table.weight"] = torch.cat(tables)
    for name, each in published.items():
        if name.startswith("backbone.output."):
            place = {"normalization": 0, "linear": 2}[name.split(".")[2]]
            found[f"head.{place}.{name.split('.')[3]}"] = each
        elif name.startswith("backbone.blocks."):
            _, _, block, rest = name.split(".", 3)
            part, _, kind = rest.rpartition(".")
            found[f"blocks.{block}.{PARTS[part]}.{kind}"] = each
    return found


def test_it_is_the_published_one() -> None:
    check("ft_transformer", new_model(3, [4, 6], width=8, depth=2), ours)


def test_numbers_in_bins_are_tokens_and_flags_are_not() -> None:
    torch.manual_seed(0)
    model = FTTransformer(3, [4], 1, width=8, depth=1, heads=2, num_bins=5, flags=[1], linear=False).eval()
    tokens = model.tokens(x_num := torch.randn(6, 3), x_cat := torch.randint(0, 4, (6, 1))).unflatten(1, (-1, 8))
    assert model.tokens.inputs == [0, 2, 1, 3]
    assert model.tokens.weight is not None
    assert model.tokens.bias is not None
    torch.testing.assert_close(tokens[:, 2], x_num[:, 1:2] * model.tokens.weight[0] + model.tokens.bias[0])
    table = model.tokens.features.categorical
    assert table is not None
    torch.testing.assert_close(tokens[:, 3], table(x_cat) + model.tokens.bias[1])


def test_many_columns_have_tokens_of_the_same_width() -> None:
    model = FTTransformer(400, [], 1, width=64, depth=1, linear=False)
    assert model(torch.randn(2, 400), torch.zeros(2, 0, dtype=torch.int32)).shape == (2, 1)


def test_attention_and_feed_forward_are_muons() -> None:
    shapes = [tuple(weight.shape) for weight in hidden_matrices(new_model(3, [4], width=8, depth=1))]
    assert shapes == [(8, 8)] * 4 + [(24, 8), (8, 12)]
