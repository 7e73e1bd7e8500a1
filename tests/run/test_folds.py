"""Cross-validation as one run: what each fold predicts, what the average is, and that it goes on."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from tests.conftest import make_table

import tabstep
from tabstep.analysis.ensemble import build_ensemble
from tabstep.analysis.run_analysis import Limits
from tabstep.analysis.run_report import report_again
from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError, UserError
from tabstep.run import fold_results
from tabstep.run.fold_results import Fold, Joined
from tabstep.run.run import run
from tabstep.run_files import predictions_file
from tabstep.schema import Split
from tabstep.system.ranks import Ranks
from tabstep.training.classifier import Classifier

SMALL = [
    "schema.id=row_id",
    "schema.label=label",
    "data.batch_size=64",
    "data.eval_batch_size=1000",
    "model.width=8",
    "model.depth=1",
    "model.num_bins=4",
    "trainer.max_epochs=2",
    "trainer.log_interval=0",
    "report=none",
]
ROOT = Path(__file__).resolve().parents[2]


def crossed(place: Path, *overrides: str, name: str = "run") -> Path:
    places = [f"paths.output_dir={place}/{name}", f"paths.cache_dir={place}/cache"]
    config = composed([*places, *SMALL, *overrides], [config_dir()])
    value = run(parse(config), config)
    report = json.loads((place / name / "report.json").read_text())
    assert value == report[report["objective"]]
    return place / name


@pytest.fixture(scope="module")
def three(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crossed(tmp_path_factory.mktemp("three"), f"data.path={tiny_data}", "data.folds=3", "decision=f1")


def digest(output: Path) -> dict[str, str]:
    """Digest what a cross-validation leaves, each file's content but for times."""
    found = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.name in ("report.json", "metrics.json"):
            report = json.loads(path.read_text())
            content = repr({key: value for key, value in report.items() if key != "seconds"}).encode()
        elif path.suffix in (".safetensors", ".parquet") or path.name in ("ensemble.json", "calibration.json"):
            content = path.read_bytes()
        else:
            continue
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def test_a_row_is_predicted_once_by_the_model_that_has_not_seen_it(three: Path, tiny_data: Path) -> None:
    rows = pa.concat_tables([pq.read_table(tiny_data / f"{split}/{split}.parquet") for split in ("train", "val")])
    found = pq.read_table(predictions_file(three, "val"))
    assert found.column_names == ["row_id", "label", "prob_no", "prob_yes", "prediction", "fold"]
    assert found["row_id"].equals(rows["row_id"])  # all 260, in their order
    assert np.bincount(found["fold"]).tolist() == [0, 87, 87, 86]
    for fold in (1, 2, 3):
        own = pa.compute.equal(found["fold"], fold)
        expected = tabstep.load(three / "folds" / str(fold) / "model").predict(rows.filter(own))
        for name in ("prob_no", "prob_yes"):
            np.testing.assert_allclose(found.filter(own)[name], expected[name], atol=1e-6)
        seen = json.loads((three / "folds" / str(fold) / "report.json").read_text())
        labels = (found.filter(own)["label"].to_numpy() == "yes").astype(int)
        assert roc_auc_score(labels, expected["prob_yes"]) == pytest.approx(seen["val_auroc"], abs=1e-5)


def test_the_averaged_model_is_the_mean_of_the_folds(three: Path, tiny_data: Path) -> None:
    test = pq.read_table(tiny_data / "test/test.parquet")
    members = [tabstep.load(three / "folds" / str(fold) / "model").predict(test)["prob_yes"] for fold in (1, 2, 3)]
    mean = np.mean([member.to_numpy() for member in members], axis=0)
    model = tabstep.load(three / "model")  # whose golden rows are checked by that
    np.testing.assert_allclose(model.predict(test)["prob_yes"], mean, atol=1e-6)
    stored = pq.read_table(predictions_file(three, "test"))
    np.testing.assert_allclose(stored["prob_yes"], mean, atol=1e-6)
    report = json.loads((three / "report.json").read_text())
    labels = (test["label"].to_numpy() == "yes").astype(int)
    assert report["test_auroc"] == pytest.approx(roc_auc_score(labels, mean), abs=1e-5)
    assert report["test_log_loss"] == pytest.approx(log_loss(labels, mean), abs=1e-5)


