"""What a worker of Ray tells the run: torchrun's variables, where to go on from, where it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("ray.train")

from tabstep.config.settings import PathSettings, Settings
from tabstep.errors import UserError
from tabstep.run import ray_rank as module
from tabstep.run.ray_rank import Place, resumed
from tabstep.system.locks import exclusive
from tabstep.system.ranks import current_ranks


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (Place(rank=0, world_size=1, local_rank=0, local_world_size=1, node=0), (0, 1, 1, 0, 0)),
        (Place(rank=3, world_size=4, local_rank=1, local_world_size=2, node=1), (3, 4, 2, 1, 1)),
    ],
)
def test_a_worker_looks_like_a_rank_of_torchrun(
    place: Place, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.variables("10.0.0.1", 29400, "run").items():
        monkeypatch.setenv(name, value)
    ranks = current_ranks()
    assert ranks.launched
    assert (ranks.rank, ranks.world_size, ranks.num_nodes, ranks.node, ranks.local_rank) == expected
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("10.0.0.1", "29400")


@pytest.mark.parametrize(
    "place",
    [
        Place(rank=3, world_size=4, local_rank=0, local_world_size=1, node=1),
        Place(rank=2, world_size=4, local_rank=2, local_world_size=3, node=0),
    ],
)
def test_machines_with_different_numbers_of_workers_are_refused(place: Place) -> None:
    with pytest.raises(
        UserError, match=r"^launch.workers=4: machine \d has \d of them, and each one must have as many"
    ):
        place.variables("10.0.0.1", 29400, "run")


@pytest.mark.parametrize("asked", ["auto", "never", "must", "elsewhere/last-00000001.ckpt"])
def test_a_group_that_is_started_again_goes_on_from_what_the_first_one_left(asked: str, tmp_path: Path) -> None:
    paths = PathSettings(output_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    settings = Settings(paths=paths, resume=asked)
    assert resumed(settings, set()) == asked
    paths.checkpoints.mkdir()
    earlier = paths.checkpoints / "last-00000007.ckpt"
    earlier.touch()
    before = {f"{earlier.name} {earlier.stat().st_mtime_ns}"}
    assert resumed(settings, before) == asked
    (paths.checkpoints / "last-00000008.ckpt").touch()
    assert resumed(settings, before) == "auto"


def test_relative_paths_mean_what_they_do_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    paths = PathSettings(output_dir=str(tmp_path), cache_dir="cache")
    module._enter(str(tmp_path), paths)
    assert Path.cwd() == tmp_path
    with pytest.raises(UserError, match=r"^launch=ray: .* has no directory .*/away: give the command where all"):
        module._enter(str(tmp_path / "away"), paths)


def test_a_worker_that_ends_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with exclusive(tmp_path):
        slept: list[float] = []
        monkeypatch.setattr(module.time, "sleep", slept.append)
        ticks = iter(range(1000))
        monkeypatch.setattr(module.time, "monotonic", lambda: float(next(ticks)) * 10)
        with pytest.raises(UserError, match="another run is writing"):
            module._wait_until_free(tmp_path)
    assert len(slept) == module.PATIENCE / 10
    module._wait_until_free(tmp_path)


def test_the_lines_of_the_first_rank_go_to_the_files_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = [str(tmp_path / "output.log"), str(tmp_path / "errors.log")]
    with module._shown(logs, 0):
        print("epoch 1")
    with module._shown(logs, 1):
        print("of another rank")
    assert (tmp_path / "output.log").read_text() == "epoch 1\n"
    assert capsys.readouterr().out == "of another rank\n"
