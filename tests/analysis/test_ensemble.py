"""Runs that stored their predictions become one model; scores are scikit-learn's, the mean is made by hand."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, log_loss, roc_auc_score

import tabstep
from tabstep import cli
from tabstep.analysis.ensemble import build_ensemble
from tabstep.artifact import load as loading
from tabstep.artifact import save as saving
from tabstep.encoding.encoder import Encoder, EncoderOptions
from tabstep.errors import UserError
from tabstep.run_files import MODEL, PREDICTIONS, REPORT
from tabstep.schema import Schema, Task
from tabstep.serving import handler as inference
from tabstep.sweep.ledger import Header, create_sweep
from tabstep.system.atomic_write import file_digest
from tabstep.tables.source import open_source

SCALINGS = ("quantile", "standard", "quantile")
SCHEMAS: dict[Task, Schema] = {
    "binary": Schema(id="row_id", label=("label",), numeric=("age", "income"), categorical=("city", "member")),
    "multiclass": Schema(id="row_id", label=("city",), numeric=("age", "income"), categorical=("member", "label")),
    "multilabel": Schema(label=("member", "old"), numeric=("age", "income"), categorical=("city", "label")),
}
Sweep = Callable[[Task], Path]


def probabilities(table: pa.Table) -> np.ndarray[Any, Any]:
    names = [name for name in table.column_names if name.startswith("prob_")]
    return np.stack([table[name].to_numpy() for name in names], axis=1)


def save_run(directory: Path, data: Path, task: Task, seed: int) -> None:
    """Leave what a run leaves, with random weights: what an ensemble is made of."""
    schema = SCHEMAS[task]
    source = open_source(str(data / "train"), split="train")
    options = EncoderOptions(scaling=SCALINGS[seed], max_categories=100, min_frequency=1)
    encoder = Encoder.fit(source, schema, options=options, task=task)
    architecture = loading.Architecture(
        name="mlp",
        num_numeric=encoder.num_numeric,
        cardinalities=encoder.cardinalities,
        num_outputs=encoder.num_outputs,
        options={"width": 4 + 4 * seed, "depth": 1, "dropout": 0.0, "num_bins": 4, "embedding_dim": 4},
    )
    torch.manual_seed(seed)
    saving.save(
        directory / MODEL,
        weights={name: 3 * weight for name, weight in architecture.build().state_dict().items()},
        architecture=architecture,
        encoder=encoder,
        golden=next(source.batches(schema.features, 8)),
        config={"seed": seed},
        metrics={},
    )
    predictor = tabstep.load(directory / MODEL)
    (directory / PREDICTIONS).mkdir()
    for split in ("val", "test"):
        predictor.predict_file(data / split, directory / PREDICTIONS / f"{split}.parquet")
    (directory / REPORT).write_text(json.dumps({"objective": "val_auroc"}))


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labels")
    for split in ("train", "val", "test"):
        table = pq.read_table(tiny_data / split)
        old = pa.array([int((age or 0) > 40) for age in table["age"].to_pylist()])
        (root / split).mkdir()
        pq.write_table(table.append_column("old", old), root / split / "rows.parquet", write_page_checksum=True)
    return root


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    root = tmp_path_factory.mktemp("sweeps")

    def make(task: Task) -> Path:
        if not (root / task).exists():
            for seed in range(len(SCALINGS)):
                save_run(root / task / str(seed), data, task, seed)
        return root / task

    return make


@pytest.fixture
def sweep(made: Sweep, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made("binary"), tmp_path / "sweep"))


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_it_predicts_the_weighted_mean_of_its_members(made: Sweep, task: Task, data: Path, tmp_path: Path) -> None:
    sweep = made(task)
    ensemble = build_ensemble(sweep, tmp_path / "out", objective="val_log_loss")
    assert sum(map(ensemble.weight, ensemble.counts)) == pytest.approx(1.0)
    assert ensemble.scores["val_log_loss"] <= min(ensemble.singles.values())
    predictor = tabstep.load(tmp_path / "out" / MODEL)
    for split in ("val", "test"):
        parts = {name: probabilities(tabstep.load(sweep / name / MODEL).predict(data / split)) for name in "012"}
        expected = sum(ensemble.weight(name) * parts[name].astype(np.float64) for name in ensemble.counts)
        found = predictor.predict(data / split)
        np.testing.assert_allclose(probabilities(found), expected, atol=1e-6)
        stored = pq.read_table(tmp_path / "out" / PREDICTIONS / f"{split}.parquet")
        assert stored.schema == found.schema
        assert stored.column_names == pq.read_table(sweep / "0" / PREDICTIONS / f"{split}.parquet").column_names
        np.testing.assert_allclose(probabilities(stored), expected, atol=1e-6)
    assert len(ensemble.counts) > 1, "one member would test nothing"


def test_scores_and_gain_are_those_of_the_stored_predictions(sweep: Path) -> None:
    ensemble = build_ensemble(sweep, sweep / "ensemble")
    report = json.loads((sweep / "ensemble" / REPORT).read_text())

    def scores(directory: Path) -> dict[str, float]:
        found = {}
        for split in ("val", "test"):
            table = pq.read_table(directory / PREDICTIONS / f"{split}.parquet")
            truth = np.array([label == "yes" for label in table["label"].to_pylist()])
            probs = table["prob_yes"].to_numpy()
            found |= {
                f"{split}_auroc": roc_auc_score(truth, probs),
                f"{split}_average_precision": average_precision_score(truth, probs),
                f"{split}_log_loss": log_loss(truth, probs.astype(np.float64)),
                f"{split}_accuracy": accuracy_score(truth, probs > 0.5),
            }
        return found

    singles = {name: scores(sweep / name) for name in "012"}
    best = max(singles, key=lambda name: singles[name]["val_auroc"])
    assert report["best_single"]["run"] == best
    assert ensemble.scores["val_auroc"] >= singles[best]["val_auroc"] - 1e-12
    for key, value in scores(sweep / "ensemble").items():
        assert report[key] == pytest.approx(value, abs=1e-6)
        assert report["best_single"][key] == pytest.approx(singles[best][key], abs=1e-6)
        sign = -1 if key.endswith("loss") else 1
        assert report["gain"][key] == pytest.approx(sign * (value - singles[best][key]), abs=1e-6)
    assert [member["run"] for member in report["members"]] == list(ensemble.counts)
    for member in report["members"]:
        assert member["val_auroc"] == pytest.approx(singles[member["run"]]["val_auroc"])


def test_it_serves_like_any_other_model(sweep: Path, data: Path) -> None:
    build_ensemble(sweep, sweep / "ensemble")
    model = inference.model_fn(str(sweep / "ensemble" / MODEL))
    rows = pq.read_table(data / "val").select(["income", "age", "city", "member"]).slice(0, 5)
    body = pa.BufferOutputStream()
    pq.write_table(rows, body)
    request = inference.input_fn(body.getvalue().to_pybytes(), "application/x-parquet")
    answer, _ = inference.output_fn(inference.predict_fn(request, model), "application/json")
    served = [row["probabilities"]["yes"] for row in json.loads(answer)["predictions"]]
    assert served == pytest.approx(tabstep.load(sweep / "ensemble" / MODEL).predict(rows)["prob_yes"].to_pylist())
    assert (sweep / "ensemble" / MODEL / "code" / "inference.py").is_file()


def damage_weights(model: Path) -> None:
    file = model / "members" / "0" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def change_shares(model: Path) -> None:
    file = model / loading.ENSEMBLE
    file.write_text(json.dumps({"weights": [1e-9, *json.loads(file.read_text())["weights"][1:]]}))
    manifest = json.loads((model / "manifest.json").read_text())
    manifest["files"][loading.ENSEMBLE] = file_digest(file)
    (model / "manifest.json").write_text(json.dumps(manifest))


def lose_member(model: Path) -> None:
    shutil.rmtree(model / "members" / "1")


def lose_shares(model: Path) -> None:
    (model / loading.ENSEMBLE).unlink()


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (damage_weights, "members/0/model.safetensors is damaged or was changed"),
        (change_shares, "golden rows come out different"),
        (lose_member, "members/1/calibration.json is missing"),
        (lose_shares, "ensemble.json does not fit manifest.json"),
    ],
)
def test_damage_is_seen(made: Sweep, tmp_path: Path, damage: Callable[[Path], None], line: str) -> None:
    build_ensemble(made("binary"), tmp_path / "out", objective="val_log_loss")
    damage(tmp_path / "out" / MODEL)
    with pytest.raises(UserError, match=line):
        tabstep.load(tmp_path / "out" / MODEL)


def test_left_over_shares_do_not_change_a_single_model(made: Sweep, sweep: Path, tmp_path: Path) -> None:
    build_ensemble(made("binary"), tmp_path / "out")
    shutil.copy(tmp_path / "out" / MODEL / loading.ENSEMBLE, sweep / "0" / MODEL)
    with pytest.raises(UserError, match="does not fit manifest"):
        tabstep.load(sweep / "0" / MODEL)


def test_again_with_more_runs_replaces_it_and_never_takes_itself(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(sweep / "2", sweep.parent / "2")
    assert len(build_ensemble(sweep, sweep / "ensemble").singles) == 2
    shutil.move(sweep.parent / "2", sweep / "2")
    shutil.copytree(sweep / "0", sweep / "1" / "previous-1")
    ensemble = build_ensemble(sweep, sweep / "ensemble")
    assert list(ensemble.singles) == ["0", "1", "2"]
    assert json.loads((sweep / "ensemble" / REPORT).read_text())["candidates"] == 3
    assert capsys.readouterr().out == ""


def test_a_run_without_predictions_is_left_out_and_named(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "1" / PREDICTIONS / "val.parquet").unlink()
    shutil.rmtree(sweep / "2" / MODEL)
    assert list(build_ensemble(sweep, sweep / "ensemble").counts) == ["0"]
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "run 1 is left out: it has no predictions/val.parquet",
        "run 2 is left out: it has no model/manifest.json",
    ]


def test_without_test_predictions_there_are_no_test_scores(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "012":
        (sweep / name / PREDICTIONS / "test.parquet").unlink()
    ensemble = build_ensemble(sweep, sweep / "ensemble")
    assert {key.partition("_")[0] for key in ensemble.scores} == {"val"}
    assert capsys.readouterr().out.startswith("no scores of test: run ")


def rewrite(sweep: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    file = sweep / "1" / PREDICTIONS / "val.parquet"
    pq.write_table(change(pq.read_table(file)), file)


def other_rows(sweep: Path) -> None:
    rewrite(sweep, lambda table: table.slice(1))


def other_columns(sweep: Path) -> None:
    rewrite(sweep, lambda table: table.drop(["prob_no", "prob_yes"]))


def no_parquet(sweep: Path) -> None:
    (sweep / "1" / PREDICTIONS / "val.parquet").write_bytes(b"PAR1")


def other_objective(sweep: Path) -> None:
    (sweep / "1" / REPORT).write_text(json.dumps({"objective": "val_f1"}))


def odd_objective(sweep: Path) -> None:
    for name in "012":
        (sweep / name / REPORT).write_text(json.dumps({"objective": "train_loss"}))


def no_runs(sweep: Path) -> None:
    for name in "012":
        (sweep / name / REPORT).unlink()


def no_models(sweep: Path) -> None:
    for name in "012":
        shutil.rmtree(sweep / name / MODEL)


def one_class(sweep: Path) -> None:
    for name in "012":
        file = sweep / name / PREDICTIONS / "val.parquet"
        table = pq.read_table(file)
        pq.write_table(table.filter(pa.compute.equal(table["label"], "yes")), file)


def damaged_model(sweep: Path) -> None:
    for name in "012":
        damage_file = sweep / name / MODEL / "config.yaml"
        damage_file.write_text("seed: 7\n")


def model_of_a_run(sweep: Path) -> None:
    shutil.copytree(sweep / "0", sweep / "ensemble")


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (other_rows, "sweep/1: its rows of val are not those of .*sweep/0: .*set data.val for all of them"),
        (other_columns, "sweep/1/predictions/val.parquet: does not hold the predictions of .*sweep/1/model"),
        (no_parquet, "sweep/1/predictions/val.parquet: is damaged"),
        (other_objective, r"the runs have several objectives \(val_auroc, val_f1\): choose one with --objective"),
        (odd_objective, "objective of the runs: no score of stored predictions is called 'train_loss'"),
        (no_runs, "sweep: holds no finished run"),
        (no_models, "sweep: no run has both a model and predictions of val"),
        (one_class, "sweep: val_auroc is nan for every run: choose another one with --objective"),
        (damaged_model, "model: config.yaml is damaged or was changed"),
        (model_of_a_run, "sweep/ensemble: holds the model of a run: choose another directory with --out"),
        (shutil.rmtree, "sweep: no such directory: name the directory of a sweep"),
    ],
)
def test_mistake_is_one_line(
    sweep: Path, fault: Callable[[Path], None], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fault(sweep)
    before = sorted(sweep.rglob("*"))
    assert cli.main(["ensemble", str(sweep)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert re.search(line, said)
    assert sorted(path for path in sweep.rglob("*") if path.name != "ensemble" and ".tmp" not in str(path)) == [
        path for path in before if path.name != "ensemble"
    ]


def test_runs_of_other_columns_are_refused(made: Sweep, tmp_path: Path) -> None:
    for number, task in enumerate(("binary", "multiclass")):
        shutil.copytree(made(task) / "0", tmp_path / str(number))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"1: its task is 'multiclass', that of .*0 is 'binary': members"):
        build_ensemble(tmp_path, tmp_path / "out")


def test_val_loss_is_not_known_from_predictions(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ensemble = build_ensemble(sweep, sweep / "ensemble", objective="val_loss")
    assert ensemble.objective == "val_log_loss"
    assert "val_log_loss, without weights and smoothing, takes its place" in capsys.readouterr().out


def test_objective_of_a_sweep_is_what_it_searched_by(sweep: Path) -> None:
    header = Header(
        objectives=("seconds", "val_f1"),
        directions=("minimize", "maximize"),
        space={},
        sampler="nsgaii",
        pruner="none",
        seed=0,
        study="",
    )
    create_sweep(sweep, header)
    assert build_ensemble(sweep, sweep / "ensemble").objective == "val_f1"


def test_nan_predictions_are_never_chosen(sweep: Path) -> None:
    rewrite(sweep, lambda table: table.set_column(2, "prob_no", pa.array([math.nan] * len(table), pa.float32())))
    rewrite(sweep, lambda table: table.set_column(3, "prob_yes", pa.array([math.nan] * len(table), pa.float32())))
    ensemble = build_ensemble(sweep, sweep / "ensemble")
    assert "1" not in ensemble.counts
    assert ensemble.best != "1"
    report = json.loads((sweep / "ensemble" / REPORT).read_text())
    assert report["candidates"] == 3


def test_command_says_what_was_gained(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ensemble", str(sweep), "-o", str(tmp_path / "out"), "--rounds", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    report = json.loads((tmp_path / "out" / REPORT).read_text())
    assert [member["weight"] for member in report["members"]] == [1.0]
    best = report["best_single"]["run"]
    val, test = (f"{split}_auroc {report[f'{split}_auroc']:.4f} (+0.0000)" for split in ("val", "test"))
    assert said[-2] == f"ensemble of 1 run against run {best} alone: {val}, {test}"
    assert said[-1] == f"model:       {tmp_path / 'out' / 'model'}"