def test_the_report_has_the_folds_their_mean_and_spread_and_what_is_out_of_fold(three: Path) -> None:
    report = json.loads((three / "report.json").read_text())
    folds = [json.loads((three / "folds" / str(fold) / "report.json").read_text()) for fold in (1, 2, 3)]
    for key in ("val_auroc", "val_loss", "train_loss"):
        values = [fold[key] for fold in folds]
        assert report[key] == pytest.approx(np.mean(values))
        assert report["spread"][key] == pytest.approx(np.std(values, ddof=1))
        assert [fold[key] for fold in report["folds"]] == values
    assert report["single_test"]["auroc"] == pytest.approx(np.mean([fold["test_auroc"] for fold in folds]))
    assert report["epochs"] == 6
    found = pq.read_table(predictions_file(three, "val"))
    labels = (found["label"].to_numpy() == "yes").astype(int)
    assert report["out_of_fold"]["rows"] == 260
    assert report["out_of_fold"]["auroc"] == pytest.approx(roc_auc_score(labels, found["prob_yes"]), abs=1e-5)
    assert report["out_of_fold"]["log_loss"] == pytest.approx(log_loss(labels, found["prob_yes"]), abs=1e-5)


def test_the_threshold_is_the_best_of_all_out_of_fold_predictions(three: Path) -> None:
    """The oracle tries every probability that there is."""
    found = pq.read_table(predictions_file(three, "val"))
    labels, probs = found["label"].to_numpy() == "yes", found["prob_yes"].to_numpy().astype(np.float64)

    def f1(threshold: float) -> float:
        taken = probs > threshold
        return float(2 * (taken & labels).sum() / (taken.sum() + labels.sum()))

    (threshold,) = tabstep.load(three / "model").thresholds
    best = max(f1(value) for value in [0.0, *probs.tolist()])
    assert f1(threshold) == pytest.approx(best)
    decision = json.loads((three / "report.json").read_text())["decision"]
    assert decision["thresholds"] == [threshold]
    assert decision["val"]["f1"] == pytest.approx(best)
    assert (found["prediction"].to_numpy() == "yes").tolist() == (probs > threshold).tolist()


