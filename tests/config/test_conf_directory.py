from __future__ import annotations

from pathlib import Path

import pytest

from tabstep.config import conf_directory


def test_installed_package_falls_back_on_its_own_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checkout = conf_directory.config_dir()
    monkeypatch.setattr(conf_directory, "__file__", str(tmp_path / "lib" / "tabstep" / "config" / "conf_directory.py"))
    assert conf_directory.config_dir() == tmp_path / "lib" / "tabstep" / "conf"
    assert (checkout / "train.yaml").is_file()
    assert checkout.name == "conf"
