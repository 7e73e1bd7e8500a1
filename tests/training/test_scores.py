from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss, roc_auc_score
from torch import Tensor
from torchmetrics import F1Score, MeanSquaredError, Metric
from torchmetrics.utilities import dim_zero_cat

from tabstep.errors import UserError
from tabstep.schema import Task
from tabstep.training.extra_metrics import ExtraScores
from tabstep.training.metrics import build_metrics
from tabstep.training.scores import EpochScores


def make(task: Task, rows: int, outputs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    logits = torch.randn(rows, outputs, generator=generator)
    if task == "multilabel":
        return logits, (torch.rand(rows, outputs, generator=generator) < 0.3).float()
    return logits, torch.randint(0, max(outputs, 2), (rows,), generator=generator)


def feed(scores: EpochScores, logits: Tensor, y: Tensor, sizes: list[int]) -> None:
    for part_logits, part_y in zip(logits.split(sizes), y.split(sizes), strict=True):
        losses = part_logits[:, 0].abs()
        scores.add(part_logits, part_y, losses.sum(), torch.tensor(float(len(part_y))))


def new(task: Task, outputs: int, *, bins: int | None = None) -> EpochScores:
    return EpochScores(build_metrics(task, outputs, thresholds=bins), task, binned=bins is not None)


def test_binary_scores_over_uneven_batches_are_scikit_learns() -> None:
    logits, y = make("binary", 333, 1)
    scores = new("binary", 1)
    feed(scores, logits, y, [100, 100, 100, 33])
    found = scores.compute()
    p = logits.sigmoid().squeeze(1).double().numpy()
    expected = {
        "loss": logits[:, 0].abs().double().mean().item(),
        "accuracy": accuracy_score(y, p > 0.5),
        "f1": f1_score(y, p > 0.5),
        "auroc": roc_auc_score(y, p),
        "average_precision": average_precision_score(y, p),
        "log_loss": log_loss(y, p),
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_multiclass_scores_over_uneven_batches_are_scikit_learns() -> None:
    logits, y = make("multiclass", 257, 4)
    scores = new("multiclass", 4)
    feed(scores, logits, y, [256, 1])
    found = scores.compute()
    p = logits.double().softmax(1).numpy()
    assert found["f1"] == pytest.approx(f1_score(y, p.argmax(1), average="macro"), abs=1e-6)
    assert found["auroc"] == pytest.approx(roc_auc_score(y, p, multi_class="ovr"), abs=1e-6)
    assert found["log_loss"] == pytest.approx(log_loss(y, p), abs=1e-6)


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 3), ("multilabel", 3)])
@pytest.mark.parametrize("bins", [None, 64])
def test_a_snapshot_in_mid_epoch_goes_on_to_the_same_numbers(
    task: Task, outputs: int, bins: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabstep.training.scores.FLUSH_ROWS", 100)
    logits, y = make(task, 300, outputs)
    whole, first, second = (new(task, outputs, bins=bins) for _ in range(3))
    feed(whole, logits, y, [64, 64, 64, 64, 44])
    feed(first, logits[:192], y[:192], [64, 64, 64])
    state = first.snapshot()
    assert all(isinstance(value, Tensor | dict | type(None)) for value in state.values())
    second.restore([state], torch.device("cpu"))
    feed(second, logits[192:], y[192:], [64, 44])
    assert second.compute() == whole.compute()


def test_a_snapshot_keeps_the_weights_of_rows() -> None:
    logits, y = make("binary", 200, 1)
    weight = torch.arange(200) % 4 + 0.5
    whole, first, second = (new("binary", 1) for _ in range(3))

    def add(scores: EpochScores, rows: slice) -> None:
        scores.add(logits[rows], y[rows], weight[rows].sum(), weight[rows].sum(), weight[rows])

    for scores, parts in ((whole, (slice(0, 120), slice(120, 200))), (first, (slice(0, 120),))):
        for part in parts:
            add(scores, part)
    second.restore([first.snapshot()], torch.device("cpu"))
    add(second, slice(120, 200))
    found = second.compute()
    assert found == whole.compute()
    p = torch.sigmoid(logits.double()).numpy().ravel()
    assert found["auroc"] == pytest.approx(roc_auc_score(y, p, sample_weight=weight), abs=1e-6)


@pytest.mark.parametrize("bins", [None, 64])
@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 3), ("multilabel", 3)])
def test_snapshots_of_two_ranks_merge_into_one(
    task: Task, outputs: int, bins: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what the metrics have counted in bins, and those of other packages, which may keep every row."""
    monkeypatch.setattr("tabstep.training.scores.FLUSH_ROWS", 50)
    logits, y = make(task, 260, outputs)
    whole, left, right, merged = (new(task, outputs, bins=bins) for _ in range(4))
    for scores in (whole, left, right, merged):
        metric = MeanSquaredError() if task == "binary" else F1Score(task, num_classes=outputs, num_labels=outputs)
        extra = {"mse": ExtraScores("mse", metric, task, []), "kept": ExtraScores("kept", Kept(), task, [])}
        scores.metrics.add_metrics(extra)
        scores.metrics.persistent(True)
    feed(whole, logits, y, [60, 60, 80, 60])
    feed(left, logits[:120], y[:120], [60, 60])
    feed(right, logits[120:200], y[120:200], [80])
    merged.restore([left.snapshot(), right.snapshot()], torch.device("cpu"))
    feed(merged, logits[200:], y[200:], [60])
    found = merged.compute()
    assert found == pytest.approx(whole.compute(), abs=1e-6)
    assert found["kept"] == 260


class Kept(Metric):
    """Counts rows in a list of batches."""

    full_state_update = None
    batches: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("batches", [], dist_reduce_fx="cat")

    def update(self, probs: Tensor, y: Tensor) -> None:
        self.batches.append(torch.ones(len(y)))

    def compute(self) -> Tensor:
        return dim_zero_cat(self.batches).sum()


def test_a_metric_that_cannot_be_joined_is_said() -> None:
    scores = new("binary", 1, bins=64)
    alone = Kept()
    alone.add_state("last", torch.zeros(1), dist_reduce_fx=None)
    scores.metrics.add_metrics({"alone": ExtraScores("alone", alone, "binary", [])})
    scores.metrics.persistent(True)
    feed(scores, *make("binary", 20, 1), [20])
    state = scores.snapshot()
    scores.restore([state], torch.device("cpu"))
    with pytest.raises(UserError, match=r"Kept of metrics\.extra cannot join last of 2 ranks: go on with as many"):
        scores.restore([state, state], torch.device("cpu"))


def test_binned_scores_are_near_the_exact_ones_and_bounded() -> None:
    logits, y = make("binary", 5000, 1)
    exact, binned = new("binary", 1), new("binary", 1, bins=4096)
    feed(exact, logits, y, [5000])
    feed(binned, logits, y, [5000])
    size = sum(value.nbytes for value in binned.metrics.state_dict().values() if isinstance(value, Tensor))
    found = binned.compute()
    assert found == pytest.approx(exact.compute(), abs=2e-3)
    feed(binned, *make("binary", 50_000, 1), [50_000])
    binned._flush()
    assert sum(v.nbytes for v in binned.metrics.state_dict().values() if isinstance(v, Tensor)) == size


def test_compute_starts_the_next_epoch_from_nothing() -> None:
    logits, y = make("binary", 100, 1)
    scores = new("binary", 1)
    feed(scores, logits, y, [100])
    first = scores.compute()
    feed(scores, logits, y, [100])
    assert scores.compute() == first


def test_one_class_is_nan_not_zero() -> None:
    scores = new("binary", 1)
    logits, _ = make("binary", 50, 1)
    feed(scores, logits, torch.zeros(50, dtype=torch.int64), [50])
    found: dict[str, Any] = scores.compute()
    assert math.isnan(found["auroc"])
    assert np.isfinite(found["accuracy"])


@pytest.mark.slow
def test_what_an_epoch_keeps_does_not_hold_on_to_the_activations_of_its_batches() -> None:
    """Counted in bytes a row: 4 of a logit and 8 of a label, not the kilobytes of a heap full of holes."""
    program = """
        import resource, torch
        from tabstep.training.metrics import build_metrics
        from tabstep.training.scores import EpochScores
        torch.set_num_threads(1)
        linear = torch.nn.Linear
        model = torch.nn.Sequential(linear(8, 256), torch.nn.ReLU(), linear(256, 256), torch.nn.ReLU(), linear(256, 1))
        scores = EpochScores(build_metrics("binary", 1), "binary", binned=False)
        for batch in range(1_500):
            logits = model(torch.randn(64, 8))
            logits.sum().backward()
            scores.add(logits, torch.ones(64, dtype=torch.int64), logits.sum(), torch.tensor(64.0))
            if batch == 200:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (64 * 1_299))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True)
    assert float(done.stdout) < 200
