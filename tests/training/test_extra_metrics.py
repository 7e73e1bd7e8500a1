"""Metrics of other packages: their keys, their numbers beside scikit-learn's, and what is refused before a run."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn import metrics as sk
from torchmetrics import Metric
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryF1Score,
    MulticlassAUROC,
    MulticlassCohenKappa,
)

from tabstep.errors import UserError
from tabstep.registry import METRICS, PluginSettings
from tabstep.training.extra_metrics import ExtraScores, build_extra_metrics
from tabstep.training.metrics import build_metrics

HERE = __name__


class Cost(Metric):
    """Mean cost of wrong decisions: less is better, and its name does not say so."""

    higher_is_better = False

    def __init__(self, fn: float = 20.0) -> None:
        super().__init__()
        self.fn = fn
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, probs: torch.Tensor, y: torch.Tensor) -> None:
        positive = probs > 0.5
        self.total += (positive & (y == 0)).sum() + self.fn * (~positive & (y == 1)).sum()
        self.rows += len(y)

    def compute(self) -> torch.Tensor:
        return self.total / self.rows


class BadError(Cost):
    """Its name says that less is better, and it says the other."""

    higher_is_better = True


def parts(*names: str, **options: object) -> list[PluginSettings]:
    return [PluginSettings(name=name, options=dict(options)) for name in names]


def test_binary_and_multiclass_by_name() -> None:
    probs, y = torch.tensor([0.9, 0.2, 0.6, 0.4]), torch.tensor([1, 1, 0, 1])
    made = build_extra_metrics(parts("recall", "matthews_corr_coef"), "binary", 1, [])
    for metric in made.values():
        metric.update(probs, y)
    assert made["recall"].compute()["recall"].item() == pytest.approx(1 / 3)
    kappa = sk.matthews_corrcoef(y, probs > 0.5)
    assert made["matthews_corr_coef"].compute()["matthews_corr_coef"].item() == pytest.approx(kappa, abs=1e-6)

    probs = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    y = torch.tensor([0, 1, 2, 1])
    made = build_extra_metrics(parts("torchmetrics.classification:MulticlassCohenKappa"), "multiclass", 3, list("abc"))
    made["multiclass_cohen_kappa"].update(probs, y)
    expected = sk.cohen_kappa_score(y, probs.argmax(dim=1))
    assert next(iter(made["multiclass_cohen_kappa"].compute().values())).item() == pytest.approx(expected)


def test_one_number_a_class() -> None:
    made = build_extra_metrics(parts("recall", average="none"), "multiclass", 3, ["a", "b", "c"])["recall"]
    made.update(torch.eye(3).softmax(dim=1)[[0, 1, 0]], torch.tensor([0, 1, 1]))
    assert {key: value.item() for key, value in made.compute().items()} == {
        "recall_a": 1.0,
        "recall_b": 0.5,
        "recall_c": 0.0,
    }


def test_a_name_says_which_way_is_better() -> None:
    assert list(build_extra_metrics(parts(f"{HERE}:Cost"), "binary", 1, [])) == ["cost_loss"]
    assert list(build_extra_metrics(parts("hamming_distance"), "binary", 1, [])) == ["hamming_distance"]
    with pytest.raises(UserError, match="higher_is_better is true"):
        build_extra_metrics(parts(f"{HERE}:BadError"), "binary", 1, [])


def test_nan_is_nan_and_reset_forgets_it() -> None:
    scores = ExtraScores("kappa", MulticlassCohenKappa(num_classes=2), "multiclass", ["a", "b"])
    scores.update(torch.tensor([[math.nan, 0.2], [0.3, 0.7]]), torch.tensor([0, 1]))
    assert math.isnan(scores.compute()["kappa"])
    scores.reset()
    scores.update(torch.tensor([[0.8, 0.2], [0.3, 0.7]]), torch.tensor([0, 1]))
    assert scores.compute()["kappa"] == 1.0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torchmetrics.classification:MulticlassRecall", {}, "is for a multiclass task, and this one is binary"),
        ("confusion_matrix", {}, r"it gives \(2, 2\): one number is needed"),
        ("accuracy", {}, "accuracy stands twice"),
        ("recall", {"threshold": "high"}, r"metrics.extra\[0\]: recall: "),
    ],
)
def test_what_does_not_fit_is_one_line(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        build_extra_metrics(parts(name, **options), "binary", 1, [])
    assert "\n" not in str(error.value)


def test_options_are_checked_against_the_signature() -> None:
    METRICS.check("recall", ["average", "compute_on_cpu"])
    METRICS.check("torchmetrics.classification:MulticlassRecall", [])  # num_classes is filled in
    with pytest.raises(UserError, match=r"averge: recall has no such option; did you mean 'average'"):
        METRICS.check("recall", ["averge"])
    with pytest.raises(UserError, match="beta: is missing"):
        METRICS.check("torchmetrics.classification:BinaryFBetaScore", [])


@pytest.mark.filterwarnings("ignore")  # of torchmetrics: it warns, and gives a number all the same
def test_why_five_metrics_are_ours() -> None:
    """torchmetrics gives a number where there is none; once one of these fails, its class may take ours' place."""
    nan, y = torch.tensor([math.nan, 0.3, 0.9, 0.1]), torch.tensor([0, 1, 1, 0])
    for theirs in (BinaryAccuracy, BinaryF1Score, BinaryAUROC, BinaryAveragePrecision):
        assert math.isfinite(theirs()(nan, y)), theirs
    assert BinaryAUROC()(torch.tensor([0.2, 0.3]), torch.tensor([1, 1])) == 0.0  # one class only
    assert BinaryAveragePrecision()(torch.tensor([0.2, 0.3]), torch.tensor([0, 0])) == 0.0  # no positive at all
    absent = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]), torch.tensor([0, 1])
    assert MulticlassAUROC(3)(*absent).item() == pytest.approx(2 / 3)  # two perfect classes and an absent one
    assert BinaryAccuracy().compute() == 0.0  # of no row

    ours = build_metrics("binary", 1)
    ours.update(nan, y)
    assert all(math.isnan(value) for value in ours.compute().values())
    ours = build_metrics("multiclass", 3)
    ours.update(*absent)
    assert ours.compute()["auroc"] == 1.0
