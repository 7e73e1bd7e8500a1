from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torch import multiprocessing as mp

from tabstep.models.probabilities import probabilities
from tabstep.schema import Task
from tabstep.training.metrics import build_metrics

TASKS: list[Task] = ["binary", "multiclass", "multilabel"]
CLASSES = {"binary": 1, "multiclass": 4, "multilabel": 3}


def example(task: Task, rows: int, *, ties: bool = False, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(rows, CLASSES[task], generator=generator)
    noise = 2.0 * torch.randn(rows, CLASSES[task], generator=generator)
    if task == "binary":
        y = (logits + noise > 0.5).long().squeeze(1)
    elif task == "multiclass":
        y = (logits + noise).argmax(dim=1)
    else:
        y = (logits + noise > 0.5).float()
    return probabilities(logits.round() if ties else logits, task), y


def feed(task: Task, probs: Tensor, y: Tensor, *, batch: int = 64, thresholds: int | None = None) -> dict[str, float]:
    metrics = build_metrics(task, CLASSES[task] if task == "binary" else probs.shape[1], thresholds=thresholds)
    for part_probs, part_y in zip(probs.split(batch), y.split(batch), strict=True):
        metrics.update(part_probs, part_y)
    return {name: value.item() for name, value in metrics.compute().items()}


def oracle(task: Task, probs: Tensor, y: Tensor) -> dict[str, float]:
    p, t = probs.numpy(), y.numpy()
    if task == "binary":
        return {
            "accuracy": sk.accuracy_score(t, p > 0.5),
            "f1": sk.f1_score(t, p > 0.5),
            "log_loss": sk.log_loss(t, p),
            "auroc": sk.roc_auc_score(t, p),
            "average_precision": sk.average_precision_score(t, p),
        }
    if task == "multiclass":
        onehot = np.eye(p.shape[1])[t]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rows that do not sum to one by a float32's rounding
            log_loss = sk.log_loss(t, p, labels=range(p.shape[1]))
        chosen, average = p.argmax(1), {"average": "macro"}
        f1 = sk.f1_score(t, chosen, **average)
    else:
        onehot, chosen = t, p > 0.5
        log_loss = np.mean([sk.log_loss(t[:, label], p[:, label]) for label in range(p.shape[1])])
        f1 = sk.f1_score(t, chosen, average="macro")
    present = [c for c in range(p.shape[1]) if 0 < onehot[:, c].sum() < len(t)]
    return {
        "accuracy": float((chosen == t).mean()),
        "f1": f1,
        "log_loss": log_loss,
        "auroc": np.mean([sk.roc_auc_score(onehot[:, c], p[:, c]) for c in present]),
        "average_precision": np.mean([sk.average_precision_score(onehot[:, c], p[:, c]) for c in present]),
    }


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rows", [130, 1000])
@pytest.mark.parametrize("task", TASKS)
def test_equal_to_scikit_learn_with_an_uneven_last_batch(task: Task, rows: int, ties: bool) -> None:
    probs, y = example(task, rows, ties=ties)
    assert feed(task, probs, y) == pytest.approx(oracle(task, probs, y), abs=1e-6)


def test_multiclass_auroc_is_scikit_learns_one_vs_rest() -> None:
    probs, y = example("multiclass", 500)
    expected = sk.roc_auc_score(y.numpy(), _normalized(probs), multi_class="ovr")
    assert feed("multiclass", probs, y)["auroc"] == pytest.approx(expected, abs=1e-6)


def _normalized(probs: Tensor) -> np.ndarray:
    doubled = probs.double()
    return (doubled / doubled.sum(dim=1, keepdim=True)).numpy()


@pytest.mark.parametrize("task", TASKS)
def test_histograms_come_close(task: Task) -> None:
    probs, y = example(task, 3000)
    assert feed(task, probs, y, thresholds=16_384) == pytest.approx(oracle(task, probs, y), abs=1e-3)


def test_histograms_are_exact_where_bins_tell_scores_apart() -> None:
    y = torch.randint(0, 2, (200,), generator=torch.Generator().manual_seed(0))
    probs = torch.randint(0, 11, (200,), generator=torch.Generator().manual_seed(1)) / 10.0
    assert feed("binary", probs, y, thresholds=100) == pytest.approx(feed("binary", probs, y), abs=1e-12)


@pytest.mark.parametrize("thresholds", [None, 512])
def test_a_class_that_is_absent_does_not_count(thresholds: int | None) -> None:
    probs, y = example("multiclass", 400)
    kept = y != 2
    result = feed("multiclass", probs[kept], y[kept], thresholds=thresholds)
    tolerance = 1e-6 if thresholds is None else 1e-2
    assert result == pytest.approx(oracle("multiclass", probs[kept], y[kept]), abs=tolerance)


@pytest.mark.parametrize("thresholds", [None, 512])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_ranking(label: int, thresholds: int | None) -> None:
    probs, _ = example("binary", 50)
    result = feed("binary", probs, torch.full((50,), label), thresholds=thresholds)
    assert np.isnan([result["auroc"], result["average_precision"]]).all()
    assert np.isfinite([result["accuracy"], result["log_loss"]]).all()


def test_f1_without_positives_found_or_there_is_nan() -> None:
    assert np.isnan(feed("binary", torch.full((5,), 0.1), torch.zeros(5, dtype=torch.long))["f1"])
    assert feed("binary", torch.full((5,), 0.1), torch.tensor([0, 0, 0, 0, 1]))["f1"] == 0.0


@pytest.mark.parametrize("thresholds", [None, 512])
@pytest.mark.parametrize("task", TASKS)
def test_one_nan_probability_makes_everything_nan(task: Task, thresholds: int | None) -> None:
    probs, y = example(task, 200)
    probs.view(200, -1)[133, -1] = torch.nan
    assert np.isnan(list(feed(task, probs, y, thresholds=thresholds).values())).all()


@pytest.mark.parametrize("thresholds", [None, 512])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_nothing_is_nan(task: Task, thresholds: int | None) -> None:
    metrics = build_metrics(task, CLASSES[task], thresholds=thresholds)
    assert all(value.isnan() for value in metrics.compute().values())


def test_certain_mistakes_have_a_finite_log_loss() -> None:
    y, probs = torch.tensor([0, 1]), torch.tensor([1.0, 0.0])
    assert feed("binary", probs, y)["log_loss"] == pytest.approx(sk.log_loss(y.numpy(), probs.numpy()), abs=1e-6)


def test_reset_starts_anew() -> None:
    metrics = build_metrics("binary", 1)
    metrics.update(*example("binary", 40, seed=1))
    metrics.compute()
    metrics.reset()
    probs, y = example("binary", 90, seed=2)
    metrics.update(probs, y)
    result = {name: value.item() for name, value in metrics.compute().items()}
    assert result == pytest.approx(feed("binary", probs, y), abs=1e-12)


@pytest.mark.parametrize(
    ("task", "probs", "y"),
    [
        ("binary", torch.rand(5, 1), torch.zeros(5, dtype=torch.long)),
        ("binary", torch.rand(5), torch.zeros(5)),
        ("binary", torch.rand(5), torch.zeros(4, dtype=torch.long)),
        ("multiclass", torch.rand(5), torch.zeros(5, dtype=torch.long)),
        ("multilabel", torch.rand(5, 2), torch.zeros(5, dtype=torch.long)),
        ("binary", torch.rand(5).bfloat16(), torch.zeros(5, dtype=torch.long)),
        ("binary", torch.rand(5), torch.tensor([0, 1, 2, 0, 1])),
        ("multiclass", torch.rand(5, 2), torch.tensor([0, 1, 2, 0, 1])),
        ("multilabel", torch.rand(3, 2), torch.tensor([[0.0, 1.0], [0.5, 0.0], [1.0, 1.0]])),
    ],
)
def test_what_does_not_fit_is_refused(task: Task, probs: Tensor, y: Tensor) -> None:
    with pytest.raises(ValueError, match="metrics take"):
        build_metrics(task, 1 if task == "binary" else 2).update(probs, y)


@pytest.mark.parametrize("task", TASKS)
def test_probabilities_of_members_are_averaged(task: Task) -> None:
    logits = torch.randn(6, 5, CLASSES[task])
    members = torch.stack([probabilities(logits[:, member], task) for member in range(5)])
    torch.testing.assert_close(probabilities(logits, task), members.mean(0))


ROWS = {"uneven": (67, 34), "one rank without rows": (50, 0)}
THRESHOLDS = (None, 512)


def _rank(rank: int, address: str, out: str) -> None:
    """Score this rank's part of each case, and keep what the two ranks have come to."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    result = {}
    for (name, rows), thresholds, task in itertools.product(ROWS.items(), THRESHOLDS, TASKS):
        probs, y = example(task, sum(rows))
        metrics = build_metrics(task, CLASSES[task], thresholds=thresholds)
        mine = slice(0, rows[0]) if rank == 0 else slice(rows[0], None)
        for part_probs, part_y in zip(probs[mine].split(16), y[mine].split(16), strict=True):
            if len(part_y):
                metrics.update(part_probs, part_y)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The ``compute`` method of metric")  # the rank that has no row
            result[name, thresholds, task] = {key: value.item() for key, value in metrics.compute().items()}
    torch.save(result, f"{out}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of two processes has come to, by rows, thresholds and task."""
    out = tmp_path_factory.mktemp("ranks")
    mp.spawn(_rank, args=(f"file://{out}/store", str(out)), nprocs=2)
    return [torch.load(out / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("thresholds", THRESHOLDS)
@pytest.mark.parametrize("rows", ROWS)
def test_two_ranks_agree_with_one(two_ranks: list[Any], rows: str, thresholds: int | None) -> None:
    for task in TASKS:
        one, other = (rank[rows, thresholds, task] for rank in two_ranks)
        assert one == other
        expected = feed(task, *example(task, sum(ROWS[rows])), thresholds=thresholds)
        assert one == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_weights_are_scikit_learns(task: Task) -> None:
    probs, y = example(task, 200)
    weight = torch.from_numpy(np.random.default_rng(0).integers(0, 4, 200).astype(np.float32))
    metrics = build_metrics(task, CLASSES[task])
    metrics.update(probs, y, weight=weight)
    found = {name: value.item() for name, value in metrics.compute().items()}
    repeats = weight.long()
    twice = oracle(task, probs.repeat_interleave(repeats, dim=0), y.repeat_interleave(repeats, dim=0))
    for name in ("accuracy", "f1", "log_loss", "auroc", "average_precision"):
        assert found[name] == pytest.approx(twice[name], rel=1e-6)
    if task == "binary":
        assert found["log_loss"] == pytest.approx(sk.log_loss(y, probs, sample_weight=weight), rel=1e-6)
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, probs > 0.5, sample_weight=weight))
        assert found["auroc"] == pytest.approx(sk.roc_auc_score(y, probs, sample_weight=weight))


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
@pytest.mark.parametrize("bins", [None, 4096])
def test_fractions_are_weights_as_scikit_learns_of_any_scale(scale: float, bins: int | None) -> None:
    rng = np.random.default_rng(0)
    weight = torch.from_numpy((scale * rng.random(300)).astype(np.float32))
    probs, y = example("binary", 300)
    metrics = build_metrics("binary", 1, thresholds=bins)
    metrics.update(probs, y, weight=weight)
    found = {name: value.item() for name, value in metrics.compute().items()}
    near = 1e-6 if bins is None else 2e-3
    assert found["average_precision"] == pytest.approx(
        sk.average_precision_score(y, probs, sample_weight=weight), abs=near
    )
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(y, probs, sample_weight=weight), abs=near)
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, probs, sample_weight=weight), rel=1e-6)
