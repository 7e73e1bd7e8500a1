"""How well a default run predicts, beside what users would pick instead: models x tables x seeds, resumable.

    python scripts/quality.py TABLES OUT [--models tabstep linear lightgbm xgboost catboost] [--seeds 0 1 2]
                              [--names adult bank] [--overrides optimizer=adamw ...]

TABLES is a directory with a directory a table, each either

- ``train.parquet``, ``val.parquet`` and ``test.parquet`` with ``fields.json``, which names ``label``, ``numeric`` and
  ``categorical`` columns (only the label is told to tabstep: the rest it has to see by itself) and, where it is known,
  what is ``reachable``: ``scripts/generated_tables.py`` writes such ones, or
- a task of OpenML's cache, as TabArena has them: ``task.xml`` and ``datasplits.arff`` beside the dataset's parquet
  file. The first fold of the first repeat is the test split, the first of eight stratified folds of the rest is val.

Every cell runs in a process of its own and leaves a JSON file in OUT; a cell that is there is not run again. The
tables at the end are printed as Markdown. Competitors take their defaults with early stopping on val; they come with
the extra ``baselines``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.special import expit, softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from tabstep.baselines.trees import fit_trees
from tabstep.encoding.encoded_table import EncodedTable
from tabstep.schema import Task

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("tabstep", "linear", "lightgbm", "xgboost", "catboost")
METRICS = ("auroc", "accuracy", "f1", "log_loss", "ece")
LOWER = ("log_loss", "ece", "cpu_seconds")
BINS, FOLDS = 15, 8

Split = tuple[np.ndarray, list[np.ndarray], np.ndarray]
"""Numbers (n, columns), a column of text a category, and the codes of the labels."""


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--names", nargs="+")
    parser.add_argument("--overrides", nargs="*", default=[], help="for tabstep")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        run_cell(args.tables, args.out, *args.cell.split(" "))
        return
    names = args.names or sorted(path.name for path in args.tables.iterdir() if path.is_dir())
    for name in names:
        for model in args.models:
            for seed in args.seeds:
                ensure(args.tables / name, args.out / f"{name}-{model}-{seed}.json", model, seed, args.overrides)
    print_tables(
        args.out, names, args.models, args.seeds, reachable={name: reachable(args.tables / name) for name in names}
    )


def ensure(table: Path, file: Path, model: str, seed: int, overrides: Sequence[str]) -> None:
    """Run one cell unless its file is there; what fails is said and left out of the tables."""
    if file.exists():
        return
    splits = prepared(table, file.parent / "tables")
    file.parent.mkdir(parents=True, exist_ok=True)
    if model.startswith("tabstep"):
        run = file.parent / "runs" / file.stem
        places = [f"paths.output_dir={run}", f"paths.cache_dir={file.parent / 'cache'}"]
        label = fields_of(splits)["label"]
        command = [sys.executable, str(ROOT / "train.py"), f"data.path={splits}", f"schema.label={json.dumps(label)}"]
        command += [f"seed={seed}", *places, *overrides]
    else:
        command = [sys.executable, __file__, str(splits), str(file), "--cell", f"{model} {seed}"]
    before, started = children_seconds(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{file.stem}: failed: {(done.stderr.strip() or '?').splitlines()[-1]}", file=sys.stderr)
        return
    found = of_report(run / "report.json") if model.startswith("tabstep") else json.loads(file.read_text())
    found |= {"cpu_seconds": children_seconds() - before, "seconds": time.monotonic() - started}
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(found, indent=2) + "\n")
    os.replace(temporary, file)
    print(f"{file.stem}: AUROC {found['auroc']:.4f}, {found['cpu_seconds']:.0f} CPU s", flush=True)


def children_seconds() -> float:
    """Return the CPU seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def of_report(file: Path) -> dict[str, float]:
    """Return the scores of test in a run's report."""
    report = json.loads(file.read_text())
    return {name: report[f"test_{name}"] for name in METRICS if report.get(f"test_{name}") is not None}


def run_cell(splits: Path, file: Path, model: str, seed: str) -> None:
    """Fit a competitor and write its scores of test."""
    train, val, test = (read_split(splits, name) for name in ("train", "val", "test"))
    classes = int(max(part[2].max() for part in (train, val, test))) + 1
    fit = linear if model == "linear" else partial(trees, model)
    probabilities = fit(train, val, classes, int(seed))(test)
    file.write_text(json.dumps(scores(probabilities, test[2])))


