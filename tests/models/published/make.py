"""What published implementations compute, as fixtures of the tests: weights, inputs, logits and gradients.

    python -m tests.models.published.make [--large]

It needs ``rtdl_revisiting_models`` 0.0.2, ``pytabkit`` 1.7.3 and the file ``torchrec/modules/crossnet.py`` of
``torchrec`` 1.9.2 on the path. ``--large`` compares at larger sizes and prints the largest differences instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.models.published import compare
from torch import Tensor, nn

HERE = Path(__file__).parent
Published = tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]


def ft_transformer(cardinalities: list[int], num_numeric: int, width: int, depth: int) -> Published:
    from rtdl_revisiting_models import FTTransformer

    sizes = {"n_blocks": depth, "d_block": width, "attention_n_heads": 4, "ffn_d_hidden_multiplier": 1.5}
    rates = {"attention_dropout": 0.1, "ffn_dropout": 0.1, "residual_dropout": 0.0}
    model = FTTransformer(n_cont_features=num_numeric, cat_cardinalities=cardinalities, d_out=3, **sizes, **rates)
    return model, lambda x_num, x_cat: model(x_num, x_cat.long())


def dcn(cardinalities: list[int], num_numeric: int, width: int, depth: int, *, rank: int) -> Published:
    from crossnet import CrossNet, LowRankCrossNet

    size = num_numeric + width * len(cardinalities)
    cross = LowRankCrossNet(size, depth, rank) if rank else CrossNet(size, depth)
    tables = nn.ModuleList(nn.Embedding(each, width) for each in cardinalities)
    model = nn.ModuleDict({"cross": cross, "tables": tables})

    def forward(x_num: Tensor, x_cat: Tensor) -> Tensor:
        embedded = [table(x_cat[:, place]) for place, table in enumerate(tables)]
        return cross(torch.cat([x_num, *embedded], dim=1))

    return model, forward


def realmlp(cardinalities: list[int], num_numeric: int, width: int, depth: int) -> Published:
    from pytabkit.models.nn_models import base
    from pytabkit.models.nn_models import nn as layers
    from pytabkit.models.nn_models.activations import ParametricActivationLayer
    from pytabkit.models.nn_models.categorical import SingleEmbeddingLayer, SingleOneHotLayer

    def learned(*shape: int) -> base.Variable:
        return base.Variable(torch.randn(*shape))

    n, made = num_numeric, []
    waves = layers.PLREmbeddingsLayerCosBias(
        None, learned(n, 1, 5), learned(n, 1, 5), learned(n, 5, 3), learned(n, 1, 3), "linear", True
    )
    one_hot = SingleOneHotLayer(None, (1.0, 0.0), cardinalities[0] - 2, True, True)
    pair = SingleOneHotLayer(None, (1.0, 0.0), cardinalities[1] - 2, True, True)
    table = SingleEmbeddingLayer(learned(cardinalities[2], 6))
    size = 4 * n + (cardinalities[0] - 3) + 1 + 6
    made.append(base.ScaleLayer(learned(1, size)))
    for index in range(depth + 1):
        inputs, outputs = width if index else size, 3 if index == depth else width
        made += [base.WeightLayer(learned(inputs, outputs), inputs**-0.5), base.BiasLayer(learned(1, outputs))]
        if index < depth:
            made.append(ParametricActivationLayer(torch.selu, learned(1, outputs)))
    model = nn.ModuleDict({"waves": waves, "table": table, "net": nn.ModuleList(made)})

    def forward(x_num: Tensor, x_cat: Tensor) -> Tensor:
        codes = x_cat.long().split(1, dim=1)
        coded = [(codes[place] - 2).clamp(min=0) for place in (0, 1)] + [
            codes[2]
        ]  # its one code for all that is special
        parts = [
            layer.forward_tensors({"x_cat": code})["x_cont"]
            for layer, code in zip((one_hot, pair, table), coded, strict=True)
        ]
        x = torch.cat([waves.forward_cont(x_num), *parts], dim=1)
        for layer in made:
            x = layer.forward_cont(x)
        return x

    return model, forward


def cases(large: bool) -> dict[str, tuple[Published, nn.Module, compare.Translate, list[int], int]]:
    """Return published and our models by the names of their fixtures, with the sizes of their inputs."""
    from tests.models import test_dcn, test_ft_transformer, test_realmlp

    n, width, depth = (20, 64, 3) if large else (3, 8, 2)
    sizes = {"width": width, "depth": depth}
    few = [40, 60] if large else [4, 6]
    kinds = [7, 5, 120] if large else [7, 5, 12]
    found = {
        "ft_transformer": (
            ft_transformer(few, n, **sizes),
            test_ft_transformer.new_model(n, few, **sizes),
            test_ft_transformer.ours,
            few,
            n,
        ),
        "realmlp": (
            realmlp(kinds, n, **sizes),
            test_realmlp.new_model(n, kinds, **sizes),
            test_realmlp.ours,
            kinds,
            n,
        ),
    }
    for name, rank in (("dcn", 0), ("dcn_low_rank", 3)):
        sizes["width"] = 16 if large else 4
        crosses = test_dcn.Crosses(n, few, **sizes, rank=rank)
        found[name] = (dcn(few, n, **sizes, rank=rank), crosses, test_dcn.ours(rank), few, n)
    return found


def main() -> None:
    large = "--large" in sys.argv
    torch.manual_seed(0)
    for name, ((published, forward), model, translate, cardinalities, n) in cases(large).items():
        rows = 2_000 if large else 7
        x_num = torch.randn(rows, n, requires_grad=True)
        first = 3 if name == "realmlp" else 0  # pytabkit has one code for all that is special
        codes = [torch.randint(first, size, (rows,)) for size in cardinalities]
        x_cat = torch.stack(codes, dim=1).int()
        weights = dict(published.eval().named_parameters())
        logits = forward(x_num, x_cat)
        made = torch.autograd.grad(logits.square().sum(), [x_num, *weights.values()])
        gradients = {f"gradient.{key}": each for key, each in zip(["x_num", *weights], made, strict=True)}
        expected = {
            key: torch.as_tensor(each.detach()).clone() for key, each in ({"logits": logits} | gradients).items()
        }
        plain = {key: torch.as_tensor(each.detach().numpy().copy()) for key, each in weights.items()}
        if large:
            found = compare.outcome(model, translate, plain, x_num.detach(), x_cat)
            relative = {
                key: float((found[key] - each).abs().max() / each.abs().max().clamp_min(1e-3))
                for key, each in expected.items()
            }
            print(name, f"logits {relative.pop('logits'):.1e}, gradients {max(relative.values()):.1e} of the largest")
        else:
            stored = {f"weight.{key}": each for key, each in plain.items()} | {"x_num": x_num.detach(), "x_cat": x_cat}
            save_file(
                {key: each.contiguous() for key, each in (stored | expected).items()}, HERE / f"{name}.safetensors"
            )


if __name__ == "__main__":
    main()
