"""What ranks tell each other, over gloo between two processes, and alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tabstep.errors import RetryError, StoppedError, UserError
from tabstep.system.rank_exchange import Meeting
from tabstep.system.ranks import Ranks

WORK = """
import sys, warnings
warnings.simplefilter("error")
from tabstep.errors import UserError
from tabstep.system.rank_exchange import meeting
from tabstep.system.ranks import current_ranks
ranks = current_ranks()
with meeting(ranks) as meet:
    found = [
        meet.gathered(f"of {ranks.rank}"),
        meet.first(lambda: ranks.rank + 7),
        meet.of(1, lambda: ranks.rank + 7),
        list(meet.in_order({ranks.rank: "a" * (ranks.rank + 1), ranks.rank + 2: "b" * (ranks.rank + 1)}, [0, 1, 0, 1])),
    ]
    def fails():
        if ranks.rank == 1:
            raise UserError("data.train: is wrong on rank 1")
    try:
        meet.together(fails)
    except UserError as error:
        found.append(str(error))
print(f"rank {ranks.rank}: {found}")
"""


def test_one_rank_meets_itself() -> None:
    meet = Meeting(Ranks())
    assert meet.gathered(3) == [3]
    assert meet.first(lambda: "x") == "x"
    assert list(meet.in_order({1: "b", 0: "a"}, [0, 0])) == ["a", "b"]
    with pytest.raises(UserError, match="wrong"):
        meet.together(lambda: (_ for _ in ()).throw(UserError("wrong")))


@pytest.mark.parametrize(
    ("raised", "kind", "line"),
    [
        (
            RuntimeError("Connection closed by peer.\nmore"),
            RetryError,
            r"data.shards: a rank went away while train was read: Connection closed by peer$",
        ),
        (StoppedError("stopped by SIGTERM", 15), StoppedError, "stopped by SIGTERM"),
    ],
)
def test_a_rank_that_went_away_is_a_reason_to_try_again(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: type[Exception], line: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise raised

    for name in ("all_gather_object", "send_object_list", "recv_object_list"):
        monkeypatch.setattr(f"tabstep.system.rank_exchange.dist.{name}", fails)
    first, second = (Meeting(Ranks(rank=rank, world_size=2)) for rank in (0, 1))
    with pytest.raises(kind, match=line):
        first.gathered(1)
    for meet in (first, second):
        with pytest.raises(kind, match=line):
            list(meet.in_order({0: "a part", 1: "another"}, [1, 1]))


@pytest.mark.slow
def test_two_processes_tell_each_other_what_they_have() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "--no-python", sys.executable, "-c", WORK],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = "data.train: is wrong on rank 1"
    assert f"rank 0: {[['of 0', 'of 1'], 7, 8, ['a', 'aa', 'b', 'bb'], said]}" in done.stdout
    assert f"rank 1: {[['of 0', 'of 1'], 7, 8, [], said]}" in done.stdout
