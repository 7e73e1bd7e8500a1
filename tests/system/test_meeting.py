"""What ranks tell each other, over gloo between two processes, and alone."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import pytest
import torch.distributed as dist

from tabstep.errors import RetryError, UserError
from tabstep.system.meeting import Meeting, meeting
from tabstep.system.ranks import Ranks

WORK = """
import sys, warnings
warnings.simplefilter("error")
from tabstep.errors import UserError
from tabstep.system.meeting import meeting
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


def test_a_rank_that_went_away_is_a_reason_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=30))  # type: ignore[attr-defined]
    monkeypatch.setattr("tabstep.system.meeting.dist.init_process_group", lambda *_, **__: None)
    monkeypatch.setattr("tabstep.system.meeting.dist.destroy_process_group", lambda: None)
    monkeypatch.setattr("tabstep.system.meeting.open_store", lambda _: store)
    with (
        pytest.raises(RetryError, match=r"data.shards: a rank went away while train was read: Connection closed"),
        meeting(Ranks(world_size=2)),
    ):
        raise RuntimeError("Connection closed by peer.\nmore")


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