def scores(probabilities: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return the scores of probabilities ``(n, classes)``, as scikit-learn has them; F1 is macro for many classes."""
    binary = probabilities.shape[1] == 2
    taken = probabilities.argmax(axis=1)
    return {
        "auroc": float(roc_auc_score(y, probabilities[:, 1] if binary else probabilities, multi_class="ovr")),
        "accuracy": float(accuracy_score(y, taken)),
        "f1": float(f1_score(y, taken, average="binary" if binary else "macro")),
        "log_loss": float(log_loss(y, probabilities, labels=range(probabilities.shape[1]))),
        "ece": calibration_error(probabilities, y),
    }


def calibration_error(probabilities: np.ndarray, y: np.ndarray) -> float:
    """Return the expected calibration error of the top class, or of the positive one, in bins of equal width."""
    binary = probabilities.shape[1] == 2
    confidence = probabilities[:, 1] if binary else probabilities.max(axis=1)
    right = y == 1 if binary else probabilities.argmax(axis=1) == y
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(float(right[bins == b].sum() - confidence[bins == b].sum())) for b in range(BINS)]
    return sum(gaps) / len(y)


def linear(train: Split, val: Split, classes: int, seed: int) -> Callable[[Split], np.ndarray]:
    """Fit logistic regression on standardized numbers and one-hot categories."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    one_hot = OneHotEncoder(handle_unknown="ignore")

    def matrix(split: Split, fit: bool = False) -> Any:
        from scipy.sparse import csr_matrix, hstack

        parts = []
        if split[0].shape[1]:
            parts.append(csr_matrix(numbers.fit_transform(split[0]) if fit else numbers.transform(split[0])))
        if split[1]:
            texts = np.column_stack(split[1])
            parts.append(one_hot.fit_transform(texts) if fit else one_hot.transform(texts))
        return hstack(parts).tocsr()

    model = LogisticRegression(max_iter=2_000, random_state=seed).fit(matrix(train, fit=True), train[2])
    return lambda split: np.asarray(model.predict_proba(matrix(split)))


def trees(name: str, train: Split, val: Split, classes: int, seed: int) -> Callable[[Split], np.ndarray]:
    """Fit a boosting library's defaults, as a run's own baselines do, but on the columns as they are."""
    places = [{value: code for code, value in enumerate(np.unique(column))} for column in train[1]]
    encode = partial(encoded, places)
    task: Task = "binary" if classes == 2 else "multiclass"
    outputs = 1 if classes == 2 else classes
    logits = fit_trees(name, encode(train), encode(val), task, num_outputs=outputs, seed=seed)  # type: ignore[arg-type]

    def predict(split: Split) -> np.ndarray:
        found = logits(encode(split).x_num, encode(split).x_cat)
        return np.hstack([expit(-found), expit(found)]) if classes == 2 else np.asarray(softmax(found, axis=1))

    return predict


def encoded(places: Sequence[dict[str, int]], split: Split) -> EncodedTable:
    """Return a split as arrays; every value of a category that train lacks has the same code of its own."""
    codes = [[place.get(value, len(place)) for value in column] for place, column in zip(places, split[1], strict=True)]
    x_cat = np.array(codes, dtype=np.int32).reshape(len(codes), len(split[2])).T
    x_num = split[0].astype(np.float32)
    return EncodedTable(split="", fingerprint="", x_num=x_num, x_cat=x_cat, y=split[2], rows_file=Path())


def fields_of(splits: Path) -> dict[str, Any]:
    """Return what ``fields.json`` says."""
    fields: dict[str, Any] = json.loads((splits / "fields.json").read_text())
    return fields


def read_split(splits: Path, name: str) -> Split:
    """Read one split; the order of the classes is that of the sorted labels of train."""
    fields = fields_of(splits)
    table = pq.read_table(splits / f"{name}.parquet")
    classes = sorted(pq.read_table(splits / "train.parquet", columns=[fields["label"]])[0].unique().to_pylist())
    numbers = [table[column].cast(pa.float64()).to_numpy(zero_copy_only=False) for column in fields["numeric"]]
    texts = [
        np.array(pc.fill_null(table[column].cast(pa.string()), "").to_pylist(), dtype=str)
        for column in fields["categorical"]
    ]
    y = np.array([classes.index(value) for value in table[fields["label"]].to_pylist()])
    return np.column_stack(numbers) if numbers else np.empty((len(y), 0)), texts, y


def prepared(table: Path, cache: Path) -> Path:
    """Return a directory of three splits: the table's own, or those that its OpenML task stands for."""
    if not (table / "task.xml").exists():
        return table
    target = cache / table.name
    if (target / "fields.json").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    label = next(
        node.text for node in ElementTree.parse(table / "task.xml").iter() if node.tag.endswith("target_feature")
    )
    data = pq.read_table(next(iter(sorted([*table.glob("*.pq"), *table.glob("*.parquet")]))))
    train, test = first_fold((table / "datasplits.arff").read_text())
    codes = data[label].combine_chunks().dictionary_encode().indices.to_numpy()
    parts = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(train, codes[train])
    kept, val = next(iter(parts))
    for name, rows in (("train", train[kept]), ("val", train[val]), ("test", test)):
        pq.write_table(data.take(pa.array(rows)), target / f"{name}.parquet", write_page_checksum=True)
    features = [field for field in data.schema if field.name != label]
    numeric = [field.name for field in features if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]
    categorical = [field.name for field in features if field.name not in numeric]
    fields = {"label": label, "numeric": numeric, "categorical": categorical}
    (target / "fields.json").write_text(json.dumps(fields))
    return target


def first_fold(arff: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of train and test of repeat 0, fold 0 of a ``datasplits.arff``.

    Its columns are type, rowid, repeat and fold, in the order that its header gives.
    """
    names = [name.lower() for name in re.findall(r"^@attribute\s+'?([\w-]+)'?", arff, re.M | re.I)]
    rows: dict[str, list[int]] = {"TRAIN": [], "TEST": []}
    for line in re.split(r"^@data\s*$", arff, flags=re.M | re.I)[1].split():
        row = dict(zip(names, line.replace("'", "").split(","), strict=True))
        if (row["repeat"], row["fold"]) == ("0", "0"):
            rows[row["type"]].append(int(row["rowid"]))
    return np.array(rows["TRAIN"]), np.array(rows["TEST"])


def reachable(table: Path) -> dict[str, float]:
    """Return the best scores that a generated table says can be reached on test; none for a table of the world."""
    file = table / "fields.json"
    known: dict[str, float] = json.loads(file.read_text()).get("reachable", {}) if file.exists() else {}
    return known


def print_tables(
    out: Path,
    names: Sequence[str],
    models: Sequence[str],
    seeds: Sequence[int],
    *,
    reachable: Mapping[str, Mapping[str, float]],
) -> None:
    """Print each metric by table and model, then mean ranks and wins by AUROC."""
    found = {
        (name, model): [
            json.loads(file.read_text()) for seed in seeds if (file := out / f"{name}-{model}-{seed}.json").exists()
        ]
        for name in names
        for model in models
    }
    for metric in (*METRICS, "cpu_seconds"):
        known = any(metric in scores for scores in reachable.values())
        columns = [*models, *["reachable"] * known]
        print(f"\n{metric}, mean and standard deviation over seeds\n\n| table | {' | '.join(columns)} |")
        print("|---" * (len(columns) + 1) + "|")
        for name in names:
            cells = [cell(found[name, model], metric) for model in models]
            cells += [f"{reachable[name][metric]:.4f}" if metric in reachable[name] else ""] * known
            print(f"| {name} | {' | '.join(cells)} |")
    for metric in ("auroc", "log_loss"):
        means = np.array([[mean(found[name, model], metric) for model in models] for name in names])
        whole = means[~np.isnan(means).any(axis=1)]
        print(f"\n{metric}: mean rank over {len(whole)} tables")
        for model, rank in zip(models, ranks(whole if metric not in LOWER else -whole).mean(axis=0), strict=True):
            print(f"  {model}: {rank:.2f}")
    for other in models[1:]:
        wins = [win_count(found, names, models[0], other, index) for index in range(len(seeds))]
        spread = f"{min(wins)} to {max(wins)} over seeds"
        print(f"{models[0]} against {other} by AUROC: {np.mean(wins):.1f} of {len(names)} ({spread})")


def cell(runs: Sequence[dict[str, float]], metric: str) -> str:
    """Return a cell of a table."""
    values = [run[metric] for run in runs if metric in run]
    digits = 0 if metric == "cpu_seconds" else 4
    return f"{np.mean(values):.{digits}f} ({np.std(values):.{digits}f})" if values else ""


def mean(runs: Sequence[dict[str, float]], metric: str) -> float:
    """Return the mean over seeds, nan where there is none."""
    values = [run[metric] for run in runs if metric in run]
    return float(np.mean(values)) if values else float("nan")


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks in each row of ``values``, 1 for the highest; equal ones share their mean rank."""
    better = (values[:, None, :] > values[:, :, None]).sum(axis=2)
    equal = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    return better + (equal + 1) / 2


def win_count(found: Any, names: Sequence[str], ours: str, other: str, index: int) -> int:
    """Count the tables on which one seed of ours has a higher AUROC than the same seed of another."""
    pairs = [(found[name, ours], found[name, other]) for name in names]
    return sum(a[index]["auroc"] > b[index]["auroc"] for a, b in pairs if index < min(len(a), len(b)))


if __name__ == "__main__":
    main()
