"""Tables whose best reachable score is known, in the form that ``scripts/quality.py`` reads.

    python scripts/generated_tables.py OUT [--names smooth jumps calendar codes pairs] [--rows 40000] [--seed 0]

Each has ``--rows`` rows of train and a quarter as many each of val and test, and says in ``fields.json`` what is
reachable on test:

- ``smooth``: sines, products and a logistic of 20 numbers; ``jumps``: twelve decision trees of depth 3 over 12 numbers
  and four categories. Reachable is what the true probabilities have.
- ``calendar``: a rate for each weekday and hour of a timestamp; ``codes``: one for each of 3,000 integer codes;
  ``pairs``: one for each of 3,000 pairs of two columns of 2,000 values, none for a single column. Three numbers without
  meaning stand beside each. The rates are draws of a beta distribution, so that the best estimate from train is known:
  its posterior mean, ``(a + positives) / (a + b + rows)``, and reachable is what that has.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

RATE_PRIOR = 1.0, 3.0
"""The two parameters of the beta distribution of rates."""
CODES, VALUES, PAIRS = 3_000, 2_000, 3_000
Rng = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Columns of all rows and the true probabilities; ``cells`` ``(n,)`` say whose rate a row has, if rates decide."""

    columns: dict[str, np.ndarray | pa.Array]
    probabilities: np.ndarray
    categorical: list[str] = field(default_factory=list)
    cells: np.ndarray | None = None


def smooth(rows: int, rng: Rng) -> Drawn:
    """Draw sums and products of smooth functions."""
    x = rng.standard_normal((rows, 20))
    score = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + np.tanh(2 * x[:, 3]) + 0.5 * x[:, 4] ** 2 - 0.5
    score += np.sin(x[:, 5] + x[:, 6]) + 0.5 * np.cos(3 * x[:, 7]) + x[:, 8:12] @ [0.4, -0.3, 0.2, -0.1]
    return Drawn(columns=_numbers(x), probabilities=expit(score - 1.0))


def jumps(rows: int, rng: Rng, *, depth: int = 3) -> Drawn:
    """Draw the sum of decision trees; a split of a category takes half of its values to one side."""
    x, codes = rng.standard_normal((rows, 12)), rng.integers(0, 20, (rows, 4))
    score = np.zeros(rows)
    for _ in range(12):
        leaf = np.zeros(rows, dtype=np.int64)
        for _ in range(depth):
            column = rng.integers(0, 16)
            goes = x[:, column] > rng.normal() if column < 12 else rng.permutation(20)[codes[:, column - 12]] < 10
            leaf = 2 * leaf + goes
        score += rng.normal(0, 0.7, 2**depth)[leaf]
    texts = {f"c{place}": pa.array(np.char.add("v", column.astype(str))) for place, column in enumerate(codes.T)}
    return Drawn(columns={**_numbers(x), **texts}, probabilities=expit(score - 1.0), categorical=list(texts))


def calendar(rows: int, rng: Rng) -> Drawn:
    """Draw a rate for each weekday and hour of two years."""
    seconds = np.sort(rng.integers(0, 730 * 86_400, rows))[rng.permutation(rows)] + 1_672_531_200
    cells = (seconds // 86_400 + 3) % 7 * 24 + seconds // 3_600 % 24
    return _with_rates({"at": pa.array(seconds * 1_000_000, pa.timestamp("us"))}, cells, rng)


def codes(rows: int, rng: Rng) -> Drawn:
    """Draw a rate for each of many integer codes, which are not in order."""
    cells = rng.integers(0, CODES, rows)
    return _with_rates({"code": rng.permutation(CODES)[cells] + 100_000}, cells, rng)


def pairs(rows: int, rng: Rng) -> Drawn:
    """Draw a rate for each of some pairs of values; what a single value has is the mean of its few pairs."""
    known = rng.integers(0, VALUES, (2, PAIRS))
    cells = rng.integers(0, PAIRS, rows)
    texts = {
        name: pa.array(np.char.add(name, values[cells].astype(str)))
        for name, values in zip(("a", "b"), known, strict=True)
    }
    return _with_rates(texts, cells, rng, categorical=["a", "b"])


TABLES: dict[str, Callable[[int, Rng], Drawn]] = {
    "smooth": smooth,
    "jumps": jumps,
    "calendar": calendar,
    "codes": codes,
    "pairs": pairs,
}


def _numbers(x: np.ndarray) -> dict[str, np.ndarray | pa.Array]:
    return {f"n{place}": column for place, column in enumerate(x.T)}


def _with_rates(
    columns: dict[str, np.ndarray | pa.Array], cells: np.ndarray, rng: Rng, *, categorical: list[str] | None = None
) -> Drawn:
    rates = rng.beta(*RATE_PRIOR, int(cells.max()) + 1)
    beside = _numbers(rng.standard_normal((len(cells), 3)))
    return Drawn(columns={**columns, **beside}, probabilities=rates[cells], categorical=categorical or [], cells=cells)


def posterior_means(cells: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the best estimate of each cell's rate from rows of train: cells ``(n,)`` and labels ``(n,)``."""
    a, b = RATE_PRIOR
    counts = np.bincount(cells)
    return (a + np.bincount(cells, weights=y)) / (a + b + counts)


def write(name: str, directory: Path, *, rows: int, seed: int) -> dict[str, float]:
    """Write three splits and ``fields.json``; return what is reachable on test."""
    rng = np.random.default_rng(seed)
    sizes = {"train": rows, "val": rows // 4, "test": rows // 4}
    drawn = TABLES[name](sum(sizes.values()), rng)
    y = (rng.random(len(drawn.probabilities)) < drawn.probabilities).astype(np.int64)
    directory.mkdir(parents=True, exist_ok=True)
    table, start = pa.table({**drawn.columns, "y": y}), 0
    for split, size in sizes.items():
        pq.write_table(table.slice(start, size), directory / f"{split}.parquet")
        start += size
    test = slice(start - sizes["test"], start)
    best = drawn.probabilities[test]
    if drawn.cells is not None:
        rates = np.full(int(drawn.cells.max()) + 1, RATE_PRIOR[0] / sum(RATE_PRIOR))
        seen = posterior_means(drawn.cells[:rows], y[:rows])
        rates[: len(seen)] = seen
        best = rates[drawn.cells[test]]
    reachable = {"auroc": float(roc_auc_score(y[test], best)), "log_loss": float(log_loss(y[test], best))}
    fields = {
        "label": "y",
        "numeric": [column for column in drawn.columns if column not in drawn.categorical],
        "categorical": drawn.categorical,
        "reachable": reachable,
    }
    (directory / "fields.json").write_text(json.dumps(fields, indent=2) + "\n")
    return reachable


def main() -> None:
    """Write the tables and print what is reachable."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--names", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name in args.names:
        reachable = write(name, args.out / name, rows=args.rows, seed=args.seed)
        print(f"{name}: AUROC {reachable['auroc']:.4f}, log-loss {reachable['log_loss']:.4f} reachable")


if __name__ == "__main__":
    main()
