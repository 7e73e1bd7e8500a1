"""A train table whose files are spread over the machines of a run: they pass them on, so that each one has all.

SageMaker can give each instance its own part of a channel's objects (``ShardedByS3Key``), so that every object leaves
S3 once, however many instances there are. But one encoder is fitted on the whole table, and an epoch's order runs over
all of its rows. So the files are passed on before anything is read, over the network that the gradients take later.
What follows is, bit for bit, the run on the whole table.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from pyarrow.fs import LocalFileSystem

from tabstep.config.settings import DataSettings
from tabstep.errors import RetryError, UserError
from tabstep.system.cache import publish
from tabstep.system.ranks import Ranks, open_store
from tabstep.tables.file_digests import Contents
from tabstep.tables.locations import Location, entries, find_files, first_line, is_directory, is_remote
from tabstep.tables.splits import locate_splits

_CHUNK: Final = 2**24  # bytes
_DIGEST: Final = 16  # bytes
_PATIENCE: Final = timedelta(hours=24)
"""For all files of the other machines; a machine that dies is noticed at once."""


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """A file of one machine: its name below the table's directory, its bytes, and the digest of these."""

    name: str
    size: int
    digest: str


Shard = tuple[ShardFile, ...]
"""The files of one machine."""


def gather_shards(data: DataSettings, ranks: Ranks, cache_dir: Path, show: Callable[[str], None]) -> DataSettings:
    """Return settings whose train split is whole on this machine; every rank calls it.

    The files of this machine are linked, those of the others are copied, into a directory below ``cache_dir``.

    Raises:
        UserError: two machines have the same file, or train is not on the machines themselves.
        RetryError: a machine went away, or the disk is full.
    """
    if not data.sharded:
        return data
    given = data.train or data.path
    if ranks.num_nodes == 1 or given is None:
        show(f"data.sharded: has no effect {'on one machine' if given else 'on the built-in table'}")
        return data
    if is_remote(given):
        raise UserError(f"data.sharded: every machine can read {given} itself: set data.sharded=false")
    location = locate_splits(data.path, data.train, data.val, data.test)["train"]
    store = open_store(_PATIENCE)
    done = f"tabstep/shards/done/{ranks.node}"
    if ranks.local_rank == 0:
        # the other ranks of this machine wait for it below
        store.set(done, str(_exchange(location, ranks, cache_dir, store, show)))
    return replace(data, train=str(store.get(done), "utf-8"))


def merged(shards: Sequence[Shard]) -> list[tuple[int, ShardFile]]:
    """Return the files of all machines, each with the machine that has it.

    Raises:
        UserError: two machines have a file of one name, or none has a file.

    >>> a, b = (ShardFile(name=name, size=1, digest="") for name in ("a.parquet", "b.parquet"))
    >>> [(node, file.name) for node, file in merged([(b,), (), (a,)])]
    [(2, 'a.parquet'), (0, 'b.parquet')]
    """
    found = sorted(((node, file) for node, shard in enumerate(shards) for file in shard), key=lambda pair: pair[1].name)
    twice = [name for name, count in Counter(file.name for _, file in found).items() if count > 1]
    if twice:
        nodes = [str(node) for node, file in found if file.name == twice[0]]
        raise UserError(
            f"data.sharded: machines {' and '.join(nodes)} both have {twice[0]}: where every machine has all files, "
            "set data.sharded=false"
        )
    if not found:
        raise UserError(f"data.sharded: none of the {len(shards)} machines has a parquet file of data.train")
    return found


def _exchange(location: str, ranks: Ranks, cache_dir: Path, store: Any, show: Callable[[str], None]) -> Path:
    own = _own_files(location, cache_dir)
    texts = _told(store, "files", ranks, json.dumps([asdict(file) for _, file in own]))
    shards = [tuple(ShardFile(**each) for each in json.loads(text)) for text in texts]
    files = merged(shards)
    digest = hashlib.sha256(repr(files).encode()).hexdigest()[:16]
    target = cache_dir / f"shards-{digest}-{ranks.node}"  # machines may share a cache, and none may wait for another
    have = _is_intact(target, files, cache_dir)
    if set(_told(store, "have", ranks, str(have))) == {"True"}:
        return target
    show(f"data.sharded: {len(files)} files of {len(shards)} machines are passed on, {_megabytes(files)} in all")
    paths = {file.name: path for path, file in own}
    prefixed = dist.PrefixStore("tabstep/shards/gloo", store)  # type: ignore[attr-defined]
    # of gloo, for files lie in the memory of the CPU; the training has a group of its own later
    dist.init_process_group("gloo", store=prefixed, rank=ranks.node, world_size=ranks.num_nodes, timeout=_PATIENCE)
    try:
        # a broadcast needs every machine, those that have the files already too
        if have:
            _pass_on(files, paths, None)
        else:
            build = partial(_pass_on, files, paths)
            publish(target, build=build, load=lambda directory: _intact(directory, files, cache_dir))
    except RuntimeError as error:  # of gloo: a connection is gone
        raise RetryError(
            f"data.sharded: a machine went away while files were passed on: {first_line(error)}"
        ) from error
    finally:
        dist.destroy_process_group()
    return target


