"""Why a row is predicted as it is: integrated gradients over the embedded columns, one figure a column.

Between the mean embedding of some reference rows and the embedding of a row lies a straight way; the gradient along it,
times the way, shares the difference of the model's output out among the embedded inputs (and the terms of its linear
part) (Sundararajan et al. 2017,
arXiv:1703.01365). The shares add up to the difference, and where the output is a sum of functions of single columns
they are the Shapley values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tabstep.analysis.dependence import decoded
from tabstep.artifact.member import Member
from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError
from tabstep.models.embeddings import ColumnEmbedding
from tabstep.models.linear import LinearModel
from tabstep.models.probabilities import member_weights, pooled
from tabstep.schema import Task

STEPS: Final = 64
# points of ways that are differentiated at once, and the numbers of all of them
_POINTS: Final = 16_384
_CELLS: Final = 2**24
_PROBES: Final = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Attributions:
    """``values`` ``(n, columns)`` are shares of the log-odds of class ``explained`` ``(n,)``.

    ``baseline`` plus their sum is ``log_odds``, but for the error of the integration.
    """

    columns: tuple[str, ...]
    values: NDArray[np.float64]
    explained: NDArray[np.int64]
    log_odds: NDArray[np.float64]
    baseline: NDArray[np.float64]


def attribute(
    member: Member,
    rows: pa.RecordBatch,
    reference: pa.RecordBatch,
    explained: NDArray[np.int64],
    *,
    steps: int = STEPS,
) -> Attributions:
    """Attribute the log-odds of one class a row to the columns.

    Args:
        reference: raw rows whose mean embedding is where the way begins: what "usual" means.
        explained: the position of the class, or of the label of a multilabel task, ``(n,)``.

    Raises:
        UserError: no module of the model is a ``ColumnEmbedding``.
    """
    embedded = Embedded(member.model)
    inputs = [torch.from_numpy(part) for part in member.encoder.transform(rows)]
    with torch.no_grad():
        start = embedded(*(torch.from_numpy(part) for part in member.encoder.transform(reference))).mean(dim=0)
    found = []
    size = max(1, min(_POINTS, _CELLS // len(embedded.owners)) // steps)
    for place in range(0, rows.num_rows, size):
        part = slice(place, place + size)
        target = torch.from_numpy(explained[part])
        found.append(_integrate(member, embedded, inputs[0][part], inputs[1][part], start, target, steps=steps))
    by_input, log_odds_, baseline = (np.concatenate(parts) for parts in zip(*found, strict=True))
    shares = column_shares(member.encoder, reference, rows)
    return Attributions(
        columns=member.encoder.schema.features,
        values=by_input @ shares,
        explained=explained,
        log_odds=log_odds_,
        baseline=baseline,
    )


def mean_of(parts: Sequence[Attributions], weights: Sequence[float]) -> Attributions:
    """Return the weighted mean over the members of an ensemble: of their log-odds, not of their probabilities."""
    share = np.asarray(weights) / sum(weights)

    def mean(name: str) -> NDArray[np.float64]:
        return np.asarray(sum(weight * getattr(part, name) for weight, part in zip(share, parts, strict=True)))

    first = parts[0]
    return Attributions(
        columns=first.columns,
        values=mean("values"),
        explained=first.explained,
        log_odds=mean("log_odds"),
        baseline=mean("baseline"),
    )


class Embedded:
    """What the output of a model is a function of: its embedded columns, then the terms of its linear part, if any.

    ``owners`` is the input that each number is of, ``(dims,)``: x_num first, then x_cat.
    """

    def __init__(self, model: nn.Module) -> None:
        self._embedding = find_embedding(model)
        self._linear = next((module for module in model.modules() if isinstance(module, LinearModel)), None)
        owners = input_of_output(self._embedding)
        self._size = len(owners)
        if self._linear is not None:
            # the linear part's terms stand input by input, one for each output
            inputs = torch.arange(int(owners.max()) + 1)
            owners = torch.cat([owners, inputs.repeat_interleave(len(self._linear.bias))])
        self.owners = owners

    def __call__(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        """Return the numbers of each row, ``(B, dims)``."""
        embedded: Tensor = self._embedding(x_num, x_cat)
        if self._linear is None:
            return embedded
        return torch.cat([embedded, self._linear.terms(x_num, x_cat).flatten(1)], dim=1)

    @contextmanager
    def replaced(self, points: Tensor) -> Iterator[None]:
        """Let the model go on from ``points`` whatever rows it is given."""
        with ExitStack() as stack:
            stack.enter_context(replaced(self._embedding, points[:, : self._size]))
            if self._linear is not None:
                terms = points[:, self._size :].reshape(len(points), -1, len(self._linear.bias))
                stack.enter_context(replaced(self._linear, terms.sum(dim=1) + self._linear.bias.detach()))
            yield


def find_embedding(model: nn.Module) -> nn.Module:
    """Return the module of a model that embeds its columns."""
    found = next((module for module in model.modules() if isinstance(module, ColumnEmbedding)), None)
    if found is None:
        raise UserError("attributions: the model does not embed its columns with FeatureEmbedding: leave them out")
    return found


def input_of_output(embedding: nn.Module) -> Tensor:
    """Return the input that each number of an embedded row is of, ``(output_dim,)``: x_num first, then x_cat."""
    assert isinstance(embedding, ColumnEmbedding)
    sections = torch.tensor(embedding.sections)
    return torch.tensor(embedding.inputs).repeat_interleave(sections)


def log_odds(logits: Tensor, task: Task, target: Tensor) -> Tensor:
    """Return the log-odds ``(B,)`` of one class a row: of multiclass, against all others together."""
    if task == "binary":
        return torch.where(target == 1, logits[:, 0], -logits[:, 0])
    chosen = logits.gather(1, target.unsqueeze(1)).squeeze(1)
    if task == "multilabel":
        return chosen
    mask = nn.functional.one_hot(target, logits.shape[1]).bool()
    # p / (1 - p): what is left of 1 are the others together
    return chosen - logits.masked_fill(mask, -torch.inf).logsumexp(dim=1)


def _integrate(
    member: Member,
    embedded: Embedded,
    x_num: Tensor,
    x_cat: Tensor,
    start: Tensor,
    target: Tensor,
    *,
    steps: int,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the shares of the inputs ``(n, inputs)``, the log-odds at the end and at the start of the way."""
    count = len(x_num)
    with torch.no_grad():
        way = embedded(x_num, x_cat) - start
    places = ((torch.arange(steps) + 0.5) / steps).repeat_interleave(count)  # the middle of each step
    points = (start + places.unsqueeze(1) * way.repeat(steps, 1)).requires_grad_()
    with embedded.replaced(points):
        outputs = _outputs(member, x_num.repeat(steps, 1), x_cat.repeat(steps, 1), target.repeat(steps))
    # rows do not mix: the gradient of the sum has each one's own
    (gradient,) = torch.autograd.grad(outputs.sum(), points)
    shares = gradient.view(steps, count, -1).mean(dim=0) * way
    by_input = torch.zeros(count, int(embedded.owners.max()) + 1).index_add_(1, embedded.owners, shares)
    with torch.no_grad():
        end = _outputs(member, x_num, x_cat, target)
        with embedded.replaced(start.expand(count, -1)):
            begin = _outputs(member, x_num, x_cat, target)
    return by_input.double().numpy(), end.double().numpy(), begin.double().numpy()


