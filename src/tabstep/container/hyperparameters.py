"""Hydra overrides as hyperparameters and back: what a person can read stays readable, the rest travels whole.

A hyperparameter is a text of at most 2,500 characters without an order among its kind, and on its way it may pass
through JSON, a web form and a shell. ``optimizer.lr=3e-4`` survives all of that as ``{"optimizer.lr": "0.0003"}`` and
can be edited, cloned and tuned there. Lists, quotes, sweeps, deletions and overrides whose order matters travel as
one text of letters and digits under ``PACKED_KEY``, or as a file of the bundle where that text would be too long.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tabstep.errors import UserError

PACKED_KEY: Final = "packed_overrides"
MAX_PACKED: Final = 2_400  # the service takes 2,500 characters; the SDK adds two quotation marks
MAX_READABLE: Final = 200  # characters of a key or a value that a person reads in a table
MAX_KEYS: Final = 80  # the service takes 100; the SDK and a tuner add theirs

_READABLE = re.compile(
    rf"(?!sagemaker_|_tuning_objective_metric|{PACKED_KEY})(?=[^=]{{1,{MAX_READABLE}}}=)"
    rf"([A-Za-z_]\w*(?:\.\w+)*)=([\w./:@%+-]{{1,{MAX_READABLE}}})",
    re.ASCII,
)
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?=[.eE])(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_FILE = re.compile(r"file:(overrides-([0-9a-f]{16})\.json)")
_NOT_OURS = re.compile(r"sagemaker_.*|_tuning_objective_metric")


def pack(overrides: Sequence[str]) -> dict[str, str]:
    """Return hyperparameters that ``unpack`` turns back into overrides of the same meaning.

    >>> pack(["model=resnet", "optimizer.lr=3e-4"])
    {'model': 'resnet', 'optimizer.lr': '0.0003'}
    >>> list(pack(["schema.drop=[a, b]", "seed=1"]))
    ['seed', 'packed_overrides']
    """
    readable: dict[str, str] = {}
    packed: list[str] = []
    ordered = _ordered(overrides)
    for text in overrides:
        match = _READABLE.fullmatch(text)
        if match is None or text in ordered or len(readable) == MAX_KEYS:
            packed.append(text)
        else:
            readable[match[1]] = _plain_number(match[2])
    return readable | ({PACKED_KEY: _encode(packed)} if packed else {})


def move_long_to_file(hyperparameters: Mapping[str, str]) -> tuple[dict[str, str], dict[str, bytes]]:
    """Move packed overrides that are too long for the service into a file of the bundle.

    Returns:
        The hyperparameters to send, and the files that the bundle needs for them, by name.
    """
    packed = hyperparameters.get(PACKED_KEY, "")
    if len(packed) <= MAX_PACKED:
        return dict(hyperparameters), {}
    content = json.dumps(_decode(packed), indent=1).encode()
    name = f"overrides-{_digest(content)}.json"
    return {**hyperparameters, PACKED_KEY: f"file:{name}"}, {name: content}


def unpack(hyperparameters: Mapping[str, str], directory: Path | None = None) -> list[str]:
    """Return the overrides in ``hyperparameters``, given as they stand in the job's ``hyperparameters.json``.

    A value is the JSON of a text, as the SDK writes it, or the bare text, as a tuner or a person does. A readable key
    wins over a packed one: it is the one that can be edited.

    Args:
        directory: where the bundle's files lie.

    Raises:
        UserError: the packed overrides are damaged or their file is missing.

    >>> unpack({"model": '"resnet"', "optimizer.lr": "0.01", "sagemaker_program": '"train.py"'})
    ['model=resnet', 'optimizer.lr=0.01']
    """
    ours = {key: _text(value) for key, value in hyperparameters.items() if not _NOT_OURS.fullmatch(key)}
    packed = _packed(ours.pop(PACKED_KEY, None), directory)
    return [text for text in packed if _key(text) not in ours] + [f"{key}={ours[key]}" for key in sorted(ours)]


def without_local_places(overrides: Sequence[str]) -> list[str]:
    """Leave out what says where something is, for a job has its own places: the launch, paths, data and Hydra's.

    >>> without_local_places(["launch.spot=true", "data.path=tables", "data.batch_size=64", "model=resnet"])
    ['data.batch_size=64', 'model=resnet']
    """
    places = re.compile(
        r"(launch|paths)(\..*)?|data\.(path|train|val|test|sharded)|hydra\.(run|sweep|mode|searchpath|runtime|output_subdir)(\..*)?"
    )
    return [text for text in overrides if not places.fullmatch(_key(text))]


def _ordered(overrides: Sequence[str]) -> set[str]:
    """Return the overrides whose place among the others matters: of one key, or one inside the value of the other.

    A first-level key such as ``model`` is a choice of a group, which Hydra reads before every value below it.
    """
    ordered: set[str] = set()
    parts = [(text, _key(text).split(".")) for text in overrides]
    for i, (text, key) in enumerate(parts):
        for other, other_key in parts[:i]:
            short, long = sorted((key, other_key), key=len)
            same = long[: len(short)] == short
            groups = len(short) == 1 < len(long) and all(map(_READABLE.fullmatch, (text, other)))
            if same and not groups:
                ordered |= {text, other}
    return ordered


def _key(text: str) -> str:
    """Return the dotted key of an override, without marks and package."""
    key = text.partition("=")[0].lstrip("+~").partition("@")[0]
    return re.sub(r"\[([^\]]*)\]", r".\1", key).replace("/", ".")


def _plain_number(text: str) -> str:
    """Write a float as a person and a web form do.

    >>> [_plain_number(text) for text in ("3e-4", "1.50", "12", "1e999", "0x1")]
    ['0.0003', '1.5', '12', '1e999', '0x1']
    """
    return repr(float(text)) if _FLOAT.fullmatch(text) and math.isfinite(float(text)) else text


def _text(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def _encode(overrides: Sequence[str]) -> str:
    data = zlib.compress(json.dumps(list(overrides)).encode(), level=9)
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(packed: str) -> list[str]:
    try:
        data = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        return _texts(zlib.decompress(data))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise UserError(f"{PACKED_KEY}: is damaged: copy it whole from the job that it was taken from") from error


def _packed(packed: str | None, directory: Path | None) -> list[str]:
    if packed is None:
        return []
    named = _FILE.fullmatch(packed)
    if named is None:
        return _decode(packed)
    try:
        content = ((directory or Path()) / named[1]).read_bytes()
    except FileNotFoundError as error:
        raise UserError(
            f"{PACKED_KEY}: {named[1]} is not in the bundle: launch from the configuration again"
        ) from error
    if _digest(content) != named[2]:
        raise UserError(f"{PACKED_KEY}: {named[1]} was changed: launch from the configuration again")
    return _texts(content)


def _texts(content: bytes) -> list[str]:
    read = json.loads(content)
    if not isinstance(read, list) or not all(isinstance(text, str) for text in read):
        raise ValueError("not a list of texts")
    return read


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
