"""An encoded table in files of its own, for tests of what reads rows from there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from tabstep.encoding.encoded_table import EncodedTable


def stored_table(directory: Path, rows: int, *, weight: bool = False, num_numeric: int = 2) -> EncodedTable:
    """Write a table whose rows can be told apart by each of their parts, and map it as one that memory cannot hold."""
    directory.mkdir(parents=True, exist_ok=True)
    number = np.arange(rows)
    arrays = {
        "x_num": np.repeat(number[:, None], num_numeric, axis=1).astype(np.float32),
        "x_cat": number[:, None].astype(np.int32),
        "y": number,
        "weight": 0.5 * number.astype(np.float32),
    }
    for name, array in arrays.items():
        array.tofile(directory / f"{name}.bin")

    def mapped(name: str, mode: Literal["r"] = "r") -> np.ndarray:
        array = arrays[name]
        return np.memmap(directory / f"{name}.bin", array.dtype, mode, shape=array.shape) if array.size else array

    return EncodedTable(
        split="train",
        fingerprint="",
        x_num=mapped("x_num"),
        x_cat=mapped("x_cat"),
        y=mapped("y"),
        rows_file=directory / "rows.arrow",
        weight=mapped("weight") if weight else None,
        in_memory=False,
    )
