"""The page of runs that have ended: what it says is what lies beside it, and a failure in it is a line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import confusion_matrix

import tabstep
from tabstep import cli
from tabstep.analysis import run_page, run_pictures, run_report
from tabstep.analysis.dependence import Dependence
from tabstep.analysis.explanation import Explanation
from tabstep.analysis.run_analysis import Limits, analyse
from tabstep.analysis.sections import column_tables, facts
from tabstep.config.compose import composed
from tabstep.config.parse import parse, to_dict
from tabstep.encoding.encoder import Encoder
from tabstep.entry import config_dir
from tabstep.errors import UserError
from tabstep.page.pictures import styled
from tabstep.run.run import run
from tabstep.tables.source import open_source

HOSTILE = "</td><script>alert(1)</script>"
Runs = Callable[[str], Path]


class Page(HTMLParser):
    """Tables of a page by the heading above them, as rows of cells; and all of its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.text = ""
        self.tags: list[str] = []
        self.data: list[str] = []
        self.inputs: dict[str, dict[str, str | None]] = {}
        self._heading, self._tag = "", ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.data += [str(value) for name, value in attrs if name == "data-decisions"]
        if tag == "input":
            self.inputs[str(dict(attrs)["data-part"])] = dict(attrs)
        if tag == "h2":
            self._heading = ""
        if tag == "table":
            self.tables.setdefault(self._heading, []).append([])
        if tag == "tr":
            self.tables[self._heading][-1].append([])
        if tag in ("td", "th"):
            self.tables[self._heading][-1][-1].append("")
        self._tag = tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._tag == "h2":
            self._heading += data.strip()
        if self._tag in ("td", "th", "a", "small") and self.tables.get(self._heading) and data.strip():
            self.tables[self._heading][-1][-1][-1] += f" {data}" if self._tag == "small" else data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("table", "h2"):
            self._tag = ""


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny tables with a second 0/1 column, and a city whose name would be a script."""
    root = tmp_path_factory.mktemp("labels")
    for split in ("train", "val", "test"):
        table = pq.read_table(tiny_data / split)
        old = pa.array([int((age or 0) > 40) for age in table["age"].to_pylist()])
        city = pa.array([HOSTILE if city == "Ulm" else city for city in table["city"].to_pylist()])
        table = table.append_column("old", old).set_column(table.column_names.index("city"), "city", city)
        (root / split).mkdir()
        pq.write_table(table, root / split / "rows.parquet", write_page_checksum=True)
    return root


LABELS = {"binary": "schema.label=label", "multiclass": "schema.label=city", "multilabel": "schema.label=[member,old]"}


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    root = tmp_path_factory.mktemp("runs")

    def get(task: str) -> Path:
        if not (root / task).exists():
            train(root / task, data, LABELS[task])
        return root / task

    return get


def train(output: Path, data: Path, *overrides: str) -> Path:
    texts = [f"data.path={data}", "trainer=cpu", "trainer.max_epochs=2", "model.width=8", "model.depth=1", *overrides]
    texts += [f"paths.output_dir={output}", f"paths.cache_dir={output.parent / 'cache'}", "data.checks=warn"]
    settings = parse(composed(texts, [config_dir()]))
    run(settings, to_dict(settings))
    return output


@pytest.mark.parametrize("task", list(LABELS))
def test_page_says_what_the_run_left(runs: Runs, task: str) -> None:
    directory = runs(task)
    page = Page(directory / "report.html")
    report = json.loads((directory / "report.json").read_text())
    rows = {row[0]: row for row in page.tables["Scores"][0]}
    assert rows["split"] == ["split", "auroc", "average precision", "log loss", "accuracy", "f1"]
    for split in ("val", "test"):
        for place, name in enumerate(("auroc", "average_precision", "log_loss", "accuracy", "f1"), start=1):
            value, low, _, high = rows[split][place].split()
            assert float(value) == pytest.approx(report[f"{split}_{name}"], abs=6e-5)
            assert float(low) <= float(value) <= float(high)
    assert list(rows)[:4] == ["split", "train", "val", "test"]
    for name, scores in report["baselines"].items():
        assert float(rows[f"{name} on test"][3]) == pytest.approx(scores["test_log_loss"], abs=6e-5)
    assert page.tags.count("svg") >= 6
    assert page.tags.count("script") == 1
    assert not (directory / "report.html").read_text().count("<script>alert")
    assert "Nothing." in page.text or "of the data checks" in page.text
    assert json.loads((directory / "analysis.json").read_text())["problems"] == []


@pytest.mark.parametrize("task", list(LABELS))
def test_calibration_error_is_that_of_the_report(runs: Runs, task: str) -> None:
    report = json.loads((runs(task) / "report.json").read_text())
    shown = re.findall(r"\(ECE ([^)]*)\)", Page(runs(task) / "report.html").text)
    assert [float(value) for value in shown] == pytest.approx([report["test_raw_ece"], report["test_ece"]], abs=6e-5)


def test_confusion_and_thresholds_are_those_of_the_predictions(runs: Runs) -> None:
    directory = runs("binary")
    page = Page(directory / "report.html")
    test = pq.read_table(directory / "predictions" / "test.parquet")
    counts = confusion_matrix(test["label"].to_pylist(), test["prediction"].to_pylist(), labels=["no", "yes"])
    shown = [[int(cell.split()[0]) for cell in row[1:]] for row in page.tables["Confusion"][0][1:]]
    assert shown == counts.tolist()
    val = pq.read_table(directory / "predictions" / "val.parquet")
    truth, probs = np.array(val["label"].to_pylist()) == "yes", val["prob_yes"].to_numpy()
    (decisions,) = json.loads(page.data[0])
    for place, threshold in list(enumerate(decisions["thresholds"]))[::25]:
        tn, fp, fn, tp = confusion_matrix(truth, probs > threshold, labels=[False, True]).ravel()
        assert [decisions[part][place] for part in ("tn", "fp", "fn", "tp")] == [tn, fp, fn, tp]


def test_threshold_of_the_run_is_the_one_of_its_page(data: Path, tmp_path: Path) -> None:
    directory = train(tmp_path / "run", data, LABELS["binary"], "decision='cost={fp: 1, fn: 9}'")
    page = Page(directory / "report.html")
    decision = json.loads((directory / "report.json").read_text())["decision"]
    assert decision["thresholds"] != [0.5]
    test = pq.read_table(directory / "predictions" / "test.parquet")
    counts = confusion_matrix(test["label"].to_pylist(), test["prediction"].to_pylist(), labels=["no", "yes"])
    assert [[int(cell.split()[0]) for cell in row[1:]] for row in page.tables["Confusion"][0][1:]] == counts.tolist()
    rows = {row[0]: row for row in page.tables["Thresholds"][0]}
    assert list(rows) == ["threshold on", "val", "val at 0.5", "test", "test at 0.5"]
    assert rows["threshold on"][5] == "cost per row"
    assert float(rows["test"][5].split()[0]) == pytest.approx(decision["test"]["cost"], abs=1e-4)
    (outcomes,) = json.loads(page.data[0])
    place, last = (int(str(page.inputs["threshold"][name])) for name in ("value", "max"))
    assert outcomes["thresholds"][place] == decision["thresholds"][0]
    assert outcomes["start"] == place
    assert last == len(outcomes["thresholds"]) - 1 >= 1_000
    assert (page.inputs["cost-fp"]["value"], page.inputs["cost-fn"]["value"]) == ("1", "9")
    fp, fn, tp, tn = (outcomes[part][place] for part in ("fp", "fn", "tp", "tn"))
    assert (fp + 9 * fn) / (tp + fp + fn + tn) == pytest.approx(decision["val"]["cost"])
    assert 2 * tp / (2 * tp + fp + fn) == pytest.approx(decision["val"]["f1"])


def test_slider_of_each_label_starts_at_its_own_threshold(data: Path, tmp_path: Path) -> None:
    directory = train(tmp_path / "run", data, LABELS["multilabel"], "decision=f1", "baselines=null")
    outcomes = json.loads(Page(directory / "report.html").data[0])
    decision = json.loads((directory / "report.json").read_text())["decision"]
    assert [each["thresholds"][each["start"]] for each in outcomes] == decision["thresholds"]


@pytest.mark.parametrize("values", [("a", "b", None), (1.0, 2.0, 3.0)])
def test_one_series_has_its_name_at_the_axis_and_no_legend(values: tuple[Any, ...]) -> None:
    found = Dependence(column="city", values=values, means=((0.1, 0.9), (0.3, 0.7), (0.4, 0.6)))
    with styled():
        (one,) = run_pictures.dependence(found, ["no", "yes"], [1]).axes
        (two,) = run_pictures.dependence(found, ["no", "yes"], [0, 1]).axes
    assert (one.get_legend(), one.get_ylabel()) == (None, "mean probability of yes")
    assert [text.get_text() for text in two.get_legend().get_texts()] == ["no", "yes"]
    assert two.get_ylabel() == "mean probability"


def test_made_again_the_page_is_the_same(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(runs("multiclass"), directory)
    before = (directory / "report.html").read_text().replace("multiclass", "copy")
    (directory / "report.html").unlink()
    assert cli.main(["report", str(directory)]) == 0
    assert capsys.readouterr().out == f"report: {directory / 'report.html'}\n"
    assert (directory / "report.html").read_text().replace("multiclass", "copy") == before


def test_analysis_is_made_anew_from_the_tables(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(runs("binary"), directory)
    stored = json.loads((directory / "analysis.json").read_text())
    (directory / "analysis.json").unlink()
    lines: list[str] = []
    run_report.report_again(directory, Limits(rows=1_000, seconds=600.0), lines.append)
    again = json.loads((directory / "analysis.json").read_text())
    assert lines == []
    for part in ("data", "train_scores", "slices", "worst_rows", "explanation"):
        assert again[part] == stored[part], part

    def gone(*_: Any, **__: Any) -> Any:
        raise UserError("data.train: no such file")

    (directory / "analysis.json").unlink()
    monkeypatch.setattr(run_report, "open_source", gone)
    page = run_report.report_again(directory, Limits(rows=1_000, seconds=600.0), lines.append)
    assert lines == ["the tables of the run are not where they were: data.train: no such file"]
    assert "has no analysis of its columns" in page.read_text()


def test_times_in_text_are_read_again_as_the_run_has_read_them(data: Path, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        table = pq.read_table(data / split)
        days = np.datetime64("2026-11-27") - np.arange(len(table)) % 300
        (tmp_path / "dated" / split).mkdir(parents=True)
        dated = table.append_column("since", pa.array(np.datetime_as_string(days)))
        pq.write_table(dated, tmp_path / "dated" / split / "rows.parquet", write_page_checksum=True)
    directory = train(tmp_path / "run", tmp_path / "dated", LABELS["binary"])
    stored = json.loads((directory / "analysis.json").read_text())
    assert "since" in {column["column"] for column in stored["explanation"]["importance"]}
    (directory / "analysis.json").unlink()
    lines: list[str] = []
    run_report.report_again(directory, Limits(rows=1_000, seconds=600.0), lines.append)
    again = json.loads((directory / "analysis.json").read_text())
    assert lines == []
    for part in ("slices", "worst_rows", "explanation"):
        assert again[part] == stored[part], part


def test_commands_and_settings_show_no_secret(runs: Runs, tmp_path: Path) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(runs("binary"), directory)
    (directory / ".hydra").mkdir(exist_ok=True)
    overrides = [f"tags=['{HOSTILE}']", "launch.environment.DB_PASSWORD=hunter22", "data.path=s3://me:hunter22@bucket"]
    (directory / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    page = run_report.write_page(directory, directory / "model").read_text()
    assert "python train.py &#x27;tags=" in page
    assert "hunter22" not in page


def test_failure_is_a_line_and_the_rest_stays(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(runs("binary"), directory)
    (directory / "predictions" / "test.parquet").write_bytes(b"damaged")

    def fail(*_: Any) -> Any:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(run_page, "check_section", fail)
    page = Page(run_report.write_page(directory, directory / "model"))
    assert "Data checks: RuntimeError: on purpose" in page.text
    assert "test.parquet" in page.text
    assert "val" in {row[0] for row in page.tables["Scores"][0]}
    lines: list[str] = []
    monkeypatch.setattr(run_report, "load", fail)
    run_report.report_run(directory, directory / "model", {}, [], Limits(rows=1, seconds=1.0), lines.append)
    assert lines == ["report.html: could not be made: RuntimeError: on purpose"]


def test_time_that_is_over_is_said(runs: Runs, data: Path) -> None:
    predictor = tabstep.load(runs("binary") / "model")
    sources = {split: open_source(str(data / split), split=split) for split in ("train", "val")}
    found = analyse(predictor, sources, [], Limits(rows=10, seconds=1e-9), metric="auroc")
    assert found["problems"][0] == "data: left out: report.seconds=1e-09 were over"
    assert "explanation" not in found


def test_page_can_be_left_out_and_is_made_when_the_run_is_called_again(data: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", data, LABELS["binary"], "report=none")
    assert not (tmp_path / "run" / "report.html").exists()
    train(tmp_path / "run", data, LABELS["binary"], "report.rows=40")
    assert json.loads((tmp_path / "run" / "analysis.json").read_text())["explanation"]["rows"] == 40


def test_page_of_weighted_rows_says_that_slices_are_not(runs: Runs, tmp_path: Path) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(runs("binary"), directory)
    line = "Each row counts once here, whatever its 'importance'."
    assert "counts once" not in Page(directory / "report.html").text
    encoder = json.loads((directory / "model" / "encoder.json").read_text())
    encoder["schema"]["weight"] = "importance"
    facts = SimpleNamespace(encoder=Encoder.from_json(json.dumps(encoder)))
    assert column_tables._unweighted(facts).strip() == line  # type: ignore[arg-type]


def test_page_says_why_there_is_no_importance() -> None:
    alike = Explanation(
        rows=3,
        total=3,
        metric="auroc",
        importances=(),
        dependences=(),
        classes=("no", "yes"),
        sizes={},
        no_importance="auroc needs rows with different labels",
    )
    stored = SimpleNamespace(analysis={"explanation": alike.to_dict()}, encoder=None)
    page = "".join(column_tables.column_section(stored))  # type: ignore[arg-type]
    assert "Importance is left out: auroc needs rows with different labels." in page
    assert "<table" not in page


def test_page_without_matplotlib_has_its_tables(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(runs("binary"), directory)
    for module in (run_page, facts):
        monkeypatch.setattr(module, "can_draw", lambda: False)
    page = Page(run_report.write_page(directory, directory / "model"))
    assert "svg" not in page.tags
    assert "Pictures need the package matplotlib" in page.text
    assert page.tables["Columns"]


def test_unfinished_run_and_model_are_refused(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 1\n")
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "is not finished" in capsys.readouterr().err
    assert cli.main(["report", str(runs("binary") / "model")]) == 2
