from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import log_loss
from tests.commands import Commands, tables, write
from torch import Tensor, nn

from tabstep.artifact.load import load
from tabstep.artifact.member import Member
from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.models.pack import Pack
from tabstep.run import members
from tabstep.run.members import choose_members, selected, selection_line, selection_report
from tabstep.run.prepare import prepare
from tabstep.run.prepared import Prepared
from tabstep.run_files import MODEL, REPORT, WEIGHTS
from tabstep.schema import Task

OUTPUTS: dict[Task, int] = {"binary": 2, "multiclass": 3, "multilabel": 2}


def probabilities(task: Task, rng: np.random.Generator, rows: int) -> np.ndarray:
    raw = rng.normal(size=(rows, OUTPUTS[task]))
    if task == "multilabel":
        return np.float32(1 / (1 + np.exp(-raw)))
    return np.float32(np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True))


def labels(task: Task, rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.integers(0, 2, (rows, 2)) if task == "multilabel" else rng.integers(0, OUTPUTS[task], rows)


def loss_of(task: Task, y: np.ndarray, probs: np.ndarray, weight: np.ndarray | None) -> float:
    probs = probs.astype(np.float64)
    if task == "multilabel":
        columns = [(y[:, label], np.stack([1 - part, part], axis=1)) for label, part in enumerate(probs.T)]
        return float(np.mean([log_loss(each, part, labels=[0, 1], sample_weight=weight) for each, part in columns]))
    probs = probs / probs.sum(axis=1, keepdims=True)
    return float(log_loss(y, probs, labels=range(OUTPUTS[task]), sample_weight=weight))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", OUTPUTS)
def test_selection_is_that_of_every_sum_of_counts(task: Task, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brute force: of all counts that one more pick leads to, the best is taken in each round."""
    monkeypatch.setattr(members, "ROUNDS", 6)
    rng = np.random.default_rng(7)
    y = labels(task, rng, 30)
    parts = [probabilities(task, rng, 30) for _ in range(3)]
    weight = rng.uniform(0, 2, 30) if weighted else None

    def of(counts: tuple[int, ...]) -> float:
        mean = sum(count * part.astype(np.float64) for count, part in zip(counts, parts, strict=True)) / sum(counts)
        return loss_of(task, y, mean, weight)

    every = {counts: of(counts) for counts in product(range(7), repeat=3) if 1 <= sum(counts) <= 6}
    way = [(0, 0, 0)]
    for _ in range(6):
        nexts = [tuple(n + (place == i) for i, n in enumerate(way[-1])) for place in range(3)]
        way.append(min(nexts, key=every.__getitem__))  # type: ignore[arg-type]
    best = min(way[1:], key=every.__getitem__)
    found = selected(parts, y, task, weight)
    assert found is not None
    assert found.weights == best
    assert found.after == pytest.approx(every[best], rel=1e-5)
    assert found.before == pytest.approx(every[1, 1, 1], rel=1e-5)
    assert found.after <= min(every[1, 0, 0], every[0, 1, 0], every[0, 0, 1]) + 1e-6


def test_members_are_left_alike_where_no_loss_is_a_number() -> None:
    rng = np.random.default_rng(0)
    parts, y = [probabilities("binary", rng, 5) for _ in range(2)], labels("binary", rng, 5)
    assert selected(parts, y, "binary", np.zeros(5)) is None
    assert selected([np.full_like(part, np.nan) for part in parts], y, "binary") is None
    assert selection_report(None) == {}
    only = selected([np.full_like(parts[0], np.nan), parts[1]], y, "binary")
    assert only is not None
    assert only.weights == (0, 1)
    stored = json.loads(json.dumps({**selection_report(only)["selection"], "before": None}))
    assert selection_line(stored).startswith("members: 1 of 2 chosen on val; val log-loss nan -> ")


@pytest.fixture(scope="module")
def prepared(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    settings = parse(composed([f"data.path={tiny_data}", "schema.label=label"], [config_dir()]))
    cache = tmp_path_factory.mktemp("cache")
    return prepare(settings.data, settings.schema, seed=0, cache_dir=cache, show=lambda _: None)


def test_a_model_without_weights_of_members_is_left_alone(prepared: Prepared) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(2, 1))

        def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
            return self.bias.expand(len(x_num), 2, 1)

    member = Member(encoder=prepared.encoder, model=Two())
    assert choose_members(member, prepared.tables["val"]) is None


def new_pack(prepared: Prepared) -> Pack:
    """A pack of untrained members that are sure of themselves, so that a mean of some is better than each."""
    torch.manual_seed(0)
    facts = (prepared.encoder.num_numeric, prepared.encoder.cardinalities, prepared.encoder.num_outputs)
    model = Pack(*facts, members=4, width=8, depth=1, num_bins=4, embedding_dim=4)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.mul_(4.0)
    return model.eval()


def test_of_a_large_val_some_rows_are_compared(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    member, val = Member(encoder=prepared.encoder, model=new_pack(prepared)), prepared.tables["val"]
    seen = []
    monkeypatch.setattr(members, "CELLS", 4 * 2 * 10)
    monkeypatch.setattr(members, "selected", lambda parts, y, *_: seen.append((len(parts), parts[0].shape, y)))
    assert choose_members(member, val) is None
    (count, shape, y), step = seen[0], -(-val.num_rows // 10)
    assert (count, shape) == (4, (len(y), 2))
    assert y.tolist() == val.take(np.arange(0, val.num_rows, step)).y.tolist()


def test_predictions_are_the_weighted_mean_of_the_members(prepared: Prepared) -> None:
    model = new_pack(prepared)
    member, val = Member(encoder=prepared.encoder, model=model), prepared.tables["val"]
    rows = val.take(np.arange(val.num_rows))
    with torch.inference_mode():
        logits = model(torch.from_numpy(rows.x_num), torch.from_numpy(rows.x_cat))
    alone = logits[:, :, 0].double().sigmoid().numpy()
    losses = [log_loss(rows.y, probs) for probs in alone.T]
    found = choose_members(member, val)
    assert found is not None
    assert model.member_weights.tolist() == list(found.weights)
    assert 1 < sum(weight > 0 for weight in found.weights) < 4
    expected = alone @ np.array(found.weights) / sum(found.weights)
    np.testing.assert_allclose(member.spread(member.logits(rows.x_num, rows.x_cat))[:, 1], expected, atol=1e-6)
    assert found.after == pytest.approx(log_loss(rows.y, expected), rel=1e-5)
    assert found.before == pytest.approx(log_loss(rows.y, alone.mean(axis=1)), rel=1e-5)
    assert found.after <= min(*losses, found.before) + 1e-6
    hot = replace(member, temperature=(2.0,))
    odds = np.log(expected / (1 - expected)) / 2.0
    probs = hot.spread(hot.logits(rows.x_num, rows.x_cat))[:, 1]
    np.testing.assert_allclose(probs, 1 / (1 + np.exp(-odds)), atol=1e-6)


def multilabel_tables() -> dict[str, pa.Table]:
    """The label and a coin as two columns of 0 and 1."""
    found, rng = {}, np.random.default_rng(0)
    for split, part in tables().items():
        yes = pc.equal(part["label"], "yes").cast(pa.int8())
        coin = pa.array(rng.integers(0, 2, part.num_rows, dtype=np.int8))
        found[split] = part.drop_columns("label").append_column("yes", yes).append_column("coin", coin)
    return found


def trained(commands: Commands, root: Path, *overrides: str) -> dict[str, Any]:
    ended = commands.train(root, "model=pack", "model.members=4", "trainer.max_epochs=2", *overrides)
    assert ended.code == 0, ended.err
    report: dict[str, Any] = json.loads((root / "out" / REPORT).read_text())
    if "selection" in report:
        assert selection_line(report["selection"]) in ended.out
    return report


def test_a_run_exports_the_chosen_members(commands: Commands, tmp_path: Path) -> None:
    write(tmp_path / "data", tables())
    report = trained(commands, tmp_path, "schema.id=row_id")
    chosen = report["selection"]
    assert chosen["after"] <= chosen["before"]
    assert report["val_raw_log_loss"] == pytest.approx(chosen["after"], rel=1e-5)
    weights = load_file(tmp_path / "out" / MODEL / WEIGHTS)["member_weights"]
    assert weights.tolist() == chosen["weights"]
    model = load(tmp_path / "out" / MODEL)
    (member,) = model.members
    batch = pq.read_table(tmp_path / "data" / "test").combine_chunks().to_batches()[0]
    inputs = (torch.from_numpy(part) for part in member.encoder.transform(batch))
    with torch.inference_mode():
        alone = member.model(*inputs)[:, :, 0].double().sigmoid().numpy()
    mean = alone @ weights.double().numpy() / weights.sum().item()
    odds = np.log(mean / (1 - mean)) / member.temperature[0]
    expected = 1 / (1 + np.exp(-odds))
    np.testing.assert_allclose(model.predict_proba(batch)[:, 1], expected, atol=1e-6)
    stored = pq.read_table(tmp_path / "out" / "predictions" / "test.parquet")
    np.testing.assert_allclose(stored["prob_yes"].to_numpy(), expected, atol=1e-6)


@pytest.mark.slow
def test_folds_and_labels_choose_their_own(commands: Commands, tmp_path: Path) -> None:
    write(tmp_path / "data", multilabel_tables())
    report = trained(commands, tmp_path, "schema.label=[yes,coin]", "data.folds=2")
    assert "selection" not in report
    folds = [json.loads((tmp_path / "out" / "folds" / name / REPORT).read_text()) for name in "12"]
    for place, fold in enumerate(folds):
        weights = load_file(tmp_path / "out" / MODEL / "members" / str(place) / WEIGHTS)["member_weights"]
        assert weights.tolist() == fold["selection"]["weights"]
        assert fold["selection"]["after"] <= fold["selection"]["before"]
