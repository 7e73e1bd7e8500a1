from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import fs

from tabstep.errors import UserError
from tabstep.tables import locations
from tabstep.tables.locations import find_files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.parquet", "b/c.parq", "b/_d.parquet", ".e/f.parquet", "_SUCCESS", "notes.txt", "b/x/g.pq"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(location: str) -> list[str]:
    found = find_files(location, where="data.train")
    return [found.name(path) for path in found.paths]


def test_a_directory_is_searched_below_and_hidden_names_are_left_out(tree: Path) -> None:
    assert names(str(tree)) == ["a.parquet", "b/c.parq", "b/x/g.pq"]


def test_globs(tree: Path) -> None:
    assert names(f"{tree}/*.parquet") == ["a.parquet"]
    assert names(f"{tree}/b/*.p*") == ["c.parq"]
    assert names(f"{tree}/**/*.p*") == ["a.parquet", "b/c.parq", "b/x/g.pq"]


@pytest.mark.parametrize("pattern", ["*.parquet", "b/*.p*", "**/*.p*", "?/x/[fg].pq"])
def test_a_glob_means_the_same_on_another_file_system(
    tree: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = names(f"{tree}/{pattern}")
    remote = fs.SubTreeFileSystem(str(tree), fs.LocalFileSystem())
    monkeypatch.setattr(locations, "open_filesystem", lambda location: (remote, location))
    assert [name.split("/")[-1] for name in names(pattern)] == [name.split("/")[-1] for name in local]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("", "data.train: is empty: name a parquet file"),
        ("{tree}/a.parqet", "no such file or directory: .*did you mean 'a.parquet'"),
        ("{tree}/*.csv", r"no file matches .*\*\.csv"),
        ("nonsense://x/y", "cannot be opened as an address"),
    ],
)
def test_what_is_not_there(tree: Path, location: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_files(location.format(tree=tree), where="data.train")
