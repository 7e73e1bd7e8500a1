from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from tabstep.launch.request import aws_facts as tables


@pytest.mark.parametrize("file", sorted(Path(tables.__file__).parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_table_is_a_mapping_that_is_read_once(file: Path) -> None:
    assert tables.table(file.stem)
    assert tables.table(file.stem) is tables.table(file.stem)


def test_dates_are_dates_and_versions_are_texts() -> None:
    rows = tables.table("images")["torch"]
    assert all(isinstance(version, str) for version in rows)
    assert all(isinstance(row["end_of_patch"], datetime.date) for row in rows.values())
    assert all(isinstance(account, str) for account in tables.table("images")["accounts"])


def test_a_file_that_is_no_mapping_is_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("- 1\n")
    assert tables.read_table(tmp_path / "x.yaml") == {}
