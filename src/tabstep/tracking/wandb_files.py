"""What a run of Weights & Biases has on disk: the format of LevelDB's logs behind a header of seven bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_BLOCK, _HEADER = 32768, 7
# kinds of pieces that end a record: blocks cut it into several
_WHOLE, _LAST = 1, 4
_HEAD: Final = struct.Struct("<IHB")


def records(file: Path) -> Iterator[Any]:
    """Yield the records of a file; what a killed process left unfinished ends them."""
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = file.read_bytes(), _HEADER, b""
    while place + _HEAD.size <= len(data):
        if _BLOCK - place % _BLOCK < _HEAD.size:  # no record begins there
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = _HEAD.unpack_from(data, place)
        start, place = place + _HEAD.size, place + _HEAD.size + length
        if place > len(data):
            return
        parts += data[start:place]
        if kind in (_WHOLE, _LAST):
            record = Record()
            try:
                record.ParseFromString(parts)
            except DecodeError:
                return
            parts = b""
            yield record


def values(items: Any) -> dict[str, Any]:
    """Return the items of a record as a mapping."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def logged_rows(directory: Path, run_id: str) -> list[dict[str, Any]]:
    """Return the rows that all processes of an offline run have left, without wandb's own columns."""
    # The id is in the name of the file: that of the directory has a number behind it where a second saw two processes.
    files = sorted(directory.glob(f"wandb/offline-run-*/run-{run_id}.wandb"))
    rows = [values(each.history.item) for file in files for each in records(file) if each.HasField("history")]
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]
