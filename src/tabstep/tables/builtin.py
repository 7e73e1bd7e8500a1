"""The built-in table: generated, hard in the ways of real ones, with a known best score."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tabstep.schema import SPLITS, Split
from tabstep.system.atomic_write import file_digest, publishing, write_durably
from tabstep.system.locks import in_turn
from tabstep.tables.ranking import auroc

ID: Final = "row_id"
LABEL: Final = "churned"
VERSION: Final = 1  # raised when the same seed gives another table
POSITIVE_SHARE: Final = 0.15
_SHARES: Final = {"train": 0.64, "val": 0.16, "test": 0.20}
_CATEGORIES: Final = {"plan": 3, "region": 12, "device": 60, "campaign": 300, "store": 2000}
_EFFECTS: Final = {"plan": 0.3, "region": 0.7, "device": 0.4, "campaign": 0.2, "store": 0.15}
_UNSEEN_SHARE: Final = 0.03  # of the test rows, for each of device, campaign and store
_EPOCH_SECONDS: Final = 1_704_067_200  # 2024-01-01T00:00:00Z
_YEAR_SECONDS: Final = 366 * 86_400


@dataclass(frozen=True, kw_only=True)
class BuiltinTable:
    """Where the table is, and the AUROC on its test split of the probabilities that its labels were drawn from."""

    path: str
    best_auroc: float
    id: str = ID
    label: str = LABEL


def write_builtin_table(directory: str | Path, *, rows: int = 40_000, seed: int = 0) -> BuiltinTable:
    """Write train/train.parquet, val/val.parquet, test/test.parquet and truth.json; the same again for the same seed.

    A table of this seed and size that is there already is left as it is, so that caches of it stay valid.

    >>> import tempfile
    >>> table = write_builtin_table(tempfile.mkdtemp(), rows=2000, seed=1)
    >>> 0.7 < table.best_auroc < 1.0
    True
    """
    root = Path(directory)
    made_of = {"version": VERSION, "rows": rows, "seed": seed}
    paths = {split: root / split / f"{split}.parquet" for split in SPLITS}
    truth_file = root / "truth.json"
    best = _known_best(truth_file, made_of, paths.values())
    if best is None:
        root.mkdir(parents=True, exist_ok=True)
        with in_turn(root):  # ranks begin together, and none may replace what another reads already
            best = _known_best(truth_file, made_of, paths.values())
            if best is None:
                best = _write(truth_file, made_of, paths)
    return BuiltinTable(path=str(root), best_auroc=best)


def _write(truth_file: Path, made_of: Mapping[str, int], paths: Mapping[Split, Path]) -> float:
    """Write the files of a table and what is true of it; return the best AUROC on test."""
    # first of all: while files are written, nothing may say that they are whole
    truth_file.unlink(missing_ok=True)
    rows = made_of["rows"]
    table, probability = generate(rows, made_of["seed"])
    best, start = 0.0, 0
    for split, path in paths.items():
        count = rows - start if split == "test" else round(rows * _SHARES[split])
        part = table.slice(start, count)
        path.parent.mkdir(parents=True, exist_ok=True)
        with publishing(path) as temporary:
            pq.write_table(part, temporary, write_page_checksum=True)
        positive = part[LABEL].to_numpy(zero_copy_only=False) == "yes"
        # that of the last one, test, stays
        best = auroc(probability[start : start + count], positive)
        start += count
    digests = [file_digest(path) for path in paths.values()]
    truth = {"made_of": made_of, "files": digests, "best_auroc": best, "id": ID, "label": LABEL}
    write_durably(truth_file, (json.dumps(truth, indent=1) + "\n").encode())
    return best


def _known_best(truth_file: Path, made_of: Mapping[str, int], paths: Iterable[Path]) -> float | None:
    """Return the best AUROC of a table that was made before, None where it was not or is no longer whole."""
    try:
        truth = json.loads(truth_file.read_text(encoding="utf-8"))
        whole = truth["made_of"] == made_of and truth["files"] == [file_digest(path) for path in paths]
        return float(truth["best_auroc"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def generate(rows: int, seed: int) -> tuple[pa.Table, np.ndarray]:
    """Return the table and ``(rows,)`` the probability of "yes" given what the table shows of each row.

    A missing cell moves the probability by an amount of its own, and a category that train lacks by none, so that no
    model can know more than this probability says.
    """
    rng = np.random.default_rng([VERSION, seed])
    numeric = _numeric(rng, rows)
    codes, effects = _categories(rng, rows)
    logit = _signal(numeric, codes) + sum(effects[name][codes[name]] for name in codes)
    probability = _shifted(logit)
    label = np.where(rng.random(rows) < probability, "yes", "no")
    columns = {ID: pa.array([f"c{number:07d}" for number in rng.permutation(rows)])}
    columns |= {name: _column(name, values) for name, values in numeric.items()}
    columns |= {name: pa.array([f"{name}_{code:04d}" for code in values]) for name, values in codes.items()}
    columns[LABEL] = pa.array(label)
    return pa.table(columns), probability


def _column(name: str, values: np.ndarray) -> pa.Array:
    if name == "last_seen":
        return pa.array(values.astype("datetime64[s]"), type=pa.timestamp("s", "UTC"))
    return pa.array(values, from_pandas=True)


def _numeric(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    income = np.exp(10.0 + 0.8 * rng.standard_normal(rows))
    spend = np.exp(3.5 + 1.1 * rng.standard_normal(rows)) * (income / 22_000) ** 0.5
    balance = 900.0 * rng.standard_t(2.0, rows)
    return {
        "age": rng.integers(18, 90, rows),
        "tenure_days": np.floor(4000 * rng.random(rows) ** 2.5).astype(np.int64),
        "calls": rng.negative_binomial(1, 0.35, rows),
        "income": np.where(rng.random(rows) < 0.12, np.nan, np.round(income, 2)),
        "monthly_spend": np.where(rng.random(rows) < 0.05, np.nan, np.round(spend, 2)),
        "balance": np.round(balance, 2),
        "latency_ms": np.round(40.0 / rng.random(rows) ** 0.7, 1),
        "score_a": rng.standard_normal(rows),
        "score_b": np.where(rng.random(rows) < 0.2, np.nan, rng.standard_normal(rows)),
        "noise": np.exp(2.0 * rng.standard_normal(rows)),
        "autopay": rng.random(rows) < 0.4,
        "last_seen": _EPOCH_SECONDS + rng.integers(0, _YEAR_SECONDS, rows),
    }


def _categories(rng: np.random.Generator, rows: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return codes by column and the effect of each code; frequencies fall off as in Zipf's law."""
    codes: dict[str, np.ndarray] = {}
    effects: dict[str, np.ndarray] = {}
    test = np.arange(rows) >= round(rows * _SHARES["train"]) + round(rows * _SHARES["val"])
    for name, count in _CATEGORIES.items():
        weight = 1.0 / np.arange(2, count + 2)
        # the last sum may be below 1 by rounding: hence the minimum below
        values = np.searchsorted(np.cumsum(weight / weight.sum()), rng.random(rows))
        # columns with few codes have all of them in train
        new = np.zeros(rows, dtype=bool) if count < 50 else test & (rng.random(rows) < _UNSEEN_SHARE)
        fresh = max(1, count // 20)
        codes[name] = np.where(new, count + rng.integers(0, fresh, rows), np.minimum(values, count - 1))
        effects[name] = np.concatenate([_EFFECTS[name] * rng.standard_normal(count), np.zeros(fresh)])
    return codes, effects


def _signal(numeric: dict[str, np.ndarray], codes: dict[str, np.ndarray]) -> np.ndarray:
    """Return the part of the logit that a linear model cannot follow: bends, thresholds and interactions."""
    age = (numeric["age"] - 54.0) / 21.0
    tenure = numeric["tenure_days"] / 365.0
    ratio = np.log(numeric["monthly_spend"]) - np.log(numeric["income"]) + 6.5
    a, b = numeric["score_a"], numeric["score_b"]
    balance = np.arcsinh(numeric["balance"] / 500.0)
    season = 2 * np.pi * (numeric["last_seen"] - _EPOCH_SECONDS) / _YEAR_SECONDS
    direction = np.array([1.0, -0.6, 0.2])[codes["plan"]]
    signal: np.ndarray = (
        1.4 * (age**2 - 1.0)
        - 1.8 * np.tanh(tenure - 1.5) * np.where(numeric["autopay"], 1.0, -0.5)
        + np.where(np.isnan(ratio), 0.4, 1.5 * np.tanh(ratio) * direction)
        + np.where(np.isnan(b), -0.3, 0.7 * np.tanh(a * np.nan_to_num(b)))
        - 0.9 * np.abs(balance)
        + 0.45 * np.minimum(numeric["calls"], 6)
        + 0.8 * (numeric["latency_ms"] > 150.0)
        + 0.8 * np.sin(season)
    )
    return signal


def _shifted(logit: np.ndarray) -> np.ndarray:
    """Return probabilities with the mean that is wanted, by bisection on the intercept."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        probability = 1.0 / (1.0 + np.exp(-(logit + middle)))
        low, high = (middle, high) if probability.mean() < POSITIVE_SHARE else (low, middle)
    return probability
