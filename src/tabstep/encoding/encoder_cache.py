"""Encoders that are kept for the next run on the same data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tabstep.encoding.column_fits import ColumnFits, EncoderOptions
from tabstep.encoding.encoder import FORMAT, Encoder
from tabstep.encoding.labels import Label
from tabstep.schema import Schema, Task
from tabstep.system.cache import cached_text
from tabstep.tables.source import ParquetSource


def fit_cached(
    source: ParquetSource,
    schema: Schema,
    *,
    options: EncoderOptions,
    task: Task | None,
    classes: Sequence[Label] | None,
    seed: int,
    cache_dir: Path,
    fits: ColumnFits | None = None,
) -> Encoder:
    """Return ``Encoder.fit`` of the same arguments, kept under ``cache_dir`` for the next run on the same data.

    ``fits`` of the same arguments spares a pass where it has taken the rows already.
    """
    facts: list[Any] = [source.fingerprint(), schema.to_dict(), asdict(options), task, classes, seed]

    def fit() -> str:
        taken = fits or ColumnFits(source, schema, options=options, task=task, classes=classes, seed=seed)
        return Encoder.of(taken, source, options).to_json()

    return Encoder.from_json(cached_text(cache_dir, encoder_key(facts), fit))


# to be raised where the same facts give another encoder: the cache holds those of earlier versions
_FITTING: Final = 3


def encoder_key(facts: Sequence[Any]) -> str:
    """Return the name under which an encoder is kept that was fitted with what ``facts`` tell."""
    return "encoder-" + hashlib.sha256(json.dumps([FORMAT, _FITTING, *facts]).encode()).hexdigest()[:16]