def _own_files(location: str, cache_dir: Path) -> list[tuple[Path, ShardFile]]:
    """Return this machine's files; a machine may have none, where there are fewer files than machines."""
    where = "data.train"
    if is_directory(location, where=where) and not entries(location, where=where):
        return []
    found = find_files(location, where=where)
    states = {path: found.state(path) for path in found.paths}
    digests = Contents(found, states, where=where, memory=cache_dir).digests
    return [
        (Path(path), ShardFile(name=found.name(path), size=state.size, digest=digest))
        for (path, state), digest in zip(states.items(), digests, strict=True)
    ]


def _told(store: Any, name: str, ranks: Ranks, text: str) -> list[str]:
    """Tell the other machines a text and return those of all."""
    store.set(f"tabstep/shards/{name}/{ranks.node}", text)
    return [str(store.get(f"tabstep/shards/{name}/{node}"), "utf-8") for node in range(ranks.num_nodes)]


def _intact(directory: Path, files: Sequence[tuple[int, ShardFile]], memory: Path) -> Path:
    """Return ``directory`` where it holds what the machines have; raise ``ValueError`` or ``OSError`` where not."""
    paths = tuple(str(directory / file.name) for _, file in files)
    location = Location(filesystem=LocalFileSystem(), base=str(directory), paths=paths)
    states = {path: location.state(path) for path in paths}
    if Contents(location, states, where="data.sharded", memory=memory).digests != tuple(f.digest for _, f in files):
        raise ValueError(f"{directory} has changed")
    return directory


def _is_intact(directory: Path, files: Sequence[tuple[int, ShardFile]], memory: Path) -> bool:
    try:
        return _intact(directory, files, memory) == directory
    except (OSError, ValueError):
        return False


def _megabytes(files: Sequence[tuple[int, ShardFile]]) -> str:
    return f"{sum(file.size for _, file in files) / 2**20:,.1f} MiB"


def _pass_on(files: Sequence[tuple[int, ShardFile]], own: dict[str, Path], directory: Path | None) -> None:
    """Send this machine's files to all others and write theirs; without a directory, theirs are let go."""
    for node, file in files:
        target = None if directory is None else directory / file.name
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
        if file.name in own:
            if target is not None:
                target.symlink_to(own[file.name].absolute())
            _send(_read(own[file.name], file), node)
        else:
            _receive(file, node, target)


def _read(path: Path, file: ShardFile) -> Iterator[bytes]:
    left = file.size
    # exactly what was announced: the others wait for so many bytes
    with open(path, "rb") as stream:
        while left:
            chunk = stream.read(min(_CHUNK, left))
            if not chunk:
                raise UserError(f"data.train: {path} became shorter while it was read: run again when it is complete")
            left -= len(chunk)
            yield chunk


def _send(chunks: Iterator[bytes], node: int) -> None:
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for chunk in chunks:
        digest.update(chunk)
        # a copy: torch warns of a buffer that cannot be written to
        dist.broadcast(torch.frombuffer(bytearray(chunk), dtype=torch.uint8), src=node)
    dist.broadcast(torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8), src=node)


def _receive(file: ShardFile, node: int, target: Path | None) -> None:
    digest = hashlib.blake2b(digest_size=_DIGEST)
    with open(os.devnull if target is None else target, "wb") as stream:
        for start in range(0, file.size, _CHUNK):
            chunk = _next(min(_CHUNK, file.size - start), node)
            digest.update(chunk)
            stream.write(chunk)
    if _next(_DIGEST, node) != digest.digest():
        raise RetryError(f"data.sharded: {file.name} of machine {node} was damaged on its way")


def _next(size: int, node: int) -> bytes:
    buffer = torch.empty(size, dtype=torch.uint8)
    dist.broadcast(buffer, src=node)
    return buffer.numpy().tobytes()
