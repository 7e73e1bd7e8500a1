"""An explanation as an object and as files: importances, dependences and attributions of some rows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tabstep.analysis.dependence import Dependence
from tabstep.analysis.permutation import Importance
from tabstep.analysis.sampled_rows import row_count
from tabstep.system.atomic_write import write_durably
from tabstep.system.exits import writing

EXPLANATION, ATTRIBUTIONS = "explanation.json", "attributions.parquet"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a model makes of ``rows`` of a table's ``total`` rows.

    ``metric`` is the score that ``importances`` are falls of, empty where the table has no labels. ``left_out`` are
    columns that there was no time for. ``no_importance`` says why there are no importances, where none can be computed.
    ``sizes`` are the mean absolute attributions, ``attributions`` has one row each with a figure a column, and in its
    column ``id`` the row's own name, if it has one. ``values`` are the features of these rows.
    """

    rows: int
    total: int
    metric: str
    importances: tuple[Importance, ...]
    dependences: tuple[Dependence, ...]
    classes: tuple[str, ...]
    sizes: Mapping[str, float]
    left_out: tuple[str, ...] = ()
    no_importance: str = ""
    attributions: pa.Table | None = None
    values: pa.Table | None = None
    id: str | None = None

    @property
    def looked_at(self) -> str:
        """Say how many rows were looked at, and of how many."""
        return row_count(self.rows, self.total)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``explanation.json`` holds: all but what is said of single rows."""
        return {
            "rows": self.rows,
            "total": self.total,
            "metric": self.metric,
            "classes": list(self.classes),
            "importance": [importance.to_dict() for importance in self.importances],
            "mean_attribution": dict(self.sizes),
            "left_out": list(self.left_out),
            "no_importance": self.no_importance,
            "dependence": [dependence.to_dict() for dependence in self.dependences],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Explanation:
        """Rebuild what ``to_dict`` returned, also after a round trip through JSON."""
        return cls(
            rows=data["rows"],
            total=data["total"],
            metric=data["metric"],
            classes=tuple(data["classes"]),
            importances=tuple(Importance(**importance) for importance in data["importance"]),
            sizes=data["mean_attribution"],
            left_out=tuple(data["left_out"]),
            no_importance=data.get("no_importance", ""),
            dependences=tuple(map(Dependence.from_dict, data["dependence"])),
        )

    def write(self, directory: str | os.PathLike[str]) -> None:
        """Write ``explanation.json`` and, where there are any, ``attributions.parquet``.

        Raises:
            UserError: the directory cannot be written.
        """
        folder = Path(directory)
        with writing(f"{folder}: cannot be written"):
            folder.mkdir(parents=True, exist_ok=True)
            write_durably(folder / EXPLANATION, json.dumps(self.to_dict(), indent=1).encode())
            if self.attributions is not None:
                sink = pa.BufferOutputStream()
                pq.write_table(self.attributions, sink, write_page_checksum=True)
                write_durably(folder / ATTRIBUTIONS, sink.getvalue())