def test_the_same_command_again_finds_it_complete(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (f"data.path={tiny_data}", "data.folds=2")
    before = digest(crossed(tmp_path, *command))
    capsys.readouterr()
    crossed(tmp_path, *command)
    said = capsys.readouterr().out
    assert "resume: this run is complete (all 2 folds); resume=never starts anew" in said
    assert "Epoch: 1" not in said
    assert digest(tmp_path / "run") == before
    predictions_file(tmp_path / "run", "val").write_bytes(b"damaged")
    crossed(tmp_path, *command)
    assert "predictions/val.parquet of this finished run is damaged or missing" in capsys.readouterr().out
    assert digest(tmp_path / "run") == before
    crossed(tmp_path, *command, "resume=never")
    assert digest(tmp_path / "run" / "previous-1").keys() == before.keys()


def test_stopped_in_its_second_fold_it_ends_like_one_that_was_not(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (f"data.path={tiny_data}", "data.folds=2")
    whole = digest(crossed(tmp_path, *command, name="whole"))
    real, calls = Classifier.on_train_epoch_end, []

    def stopping(self: Classifier) -> None:
        calls.append(1)
        if len(calls) == 4:  # the last epoch of the second fold
            raise ValueError("stopped")
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "on_train_epoch_end", stopping)
        with pytest.raises(ValueError, match="stopped"):
            crossed(tmp_path, *command, name="stopped")
    assert not (tmp_path / "stopped" / "report.json").exists()
    capsys.readouterr()
    crossed(tmp_path, *command, name="stopped")
    said = capsys.readouterr().out
    assert "resume: this run is complete (trainer.max_epochs=2 reached)" in said  # the first fold
    assert f"resume: going on from {tmp_path}/stopped/folds/2/checkpoints" in said
    assert digest(tmp_path / "stopped") == whole


@pytest.mark.slow
def test_killed_anywhere_it_ends_bit_for_bit_like_one_that_was_not(tiny_data: Path, tmp_path: Path) -> None:
    kills = Path(__file__).with_name("kills.py")
    points = ("closed", "exported")
    command = [sys.executable, str(kills), str(tiny_data), str(tmp_path), *points, "data.folds=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    log = tmp_path / "log.txt"
    assert done.returncode == 0, done.stderr + (log.read_text()[-3000:] if log.exists() else "")
    cases: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert {case["point"] for case in cases} == set(points)
    assert len(cases) >= 8
    assert not [case for case in cases if not case["equal"]]


def test_in_time_the_earliest_rows_have_no_prediction_and_later_models_count_more(tmp_path: Path) -> None:
    table = make_table(120).append_column("day", pa.array(np.random.default_rng(0).permutation(120)))
    pq.write_table(table, tmp_path / "t.parquet")
    data = [f"data.train={tmp_path}/t.parquet", "data.split.time=day", "schema.drop=[day]", "data.checks=warn"]
    output = crossed(tmp_path, *data, "data.folds=3")
    found = pq.read_table(predictions_file(output, "val"))
    days = dict(zip(table["row_id"].to_pylist(), table["day"].to_pylist(), strict=True))
    assert sorted(days[row] for row in found["row_id"].to_pylist()) == list(range(30, 120))
    assert [days[row] // 30 for row in found["row_id"].to_pylist()] == found["fold"].to_pylist()
    weights = [member.weight for member in tabstep.load(output / "model").members]
    assert weights == [30, 60, 90]
    with pytest.raises(UserError, match=r"data.folds: class '(yes|no)' has .* rows, fewer than the 100 folds"):
        crossed(tmp_path, f"data.train={tmp_path}/t.parquet", "data.folds=100", name="other")
    assert not (tmp_path / "other" / "folds").exists()


def test_one_fold_alone_is_the_run_that_the_whole_has_made_of_it(three: Path, tiny_data: Path, tmp_path: Path) -> None:
    alone = crossed(tmp_path, f"data.path={tiny_data}", "data.folds=3", "data.fold=2", "decision=f1")
    mine, theirs = digest(alone), digest(three / "folds" / "2")
    assert mine == theirs
    assert len(mine) > 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.folds=1"], "data.folds: expected a whole number >= 2"),
        (["data.fold=1"], "data.fold: is 1, and data.folds is null"),
        (["data.folds=3", "data.fold=4"], "data.fold: is 4, and data.folds is 3"),
        (["data.folds=3", "trainer.num_nodes=2"], "data.folds: folds are trained one after another on one machine"),
        (["data.folds=3", "resume=logs/x.ckpt"], "resume: each fold goes on from a checkpoint of its own"),
        (["data.folds=3", "export=onnx"], "export: the models of folds have codes of their own"),
    ],
)
def test_what_does_not_go_with_folds(overrides: list[str], message: str) -> None:
    with pytest.raises(ProblemsError, match=message):
        parse(composed(["paths.output_dir=x", *overrides], [config_dir()]))


def test_its_page_shows_the_folds_and_one_fold_s_explains_its_columns(three: Path) -> None:
    limits = Limits(rows=50, seconds=60)
    said: list[str] = []
    page = report_again(three, limits, said.append).read_text(encoding="utf-8")
    report = json.loads((three / "report.json").read_text())
    assert "<h2" in page
    assert "out of fold" in page
    assert f"{report['spread']['val_auroc']:.4f}" in page
    assert "could not" not in page
    assert "Error" not in page
    fold = report_again(three / "folds" / "2", limits, said.append).read_text(encoding="utf-8")
    assert "income" in fold
    assert not said
    assert json.loads((three / "folds" / "2" / "analysis.json").read_text())["data"]["val"]["rows"] == 87


@pytest.mark.slow
def test_a_trial_of_a_sweep_is_compared_by_the_mean_over_its_folds(tiny_data: Path, tmp_path: Path) -> None:
    words = [f"data.path={tiny_data}", "data.folds=2", f"paths.cache_dir={tmp_path}/cache", "model.width=4,8"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", *words, f"hydra.sweep.dir={tmp_path}/sweep"]
    own = [word for word in SMALL if not word.startswith("model.width")]
    done = subprocess.run([*command, *own], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "sweep" / "leaderboard.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["state"] for row in rows} == {"complete"}
    for row in rows:
        folds = tmp_path / "sweep" / row["trial"] / "folds"
        values = [json.loads((folds / fold / "report.json").read_text())["val_auroc"] for fold in ("1", "2")]
        assert float(row["val_auroc"]) == pytest.approx(np.mean(values))


def test_what_cannot_begin_or_go_on(
    three: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (f"data.path={tiny_data}", "data.folds=3")
    with pytest.raises(UserError, match=r"resume=must: .*/run/folds/1/checkpoints holds no checkpoint"):
        crossed(tmp_path, *command, "resume=must")
    with pytest.raises(UserError, match="its runs are averages already, of folds or other runs"):
        build_ensemble(three, tmp_path / "out")
    monkeypatch.setattr("tabstep.run.run.current_ranks", lambda: Ranks(rank=0, world_size=2, launched=True))
    with pytest.raises(UserError, match="one process trains fold after fold, and here are several"):
        crossed(tmp_path, *command)
    assert not (tmp_path / "run" / "folds").exists()


def test_several_labels_some_missing_in_folds_of_whole_groups(tmp_path: Path) -> None:
    """Every third row lacks a label and is left out; each customer's rows are predicted by one model."""
    table = make_table(240).drop_columns(["label"])
    sick = [None if row % 3 == 0 else row * 7 % 11 % 2 for row in range(240)]
    table = table.append_column("sick", pa.array(sick)).append_column("late", pa.array([row % 2 for row in range(240)]))
    table = table.append_column("customer", pa.array([row // 8 for row in range(240)]))
    pq.write_table(table, tmp_path / "t.parquet")
    data = [f"data.train={tmp_path}/t.parquet", "data.drop_unlabeled=true", "data.split.group=customer"]
    output = crossed(
        tmp_path, *data, "schema.label=[sick,late]", "schema.drop=[customer]", "data.folds=3", "decision=f1"
    )
    found = pq.read_table(predictions_file(output, "val"))
    assert found["row_id"].to_pylist() == [row for i, row in enumerate(table["row_id"].to_pylist()) if i % 3]
    folds: dict[int, set[int]] = {}
    for row, fold in zip(found["row_id"].to_pylist(), found["fold"].to_pylist(), strict=True):
        folds.setdefault(int(row.split("-")[1]) // 8, set()).add(fold)
    assert len(folds) == 30
    assert all(len(each) == 1 for each in folds.values())
    assert set.union(*folds.values()) == {1, 2, 3}
    report = json.loads((output / "report.json").read_text())
    expected = np.mean([roc_auc_score(found[name].to_numpy(), found[f"prob_{name}"]) for name in ("sick", "late")])
    assert report["out_of_fold"]["auroc"] == pytest.approx(expected, abs=1e-5)
    thresholds = tabstep.load(output / "model").thresholds
    assert len(thresholds) == 2
    assert (found["prob_late"].to_numpy() > thresholds[1]).tolist() == found["prediction_late"].to_pylist()


WEIGHTED = ["schema.weight=w", "data.folds=3", "data.checks=off", "trainer.max_epochs=1"]


def test_rows_count_by_their_weights_in_what_is_out_of_fold_and_in_test(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, rows in (("train", 150), ("test", 60)):
        table = make_table(rows, seed=rows)
        pq.write_table(table.append_column("w", pa.array(rng.random(rows) * 1e-3)), tmp_path / f"{split}.parquet")
    places = [f"data.train={tmp_path}/train.parquet", f"data.test={tmp_path}/test.parquet"]
    output = crossed(tmp_path, *places, *WEIGHTED, "baselines=null")
    report = json.loads((output / "report.json").read_text())
    test = {key.removeprefix("test_"): value for key, value in report.items()}
    for split, table, found in (("val", "train", report["out_of_fold"]), ("test", "test", test)):
        stored = pq.read_table(predictions_file(output, split))
        weights = pq.read_table(tmp_path / f"{table}.parquet", columns=["w"])["w"].to_numpy()
        y, probs = np.array([label == "yes" for label in stored["label"].to_pylist()]), stored["prob_yes"].to_numpy()
        assert found["auroc"] == pytest.approx(roc_auc_score(y, probs, sample_weight=weights), abs=1e-6)
        expected = log_loss(y, probs.astype(np.float64), sample_weight=weights)
        assert found["log_loss"] == pytest.approx(expected, abs=1e-6)


def test_a_fold_in_which_no_row_counts_is_found_before_the_first_one_trains(tmp_path: Path) -> None:
    table = make_table(120, seed=1).append_column("g", pa.array([i % 4 for i in range(120)]))
    table = table.append_column("w", pa.array([0.0 if i % 4 == 1 else 1.0 for i in range(120)]))
    pq.write_table(table, tmp_path / "t.parquet")
    grouped = [f"data.train={tmp_path}/t.parquet", *WEIGHTED, "data.folds=4", "data.split.group=g", "schema.drop=[g]"]
    with pytest.raises(UserError, match=r"data.folds: every weight in column 'w' is zero in val of fold \d"):
        crossed(tmp_path, *grouped)
    assert not (tmp_path / "run" / "folds").exists()


CALLS: list[str] = []


def shuffled(location: str) -> pa.Table:
    """Read rows in an order that no second call gives."""
    CALLS.append(location)
    table = pq.read_table(location)
    return table.take(pa.array(np.random.default_rng(len(CALLS)).permutation(table.num_rows)))


def test_a_reader_of_unstable_order_is_asked_once(tiny_data: Path, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(tiny_data / "train"), tmp_path / "t.parquet")
    CALLS.clear()
    reader = [f"data.train={tmp_path}/t.parquet", f"data.reader.name={__name__}:shuffled", "data.checks=off"]
    output = crossed(tmp_path, *reader, "data.folds=2", "trainer.max_epochs=1")
    ids = pq.read_table(predictions_file(output, "val"))["row_id"].to_pylist()
    assert (len(CALLS), len(ids)) == (1, len(set(ids)))


def test_what_is_joined_does_not_hang_on_the_pieces_that_it_is_read_in(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_results, "_ROWS", 7)
    numbers = pq.read_table(predictions_file(three, "val"))["fold"].to_numpy()
    folds = [Fold.read(number, three / "folds" / str(number), {}, train_rows=173, weight=1.0) for number in (1, 2, 3)]
    joined = Joined(folds, numbers, decision="f1", extra=[], weights={})
    splits: tuple[Split, ...] = ("val", "test")
    for split in splits:
        joined.write(split, tmp_path)
        assert pq.read_table(predictions_file(tmp_path, split)).equals(pq.read_table(predictions_file(three, split)))
    report = json.loads((three / "report.json").read_text())
    assert joined.scores["val"]["auroc"] == pytest.approx(report["out_of_fold"]["auroc"])