def _outputs(member: Member, x_num: Tensor, x_cat: Tensor, target: Tensor) -> Tensor:
    """Return the log-odds of what the member predicts: pooled and calibrated as its probabilities are."""
    logits = pooled(member.model(x_num, x_cat), member.encoder.task, member_weights(member.model))
    return log_odds(member.calibrated(logits), member.encoder.task, target)


@contextmanager
def replaced(embedding: nn.Module, output: Tensor) -> Iterator[None]:
    """Let a module return ``output`` whatever it is given."""
    handle = embedding.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()


def column_shares(encoder: Encoder, reference: pa.RecordBatch, rows: pa.RecordBatch) -> NDArray[np.float64]:
    """Return which columns each model input is made of, ``(inputs, columns)``; each row sums to 1.

    It is found by looking: one column after the other is changed, and what of the encoded row changes with it belongs
    to it. An input of several columns is shared equally.
    """
    names = encoder.schema.features
    values = {name: _probes(rows, reference, name) for name in names}
    first = _encode(encoder, {name: found[:1] for name, found in values.items()})
    owned = np.zeros((encoder.num_numeric + len(encoder.cardinalities), len(names)), dtype=bool)
    # Wide tables are as many rows as columns a probe.
    for probe in range(1, 1 + max(2, min(_PROBES, _CELLS // len(names) ** 2))):
        table = {name: _changed(values[name], place, probe, len(names)) for place, name in enumerate(names)}
        owned |= (_encode(encoder, table) != first).T
    owners = owned.sum(axis=1, keepdims=True)
    # An input that no value of these rows moves has no share to give.
    return np.where(owners > 0, owned / np.maximum(owners, 1), 0.0)


def _changed(values: pa.Array, place: int, probe: int, rows: int) -> pa.Array:
    """Return the first of some values in every row but one, which has another."""
    other = min(probe, len(values) - 1)
    return values.take(pa.array(np.where(np.arange(rows) == place, other, 0)))


def _encode(encoder: Encoder, table: dict[str, pa.Array]) -> NDArray[np.float32]:
    x_num, x_cat = encoder.transform(pa.RecordBatch.from_pydict(table))
    return np.concatenate([x_num, x_cat.astype(np.float32)], axis=1)


def _probes(rows: pa.RecordBatch, reference: pa.RecordBatch, name: str) -> pa.Array:
    """Return the first value of a column, missing, its extremes and some others that it has."""
    column = decoded(rows.column(name))
    column = pa.concat_arrays([column, decoded(reference.column(name)).cast(column.type)])
    distinct = column.unique().drop_null()
    ordered = distinct.take(pc.sort_indices(distinct))
    places = np.unique(np.linspace(0, max(0, len(ordered) - 1), _PROBES - 1).round().astype(np.int64))
    spread = ordered.take(pa.array(places[::-1][: len(ordered)]))
    return pa.concat_arrays([column[:1], pa.nulls(1, column.type), spread])
