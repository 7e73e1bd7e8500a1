"""Payments at 3,000 merchants in 400 postcodes, some of them bad: ``payments.parquet``."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, MERCHANTS, POSTCODES = 12_000, 3_000, 400


def main() -> None:
    """Write the file into the working directory: always the same."""
    rng = np.random.default_rng(13)
    merchant = (MERCHANTS * rng.random(ROWS) ** 2).astype(int)  # few have many payments
    postcode = rng.integers(0, POSTCODES, ROWS)
    risk = rng.normal(scale=1.5, size=MERCHANTS)[merchant] + rng.normal(scale=0.7, size=POSTCODES)[postcode]
    amount = rng.lognormal(3.5, 1.0, ROWS)
    bad = rng.random(ROWS) < 1 / (1 + np.exp(-(risk - 2.0 + 0.3 * np.log(amount / 30))))
    table = {
        "merchant": [f"M{number:05d}" for number in merchant],
        "postcode": [f"{number:04d}" for number in 1000 + postcode],
        "amount": amount.round(2),
        "bad": bad.astype(int),
    }
    pq.write_table(pa.table(table), "payments.parquet")


if __name__ == "__main__":
    main()
