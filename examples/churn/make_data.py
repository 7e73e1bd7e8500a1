"""Customers of a telephone company as CSV: ``customers.csv``, and ``new.csv`` without the label. Always the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

ROWS, NEW = 4_000, 5


def main() -> None:
    """Write the files into the working directory."""
    rng = np.random.default_rng(7)
    months = rng.integers(1, 73, ROWS)
    charges = rng.normal(65, 25, ROWS).clip(15, 130).round(2)
    contract = rng.choice(["monthly", "one year", "two years"], ROWS, p=[0.55, 0.25, 0.2])
    calls = rng.poisson(1.2, ROWS)
    joined = np.datetime64("2026-06-01") - months * 30
    logit = -1.2 - 0.03 * months + 0.015 * charges + 0.45 * calls
    logit += np.select([contract == "monthly", contract == "two years"], [0.9, -1.4], 0.0)
    churned = rng.random(ROWS) < 1 / (1 + np.exp(-logit))
    table = pa.table(
        {
            "customer": [f"C{number:05d}" for number in range(ROWS)],
            "joined": pa.array(joined),
            "contract": contract,
            "charges": pa.array([None if rng.random() < 0.03 else value for value in charges.tolist()], pa.float64()),
            "support_calls": calls,
            "churned": np.where(churned, "yes", "no"),
        }
    )
    csv.write_csv(table.slice(NEW), "customers.csv")
    csv.write_csv(table.slice(0, NEW).drop_columns("churned"), "new.csv")


if __name__ == "__main__":
    main()
