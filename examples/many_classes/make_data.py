"""Readings of sensors of which each kind of fault has a pattern of its own: ``faults.parquet``, 60 classes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, CLASSES, SENSORS = 9_000, 60, 12


def main() -> None:
    """Write the file into the working directory: always the same."""
    rng = np.random.default_rng(11)
    share = 1 / np.arange(1, CLASSES + 1) ** 0.7  # some faults are seen often, most seldom
    fault = rng.choice(CLASSES, ROWS, p=share / share.sum())
    patterns = rng.normal(size=(CLASSES, SENSORS))
    values = patterns[fault] + rng.normal(scale=0.8, size=(ROWS, SENSORS))
    machine = rng.choice(["press", "lathe", "mill"], ROWS)
    table = {f"sensor_{number:02d}": values[:, number] for number in range(SENSORS)}
    names = np.array([f"F{number:02d}" for number in range(CLASSES)])
    pq.write_table(pa.table({**table, "machine": machine, "fault": names[fault]}), "faults.parquet")


if __name__ == "__main__":
    main()
