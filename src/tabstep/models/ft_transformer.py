"""FT-Transformer: every column is a token, and tokens attend to one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabstep.models.embeddings import FeatureEmbedding
from tabstep.models.linear import LinearModel, begin_as
from tabstep.option_types import Count, Depth, Doc, Fraction, Index, Positive, Switch


class Tokenizer(nn.Module):
    """A token a column: ``x * weight + bias`` of a number, an embedding ``+ bias`` of a code.

    Numbers that are embedded in bins are tokens as they are. ``sections`` and ``inputs`` are those of
    ``ColumnEmbedding``.

    **Shape** ``x_num (B, n)``, ``x_cat (B, c)`` to ``(B, (n + c) * width)``.
    """

    def __init__(
        self, num_numeric: int, cardinalities: Sequence[int], *, width: int, num_bins: int, flags: Sequence[int]
    ) -> None:
        super().__init__()
        columns = num_numeric + len(cardinalities)
        self.features = FeatureEmbedding(
            num_numeric,
            cardinalities,
            num_bins=num_bins,
            embedding_dim=width,
            flags=flags,
            # all columns keep the width of a token, however many they are
            max_inputs=columns * width,
        )
        self.width, self.output_dim = width, columns * width
        self.sections, self.inputs = [width] * columns, self.features.inputs
        self.num_passed, self.num_codes = self.features.num_passed, len(cardinalities)
        biased = self.num_passed + self.num_codes
        self.parts = [(columns - biased) * width, self.num_passed, self.num_codes * width]
        bound = width**-0.5
        self.weight = (
            nn.Parameter(torch.empty(self.num_passed, width).uniform_(-bound, bound)) if self.num_passed else None
        )
        self.bias = nn.Parameter(torch.empty(biased, width).uniform_(-bound, bound)) if biased else None

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        embedded: Tensor = self.features(x_num, x_cat)
        if self.bias is None:
            return embedded
        curved, passed, coded = torch.split(embedded, self.parts, dim=1)
        tokens = [curved]
        if self.weight is not None:
            tokens.append(torch.addcmul(self.bias[: self.num_passed], passed.unsqueeze(2), self.weight).flatten(1))
        if self.num_codes:
            tokens.append(coded + self.bias[self.num_passed :].flatten())
        return torch.cat(tokens, dim=1)


class Attention(nn.Module):
    """Multi-head attention; heads share the ``width`` units, and a linear layer mixes them where there are several.

    **Shape** queries ``(B, q, width)`` and others ``(B, t, width)`` to ``(B, q, width)``.
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        # heads of whole units: the width need not be a multiple of them
        inner = heads * max(1, width // heads)
        self.dropout = dropout
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.mix = nn.Linear(inner, width) if heads > 1 else nn.Identity()
        for layer in (self.query, self.key, self.value, self.mix):
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor, others: Tensor) -> Tensor:
        parts = (self.query(queries), self.key(others), self.value(others))
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        # the library's kernel never writes the table of tokens by tokens out
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        mixed: Tensor = self.mix(attended.transpose(1, 2).flatten(2))
        return mixed


class FeedForward(nn.Module):
    """``linear(dropout(a * relu(b)))`` of two linear halves ``a`` and ``b`` (ReGLU, Shazeer 2020, arXiv:2002.05202).

    **Shape** ``(B, t, width)`` to ``(B, t, width)``.
    """

    def __init__(self, width: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.widen = nn.Linear(width, 2 * hidden)
        self.dropout = nn.Dropout(dropout)
        self.narrow = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.widen(x).chunk(2, dim=2)
        narrowed: Tensor = self.narrow(self.dropout(values * gates.relu()))
        return narrowed


class Block(nn.Module):
    """Attention and a feed-forward part, each added to its input and normalized before it.

    The paper leaves the first normalization of the first block out, and calls it crucial.

    **Shape** ``(B, t, width)`` to the same, or to ``(B, 1, width)`` where only the first token asks.
    """

    def __init__(self, width: int, attention: Attention, feed_forward: FeedForward, *, is_first: bool) -> None:
        super().__init__()
        self.attention_norm = nn.Identity() if is_first else nn.LayerNorm(width)
        self.attention = attention
        self.norm = nn.LayerNorm(width)
        self.feed_forward = feed_forward

    def forward(self, x: Tensor, *, is_last: bool) -> Tensor:
        normalized = self.attention_norm(x)
        asking = slice(0, 1) if is_last else slice(None)  # the head reads one token: no other one is needed
        x = x[:, asking] + self.attention(normalized[:, asking], normalized)
        return torch.add(x, self.feed_forward(self.norm(x)))


class FTTransformer(nn.Module):
    """``depth`` blocks of a transformer over a token a column and one more, which the head reads.

    Gorishniy et al. 2021 (arXiv:2106.11959), section 3.3. ``num_bins`` above 0 makes a number's token of bins
    (Gorishniy et al. 2022, arXiv:2203.05556) instead of a linear function. A head has ``width // heads`` units.

    **Shape** ``x_num (B, num_numeric)`` float, ``x_cat (B, len(cardinalities))`` int32 or int64 to logits
    ``(B, num_outputs)``.

    >>> model = FTTransformer(2, [5], 1, width=16, depth=2, heads=4, num_bins=0)
    >>> model(torch.randn(7, 2), torch.zeros(7, 1, dtype=torch.int32)).shape
    torch.Size([7, 1])
    """

    def __init__(  # noqa: PLR0913 - facts of the table, then one argument for each key of conf/model/ft_transformer.yaml
        self,
        num_numeric: int,
        cardinalities: Sequence[int],
        num_outputs: int,
        *,
        width: Annotated[Count, Doc("units of a token")] = 96,
        depth: Annotated[Depth, Doc("blocks")] = 2,
        heads: Annotated[Count, Doc("heads of attention, which share the units of a token")] = 8,
        feed_forward: Annotated[Positive, Doc("units of a block's feed-forward part, as a multiple of width")] = 1.333,
        attention_dropout: Annotated[Fraction, Doc("dropout of what a token attends to")] = 0.1,
        dropout: Fraction = 0.1,
        num_bins: Annotated[Index, Doc("bins of a piecewise-linear numeric embedding; 0 feeds plain numbers")] = 0,
        linear: Annotated[Switch, Doc("adds a linear model of the columns; auto: where rows are few")] = "auto",
        flags: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.linear = LinearModel(num_numeric, cardinalities, num_outputs) if linear else None
        self.tokens = Tokenizer(num_numeric, cardinalities, width=width, num_bins=num_bins, flags=flags)
        self.first = nn.Parameter(torch.empty(width).uniform_(-(width**-0.5), width**-0.5))
        hidden = max(1, int(width * feed_forward))
        self.blocks = nn.ModuleList(
            Block(
                width,
                Attention(width, heads=heads, dropout=attention_dropout),
                FeedForward(width, hidden, dropout=dropout),
                is_first=index == 0,
            )
            for index in range(depth)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, num_outputs))

    def begin_linear(self, fitted: LinearModel) -> None:
        """Start from a linear model that was fitted on train."""
        if self.linear is not None:
            begin_as(fitted, linear=self.linear, output=self.head[-1].parameters())

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        tokens = self.tokens(x_num, x_cat).unflatten(1, (-1, len(self.first)))
        # of 16 bits, where autocast has made the tokens so
        x = torch.cat([self.first.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
        for place, block in enumerate(self.blocks, start=1):
            x = block(x, is_last=place == len(self.blocks))
        logits: Tensor = self.head(x[:, 0])
        return logits if self.linear is None else logits + self.linear(x_num, x_cat)
